"""How a page begins, before anything is known to be installed, and its tables, in Markdown."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from IPython.display import Markdown
from packaging.requirements import InvalidRequirement, Requirement

if TYPE_CHECKING:
    from mtl_helpers import History

SHOWN = ("torch", "transformers", "sentence-transformers", "scikit-learn", "numpy")


# The first cell


def set_up() -> str:
    """Install what is missing, print versions, and return where to compute: see `device`.

    Raises:
        OSError: if something is missing and pip cannot install it.
    """
    text = Path(__file__).parent.with_name("requirements.txt").read_text(encoding="utf-8")
    wanted = [Requirement(line) for line in text.splitlines() if not line.startswith("#")]
    install([one for one in wanted if version(one.name) is None])
    for one in wanted:
        found = version(one.name)
        old = found and not one.specifier.contains(found, prereleases=True)
        if old or one.name in SHOWN:
            print(f"{one.name:22} {found}{f', tested from {one.specifier} on' if old else ''}")
    chosen, named = device()
    print(f"{'device':22} {named}")
    return chosen


def version(name: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def install(missing: Sequence[Requirement]) -> None:
    """Install packages with pip, which may change none that is there."""
    if not missing:
        return
    there = set()
    for found in metadata.distributions():
        with suppress(InvalidRequirement):  # an odd version is none that pip would touch
            there.add(str(Requirement(f"{found.name}=={found.version}")))
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join(there), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "-c", str(constraints)]
        done = subprocess.run([*command, *map(str, missing)], capture_output=True, text=True)
    if done.returncode:
        names = " ".join(one.name for one in missing)
        raise OSError(f"{names} must be installed, and pip could not do it: connect to the "
                      f"internet and run this cell again, or install by hand. pip says: "
                      f"{done.stderr.strip()[-300:]}")
    importlib.invalidate_caches()


def device() -> tuple[str, str]:
    """Where a page computes, "cuda", "mps" or "cpu", and that in words.

    The variable MTL_HELPERS_DEVICE chooses; without it, a GPU is taken where there is one.
    """
    import torch

    chosen = os.environ.get("MTL_HELPERS_DEVICE", "")
    if not chosen:
        chosen = "mps" if torch.backends.mps.is_available() else "cpu"
        chosen = "cuda" if torch.cuda.is_available() else chosen
    if chosen == "cuda":
        return chosen, f"cuda, {torch.cuda.get_device_name()}"
    if chosen == "mps":
        return chosen, "mps, Apple's GPU"
    count = torch.get_num_threads()
    return chosen, f"cpu, {count} thread{'s' * (count > 1)}"


# Tables


def table(columns: Sequence[object], rows: Iterable[Sequence[object]], text: int = 1) -> str:
    """A Markdown table; the first `text` columns are text, the others are aligned to the right.

    A cell that is None does not apply.
    """
    rule = "|" + "---|" * text + "---:|" * (len(columns) - text)
    return "\n".join([line(columns), rule, *map(line, rows)])


def line(cells: Sequence[object]) -> str:
    return "".join("| " if cell is None else f"| {cell} " for cell in cells) + "|"


def show(columns: Sequence[str], rows: Iterable[Sequence[object]], decimals: int = 1,
         text: int = 1) -> Markdown:
    """A table that a notebook draws; a cell's last expression.

    Args:
        columns: names of the columns.
        rows: their cells: text, numbers or None. A float gets `decimals` digits, an int its
            commas.
        text: how many of the first columns are aligned to the left.
    """
    return Markdown(table(columns, [[shown(cell, decimals) for cell in row] for row in rows],
                          text))


def shown(cell: object, decimals: int = 1) -> object:
    """A number as a table shows it, with a minus sign that no line breaks behind."""
    if isinstance(cell, float):
        return f"{cell:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else cell


def listing(function: Callable[..., object]) -> str:
    """The source of a function without its docstring, as its file has it."""
    source = textwrap.dedent(inspect.getsource(function))
    (definition,) = ast.parse(source).body
    lines = source.rstrip().splitlines()
    if isinstance(definition, ast.FunctionDef) and ast.get_docstring(definition) is not None:
        told = definition.body[0]
        del lines[told.lineno - 1 : told.end_lineno]
    return "\n".join(lines)


def schedule_table(history: History) -> str:
    """What a run has really seen: steps, sentences and labels by task."""
    steps, sentences, labels = Counter[str](), Counter[str](), Counter[str]()
    for row in history.steps:
        labels.update(row["labels"], all=sum(row["labels"].values()))
        for task in (*row["labels"], "all"):
            steps[task] += 1
            sentences[task] += row["sentences"]
    tasks = [*(task for task in steps if task != "all"), "all"]
    return table(("task", "steps", "sentences", "labels"),
                 [(task, f"{steps[task]:,}", f"{sentences[task]:,}", f"{labels[task]:,}")
                  for task in tasks])
