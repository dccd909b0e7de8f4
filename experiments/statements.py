"""Statements: phrases of the pages, and whether the records bear them out.

A page that says something of the records in words has a module here, `statements_PAGE`, whose
SECTIONS are functions that give pairs: a phrase as it stands on the page, and whether it holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import nbformat
import numpy as np

from experiments.analysis import Estimate
from experiments.records import RESULTS

ROOT = RESULTS.parent
Pairs = list[tuple[str, bool]]
Section = Callable[[], Pairs]


def ahead(found: Estimate) -> bool:
    """Whether a gain is above 0 by more than its interval."""
    return found.value > found.margin


def behind(found: Estimate) -> bool:
    """Whether a gain is below 0 by more than its interval."""
    return found.value < -found.margin


def level(found: Estimate) -> bool:
    """Whether 0 lies in the interval of a gain: no measurable difference."""
    return abs(found.value) < found.margin


def apart(one: Estimate, other: Estimate) -> bool:
    """Whether two independent estimates differ by more than the interval of the difference."""
    return abs(one.value - other.value) > np.hypot(one.margin, other.margin)


def modules() -> list[ModuleType]:
    """The module of each page that has one, in the order of their names."""
    paths = sorted(Path(__file__).parent.glob("statements_*.py"))
    return [import_module(f"experiments.{path.stem}") for path in paths]


def prose(page: Path) -> str:
    """The text of a page, a notebook's Markdown cells alone, with single spaces."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"\s+", " ", text)  # no-break spaces too


def check() -> None:
    """Refuse every phrase that is not on its page or does not hold."""
    wrong = []
    for module in modules():
        page = prose(module.PAGE)
        for section in module.SECTIONS:
            for phrase, holds in section():
                if re.sub(r"\s+", " ", phrase) not in page:
                    wrong.append(f"not on {module.PAGE.name}: {phrase}")
                if not holds:
                    wrong.append(f"does not hold: {phrase}")
    if wrong:
        raise AssertionError("\n".join(wrong))
    print("all statements hold")
