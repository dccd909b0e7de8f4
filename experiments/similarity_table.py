"""What classification does to similarity and what keeps it, from the records of the study.

    python -m experiments.similarity_table
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from experiments import page
from experiments.analysis import seed_margin
from experiments.compare_encoders import LABELS
from experiments.similarity import ARMS, records

COLUMNS = ("", "STS-B", "genre", "sentiment", "neighbours kept", "separation")
BEFORE, SORTING, KEEPING = "published", "base", "kept-1"  # arms that the page compares
INSTEAD = ("cosines", "l2-sp", "average")  # what was tried in the place of SimilarityHead
KEPT = "kept-"  # arms with a SimilarityHead begin so, and end with its weight


def values(arm: str) -> dict[str, list[float]]:
    """What the runs of an arm measured, by column, in points of 100 but for the separation.

    STS-B is Spearman's correlation on the pairs that report, genre and sentiment are macro-F1;
    a list is empty where nothing was measured.
    """
    made = [row for row in records() if row["config"]["arm"] == arm]
    trained = [row for row in made if "test" in row]
    found = {"STS-B": [100 * row["stsb"]["reporting"] for row in made]}
    for task in LABELS:
        found[task] = [100 * row["test"][task]["macro_f1"] for row in trained]
    found["neighbours kept"] = [100 * row["neighbours_kept"] for row in made]
    found["separation"] = [row["separation"] for row in made]
    return found


def recorded() -> Iterator[tuple[str, str]]:
    """The arms that have a record, and how a table names them."""
    for setting, seeds, label in ARMS:
        runs = len(values(setting.arm)["STS-B"])
        if runs:
            yield setting.arm, label if runs == seeds else f"{label} ({runs} of {seeds} seeds)"


def cell(numbers: list[float], digits: int) -> str:
    """The mean of the runs and, of several, half of Student's 95 % interval over seeds."""
    if not numbers:
        return ""
    mean, margin = np.mean(numbers), seed_margin(np.array(numbers))
    error = f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{margin:.{digits}f}" if len(numbers) > 1 else ""
    return f"{mean:.{digits}f}{error}"


def table(arms: Sequence[str] | None = None, columns: Sequence[str] = COLUMNS) -> str:
    """A row for each of some arms that has a record, or for every one."""
    rows = []
    for arm, label in recorded():
        if arms is None or arm in arms:
            found = values(arm)
            cells = [cell(found[name], 2 if name == "separation" else 1) for name in columns[1:]]
            rows.append((label, *cells))
    return page.table(columns, rows)


def kept() -> list[str]:
    """The arms with a SimilarityHead that have a record, the lowest weight first."""
    found = [arm for arm, _ in recorded() if arm.startswith(KEPT)]
    return sorted(found, key=lambda arm: float(arm.removeprefix(KEPT)))


def scored(arm: str) -> tuple[float, float]:
    """Mean macro-F1 of both tasks and STS-B of an arm, means over its seeds, in points."""
    found = values(arm)
    return float(np.mean([found[task] for task in LABELS])), float(np.mean(found["STS-B"]))


if __name__ == "__main__":
    print(table())
