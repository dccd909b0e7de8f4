"""Tables of the pages, in Markdown."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from IPython.display import Markdown

from mtl_helpers import History


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
