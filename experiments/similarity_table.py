"""The table of what classification does to similarity, from its records.

    python -m experiments.similarity_table
"""

from __future__ import annotations

import numpy as np

from experiments import page
from experiments.analysis import seed_margin
from experiments.compare_encoders import LABELS
from experiments.similarity import ARMS, records


def cell(values: list[float], digits: int) -> str:
    """The mean of the runs and, of several, half of Student's 95 % interval over seeds."""
    if not values:
        return ""
    mean, margin = np.mean(values), seed_margin(np.array(values))
    return f"{mean:.{digits}f}" + (f" ± {margin:.{digits}f}" if len(values) > 1 else "")


def table() -> str:
    """A row for each arm that has a record, in points of 100 but for the separation.

    STS-B is Spearman's correlation on the pairs that report, genre and sentiment are macro-F1.
    """
    rows, made = [], records()
    for setting, seeds, label in ARMS:
        runs = [row for row in made if row["config"]["arm"] == setting.arm]
        if not runs:
            continue
        name = label if len(runs) == seeds else f"{label} ({len(runs)} of {seeds} seeds)"
        cells = [name, cell([100 * row["stsb"]["reporting"] for row in runs], 1)]
        for task in LABELS:
            trained = [row for row in runs if "test" in row]
            cells.append(cell([100 * row["test"][task]["macro_f1"] for row in trained], 1))
        cells.append(cell([100 * row["neighbours_kept"] for row in runs], 1))
        cells.append(cell([row["separation"] for row in runs], 2))
        rows.append(cells)
    return page.table((None, "STS-B", "genre", "sentiment", "neighbours kept", "separation"), rows)


if __name__ == "__main__":
    print(table())
