"""History: what happened in a training run, a row for each step and each epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class History:
    """Losses and scores of a run, ready to plot.

    A step has "step" and "epoch" (from 1), "sentences", "labels" and "loss" by task (mean by
    label), "gradient_norm" (before clipping) and "rate" (of the first group of parameters). An
    epoch, or what `validate_every` has in its place, has "epoch", "step", "loss" by task (mean by
    label since the one before), "validation" ({task: {metric: value}}) and "score", by which
    weights are selected.
    """
    config: dict[str, Any]
    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_step: int | None = None  # the step whose weights were kept; None: the last one

    def losses(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and losses, (S,) each, of the S steps that had labels of the task."""
        rows = [row for row in self.steps if task in row["loss"]]
        return (np.array([row["step"] for row in rows]),
                np.array([row["loss"][task] for row in rows]))

    def mean_losses(self) -> dict[str, float]:
        """Mean loss of each task over the labels seen since the last row of `epochs`."""
        rows = self.steps[self.epochs[-1]["step"] if self.epochs else 0 :]
        tasks = dict.fromkeys(task for row in rows for task in row["labels"])
        seen = {task: [(row["labels"][task], row["loss"][task]) for row in rows
                       if task in row["labels"]] for task in tasks}
        return {task: sum(n * loss for n, loss in pairs) / sum(n for n, _ in pairs)
                for task, pairs in seen.items()}

    def schedule_table(self) -> str:
        """Return a Markdown table of what was really seen: steps, sentences and labels by task."""
        lines = ["| task | steps | sentences | labels |", "|---|---:|---:|---:|"]
        for task in dict.fromkeys(task for row in self.steps for task in row["labels"]):
            rows = [row for row in self.steps if task in row["labels"]]
            lines.append(f"| {task} | {len(rows):,} | {sum(row['sentences'] for row in rows):,} "
                         f"| {sum(row['labels'][task] for row in rows):,} |")
        sentences = sum(row["sentences"] for row in self.steps)
        labels = sum(sum(row["labels"].values()) for row in self.steps)
        return "\n".join([*lines, f"| all | {len(self.steps):,} | {sentences:,} | {labels:,} |"])


def epoch_line(row: Mapping[str, Any]) -> str:
    """An epoch in a line: losses, and how validation went."""
    parts = [f"epoch {row['epoch']}, step {row['step']}:  loss"]
    parts += [f"{task} {loss:.3f}" for task, loss in row["loss"].items()]
    for task, metrics in row["validation"].items():
        name, label = ("macro_f1", "F1") if "macro_f1" in metrics else ("pearson", "r")
        parts.append(f" {task} {label} {metrics[name]:.3f}")
    return " ".join(parts)
