"""The figures of Task_4.ipynb. Each function draws one figure and returns it, not shown."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import MaxNLocator

from experiments import similarity_table, task_4
from experiments.analysis import gain, score
from experiments.calibration import Reliability
from experiments.figures import (
    COLOURS,
    DASHES,
    HATCHES,
    NotebookFigure,
    legend_above,
    new_figure,
    style,
    turned,
)
from experiments.statements import level
from experiments.train import LABELS, RATES

MANY = 6  # confusion matrices of more classes stand alone, without numbers


# Live runs


def plot_schedule(schedules: Mapping[str, Sequence[tuple[str, ...]]], title: str,
                  notes: Mapping[str, str] | None = None) -> Figure:
    """The tasks of each step, {name: [tasks, ...]}; the cell of a joint batch is divided.

    `notes` has a few words for the end of a row.
    """
    figure, ((axis,),) = new_figure(height=0.42 * len(schedules) + 1.3, title=title)
    bars: dict[str, list[tuple[int, float, float]]] = {}  # {task: (step, edge, height) each}
    for row, steps in enumerate(schedules.values()):
        for step, tasks in enumerate(steps, start=1):
            if isinstance(tasks, str):
                raise TypeError(f"each step must have a tuple of tasks, got {tasks!r}")
            for part, task in enumerate(tasks):
                edge = row - 0.4 + 0.8 * part / len(tasks)
                bars.setdefault(task, []).append((step, edge, 0.8 / len(tasks)))
    for index, (task, drawn) in enumerate(bars.items()):
        places, edges, heights = zip(*drawn, strict=True)
        axis.bar(places, heights, 1.0, edges, color=style(index)["color"],
                 hatch=HATCHES[turned(index)], edgecolor="white", linewidth=0.8, label=task)
    for row, (name, steps) in enumerate(schedules.items()):
        axis.annotate((notes or {}).get(name, ""), (len(steps) + 0.8, row), fontsize=8,
                      va="center", annotation_clip=False)
    axis.set_yticks(range(len(schedules)), list(schedules), fontsize=8)
    axis.set_ylim(len(schedules) - 0.5, -0.5)  # the first schedule at the top
    longest = max(map(len, schedules.values()))
    axis.set(xlim=(0.5, (1.45 if notes else 1.0) * longest + 0.5), xlabel="step")
    axis.set_xticks(range(5, longest + 1, 5) if longest >= 5 else range(1, longest + 1))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    legend_above(axis, 4)
    return figure


def plot_losses(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str,
                smooth: int = 20, best: Mapping[str, float] | None = None) -> Figure:
    """The training loss of each task: {task: (steps (S,), losses (S,))}.

    A faint line has every step, a thick one the mean of `smooth` steps, which stands at their
    middle. `best` is {task: least loss that can be expected}, drawn as broken lines.
    """
    figure, ((axis,),) = new_figure(height=3.4, title=title)
    for index, (task, (steps, losses)) in enumerate(curves.items()):
        colour, n = style(index)["color"], min(smooth, len(steps))
        means = [np.convolve(values, np.full(n, 1 / n), "valid") for values in (steps, losses)]
        axis.plot(steps, losses, color=colour, alpha=0.25, linewidth=0.7)
        axis.plot(*means, label=f"{task}, mean of {n} steps", markersize=4, markevery=0.1,
                  linewidth=1.6, **style(index))
        if best and task in best:
            axis.axhline(best[task], label=f"{task}, best possible {best[task]:.2f}",
                         color=colour, linestyle=DASHES[index % 3], linewidth=1.4)
    low = 0.75 * min(best.values()) if best else 0
    axis.set(ylim=(low, None), xlabel="step", ylabel="cross-entropy (nats)")
    legend_above(axis, 2)
    return figure


def plot_confusions(matrices: Mapping[str, tuple[np.ndarray, Sequence[str]]],
                    title: str) -> Figure:
    """Confusion matrices: {name: (counts (K, K), K class names)}.

    A row is a true class, a column a predicted one. The brightness is the share of the row.
    """
    many = max(len(labels) for _, labels in matrices.values()) > MANY
    columns, height = (1, 6.0) if many else (min(len(matrices), 2), 3.9)
    figure, axes = new_figure(math.ceil(len(matrices) / columns), columns, height, title)
    for axis in axes.flat[len(matrices):]:
        axis.remove()
    for axis, (name, (counts, labels)) in zip(axes.flat, matrices.items(), strict=False):
        if np.shape(counts) != (len(labels), len(labels)):
            raise ValueError(f"{name!r} has {len(labels)} classes, got {np.shape(counts)}")
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # (K, K)
        axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
        for row, column in np.ndindex((0, 0) if many else shares.shape):
            axis.text(column, row, f"{counts[row, column]:,}\n{shares[row, column]:.0%}",
                      ha="center", va="center", fontsize=8,
                      color="black" if shares[row, column] > 0.6 else "white")
        names = labels if many else [textwrap.fill(label, 10) for label in labels]
        axis.set_xticks(range(len(labels)), names, fontsize=8, rotation=90 if many else 0)
        axis.set_yticks(range(len(labels)), names, fontsize=8)
        axis.set_xlabel("predicted", fontsize=8)
        axis.set_ylabel("true (% of the row)", fontsize=8)
        axis.set_title(name, fontsize=9)
    return figure


def plot_reliability(curves: Mapping[str, Reliability], title: str) -> Figure:
    """Accuracy against confidence, {name: what `reliability` returns}, over the bins' sizes."""
    figure = NotebookFigure(figsize=(5.4, 4.8), dpi=100, layout="constrained")
    grid = GridSpec(2, 1, figure, height_ratios=(3, 1))
    above = figure.add_subplot(grid[0])
    below = figure.add_subplot(grid[1], sharex=above)
    above.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1)
    above.annotate("calibrated", (0.5, 0.5), fontsize=8, xytext=(-6, 12), ha="right",
                   textcoords="offset points")
    lowest = min(np.nanmin(curve[2:]) for curve in curves.values())
    width = 0.08 / len(curves)
    for index, (name, curve) in enumerate(curves.items()):
        filled = curve.counts > 0
        above.plot(curve.confidence[filled], curve.accuracy[filled], linewidth=1.6,
                   markersize=6, label=name, **style(index))
        middles = (curve.edges[:-1] + curve.edges[1:]) / 2
        below.bar(middles + width * (index - (len(curves) - 1) / 2), curve.counts, width,
                  color=style(index)["color"], hatch=HATCHES[turned(index)], edgecolor="white")
    low = max(0.0, lowest - 0.05)
    above.set(xlim=(low, 1.02), ylim=(low, 1.02), ylabel="share that is right")
    below.set(xlabel="confidence of the model", ylabel="sentences")
    legend_above(above, 2)
    for axis in (above, below):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="0.9")
        axis.set_axisbelow(True)
    figure.suptitle(title, fontsize=11)
    return figure


