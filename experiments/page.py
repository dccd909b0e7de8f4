"""Tables of the pages, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mtl_helpers import History


def table(columns: Sequence[object], rows: Iterable[Sequence[object]], text: int = 1) -> str:
    """A Markdown table; the first `text` columns are text, the others are aligned to the right.

    A cell that is None does not apply.
    """
    rule = "|" + "---|" * text + "---:|" * (len(columns) - text)
    return "\n".join([line(columns), rule, *map(line, rows)])


def line(cells: Sequence[object]) -> str:
    return "".join("| " if cell is None else f"| {cell} " for cell in cells) + "|"


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