# Records


def plot_ladder(title: str) -> Figure:
    """Macro-F1 of the baselines, of the trained encoder, and of one human, in points."""
    figure, axes = new_figure(1, 2, height=2.9, title=title)
    rungs = [*task_4.BASELINES, "trained encoder", "one human rater"]
    for axis, task in zip(axes.flat, LABELS, strict=True):
        for place, rung in enumerate(rungs):
            value, error, colour = _rung(task, rung)
            if value:
                axis.barh(place, value, color=colour, xerr=error or None, capsize=2)
                axis.annotate(f"{value:.1f}", (value + (error or 0), place), fontsize=8,
                              va="center", xytext=(4, 0), textcoords="offset points")
        axis.set_yticks(range(len(rungs)), rungs if axis is axes[0, 0] else [""] * len(rungs),
                        fontsize=8)
        axis.set(xlim=(0, 112), ylim=(len(rungs) - 0.4, -0.6))
        axis.set_xticks(range(0, 101, 20))
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("macro-F1, points of 100", fontsize=8)
        axis.tick_params(labelsize=8)
    return figure


def _rung(task: str, rung: str) -> tuple[float | None, float | None, str]:
    """Score, half of its interval and colour of a rung; None where it lacks the task."""
    if rung == "trained encoder":
        found = score("arms", task, task)
        return 100 * found.value, 100 * found.margin, COLOURS[1]
    if rung == "one human rater":
        return (100 * task_4.human() if task == "sentiment" else None), None, COLOURS[2]
    there = task_4.baseline(task, task_4.BASELINES[rung])
    if there is None:
        return None, None, COLOURS[0]
    return 100 * there.value, 100 * there.margin, COLOURS[0]


def plot_gains(title: str) -> Figure:
    """What the other task adds to a task, in points; a hollow mark has 0 in its interval."""
    rows = task_4.compared()
    figure, axes = new_figure(1, 2, height=3.3, title=title)
    for axis, task in zip(axes.flat, LABELS, strict=True):
        axis.axvline(0, color="black", linewidth=1)
        for place, pairs in enumerate(rows.values()):
            found = gain(task, *pairs[task])
            face = "white" if level(found) else COLOURS[0]
            axis.errorbar(100 * found.value, place, xerr=100 * found.margin, fmt="o",
                          color=COLOURS[0], markerfacecolor=face, markersize=6, capsize=3)
        axis.set_yticks(range(len(rows)), list(rows) if axis is axes[0, 0] else [""] * len(rows),
                        fontsize=8)
        axis.set(ylim=(len(rows) - 0.5, -0.5), xlim=(-4.2, 2.2))
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("gain in macro-F1, points of 100", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
    return figure


def plot_rates(title: str) -> Figure:
    """Validation macro-F1 by the encoder's learning rate, seed 0, for three ways to train."""
    figure, axes = new_figure(1, 2, height=3.0, title=title)
    places = np.arange(len(RATES))
    for axis, task in zip(axes.flat, LABELS, strict=True):
        for index, how in enumerate(("alone", "joint", "alternating")):
            values = task_4.sweep(how, task)
            axis.plot(places, values, linewidth=1.6, markersize=5, **style(index))
            axis.annotate(how, (places[-1], values[-1]), fontsize=8, va="center",
                          xytext=(8, 0), textcoords="offset points")
        axis.set_xticks(places, [f"{rate:.0e}".replace("e-0", "e-") for rate in RATES])
        axis.set_xlim(-0.2, len(RATES) - 0.2)
        axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("learning rate of the encoder", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_ylabel("validation macro-F1, points", fontsize=8)
    return figure


def mark(axis: Axes, x: float, y: float, text: str, left: bool = False, **look: str) -> None:
    """A point with its name beside it, on the right or on the left."""
    axis.plot(x, y, markersize=7, linestyle="none", **look)
    axis.annotate(text, (x, y), fontsize=8, xytext=(-8, 0) if left else (8, 6), va="center",
                  textcoords="offset points", ha="right" if left else "left")


def plot_similarity(title: str) -> Figure:
    """STS-B against the mean macro-F1 of both tasks, a mark for each way of training.

    A line joins the arms with a SimilarityHead, from none over its weights.
    """
    figure, ((axis,),) = new_figure(height=3.8, title=title)
    before = float(np.mean(similarity_table.values(similarity_table.BEFORE)["STS-B"]))
    axis.axhline(before, color="black", linestyle="--", linewidth=1)
    axis.annotate("the encoder as it came", (0.01, before), fontsize=8, va="bottom",
                  xycoords=("axes fraction", "data"))
    for arm, label in similarity_table.recorded():
        other = arm.startswith(("layers", "rate", *similarity_table.INSTEAD))
        if other and similarity_table.values(arm)["genre"]:
            name = label.split(" (")[0]  # without its seeds
            single = len(similarity_table.values(arm)["genre"]) == 1
            mark(axis, *similarity_table.scored(arm), name, left=arm != "l2-sp",
                 color=COLOURS[1], marker="s", fillstyle="none" if single else "full")
    path = [similarity_table.SORTING, *similarity_table.kept()]
    path = [arm for arm in path if similarity_table.values(arm)["genre"]]
    places = np.array([similarity_table.scored(arm) for arm in path]).reshape(-1, 2)  # (K, 2)
    axis.plot(*places.T, color=COLOURS[0], linewidth=1.4)
    for arm, (x, y) in zip(path, places, strict=True):
        weight = arm.removeprefix(similarity_table.KEPT)
        name = "sorting alone" if arm == similarity_table.SORTING else f"weight {weight}"
        mark(axis, x, y, name, color=COLOURS[0], marker="o")
    axis.set(xlabel="mean macro-F1 of genre and sentiment, points of 100",
             ylabel="STS-B, 100 times Spearman's correlation")
    axis.margins(x=0.25, y=0.12)
    axis.grid(color="0.9")
    axis.set_axisbelow(True)
    return figure
