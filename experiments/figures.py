"""The figures of the documents. Each function draws one figure and returns it, not shown."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442",
           "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "////", "...", "xxx", "---", "\\\\\\\\", "ooo", "+++")
DASHES = ("--", ":", "-.")
MANY = 6  # confusion matrices of more classes stand alone, without numbers


def turned(index: int) -> int:
    """Which of 8 markers or hatches goes with colour index % 8, so that 64 classes differ."""
    return (index + index // 8) % 8


def style(index: int) -> dict[str, str]:
    """Colour and marker of a class or curve, however many there are."""
    return {"color": COLOURS[index % 8], "marker": MARKERS[turned(index)]}


class NotebookFigure(Figure):
    """A figure that a notebook draws when a cell ends with it, with or without pyplot."""

    def _repr_png_(self) -> bytes:
        drawn, small = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png")
        colours = Image.open(drawn).convert("RGB").quantize(128, Image.Quantize.FASTOCTREE)
        colours.save(small, "png", optimize=True)
        return small.getvalue()  # 128 colours: a third of the bytes, and pages stay small


def new_figure(rows: int = 1, columns: int = 1, height: float = 3.4,
               title: str = "") -> tuple[Figure, np.ndarray]:
    """An empty figure, 7.2 inches wide, `height` a row, and its axes (rows, columns)."""
    figure = NotebookFigure(figsize=(7.2, height * rows), dpi=100, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure, axes


def legend_above(axis: Axes, columns: int) -> None:
    """Put the legend of an axis above it."""
    axis.legend(fontsize=8, ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0),
                frameon=False)


def scatter_classes(axis: Axes, points: np.ndarray, ids: np.ndarray,
                    labels: Sequence[str]) -> None:
    """Draw points (N, 2) in the colour and marker of their class ids (N,)."""
    order = np.random.default_rng(0).permutation(len(points))
    for part in np.array_split(order, 20):  # in turn, so that no class covers the others
        for index in range(len(labels)):
            chosen = part[ids[part] == index]
            axis.scatter(points[chosen, 0], points[chosen, 1], s=7, alpha=0.65, linewidths=0,
                         **style(index))
    for index, label in enumerate(labels):
        axis.scatter([], [], s=7, label=label, **style(index))
    axis.set(xticks=[], yticks=[])


def plot_maps(maps: Sequence[Sequence[tuple[str, np.ndarray, np.ndarray, Sequence[str]]]],
              title: str, axis_name: str) -> Figure:
    """A grid of maps: rows of (title, points (N, 2), class ids (N,), class names).

    `axis_name` says what the two coordinates are, such as "principal component".
    """
    figure, axes = new_figure(len(maps), len(maps[0]), height=2.9, title=title)
    for row, panels in zip(axes, maps, strict=True):
        legends = {}  # one for each set of names in a row, in its last panel
        for axis, (name, points, ids, labels) in zip(row, panels, strict=True):
            scatter_classes(axis, points, ids, labels)
            axis.set_title(name, fontsize=9)
            axis.set_xlabel(f"{axis_name} 1", fontsize=8)
            axis.set_ylabel(f"{axis_name} 2", fontsize=8)
            legends[tuple(labels)] = axis
        for labels, axis in legends.items():
            low, high = axis.get_ylim()
            room = 0.125 * math.ceil(len(labels) / 2)  # for the legend, below the points
            axis.set_ylim(low - room * (high - low), high)
            axis.legend(fontsize=7, markerscale=2, loc="lower center", ncols=2, frameon=False)
    return figure


def plot_pairs(cosines: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """Cosines of sentence pairs: {model: {kind of pair: values}}; a bar marks each mean."""
    kinds = list(next(iter(cosines.values())))
    figure, ((axis,),) = new_figure(height=3.6, title=title)
    width = 0.8 / len(kinds)
    for position, found in enumerate(cosines.values()):
        for index, kind in enumerate(kinds):
            x = position + (index - (len(kinds) - 1) / 2) * width
            axis.scatter([x] * len(found[kind]), found[kind], s=14, alpha=0.6, linewidths=0,
                         label=None if position else kind, **style(index))
            axis.hlines(np.mean(found[kind]), x - width / 2.4, x + width / 2.4,
                        color=style(index)["color"], linewidth=2.5)
    axis.set_xticks(range(len(cosines)), list(cosines), fontsize=8)
    axis.set(ylim=(None, 1.02), ylabel="cosine of the two sentences")
    legend_above(axis, min(len(kinds), 5))
    return figure


def plot_schedule(schedules: Mapping[str, Sequence[tuple[str, ...]]], title: str) -> Figure:
    """The tasks of each step, {name: [tasks, ...]}; the cell of a joint batch is divided."""
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
    axis.set_yticks(range(len(schedules)), list(schedules), fontsize=8)
    axis.set_ylim(len(schedules) - 0.5, -0.5)  # the first schedule at the top
    axis.set(xlim=(0.5, max(map(len, schedules.values())) + 0.5), xlabel="step")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    legend_above(axis, 4)
    return figure


def plot_losses(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str,
                smooth: int = 20, floors: Mapping[str, float] | None = None) -> Figure:
    """The training loss of each task: {task: (steps (S,), losses (S,))}.

    A faint line has every step, a thick one the mean of `smooth` steps, which stands at their
    middle. `floors` is {task: least loss that can be expected}, drawn as broken lines.
    """
    figure, ((axis,),) = new_figure(height=3.8, title=title)
    for index, (task, (steps, losses)) in enumerate(curves.items()):
        colour, n = style(index)["color"], min(smooth, len(steps))
        means = [np.convolve(values, np.full(n, 1 / n), "valid") for values in (steps, losses)]
        axis.plot(steps, losses, color=colour, alpha=0.25, linewidth=0.7)
        axis.plot(*means, label=f"{task}, mean of {n} steps", markersize=4, markevery=0.1,
                  linewidth=1.6, **style(index))
        if floors and task in floors:
            axis.axhline(floors[task], label=f"{task}, best possible {floors[task]:.2f}",
                         color=colour, linestyle=DASHES[index % 3], linewidth=1.4)
    axis.set(ylim=(0, None), xlabel="step", ylabel="cross-entropy (nats)")
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


def plot_reliability(panels: Mapping[str, Mapping[str, tuple[np.ndarray, ...]]],
                     title: str) -> Figure:
    """Accuracy against confidence, {panel: {curve: what `reliability` returns}}.

    The area of a marker goes with the sentences in its bin.
    """
    figure, axes = new_figure(1, len(panels), height=3.9, title=title)
    curves_of_all = [curve for curves in panels.values() for curve in curves.values()]
    lowest = min(np.nanmin(curve[2:]) for curve in curves_of_all)
    for axis, (name, curves) in zip(axes.flat, panels.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1,
                  label="calibrated")
        for index, (curve, (_, counts, confidence, accuracy)) in enumerate(curves.items()):
            filled = counts > 0
            axis.plot(confidence[filled], accuracy[filled], color=style(index)["color"],
                      linewidth=1)
            areas = 12 + 300 * counts[filled] / counts.sum()
            axis.scatter(confidence[filled], accuracy[filled], s=areas, alpha=0.75,
                         linewidths=0, label=curve, **style(index))
        axis.set(xlim=(lowest - 0.05, 1.04), ylim=(lowest - 0.05, 1.04), aspect="equal")
        axis.tick_params(labelsize=8)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("confidence (mean of a bin)", fontsize=8)
        axis.set_ylabel("accuracy (share right)", fontsize=8)
        axis.legend(fontsize=8, loc="lower right", frameon=False,
                    title="area: sentences in a bin", title_fontsize=8)
    return figure


def plot_intervals(panels: Mapping[str, Mapping[str, tuple[float, float, float]]], title: str,
                   axis_name: str,
                   references: Mapping[str, Mapping[str, float]] | None = None) -> Figure:
    """Scores with their intervals: {panel: {arm: (value, low, high)}}.

    `axis_name` is that of the score; `references`, {panel: {name: value}}, are vertical lines.
    """
    references = references or {}
    arms = list(dict.fromkeys(arm for found in panels.values() for arm in found))
    room = 10 * max([len(lines) for lines in references.values()], default=0)  # points
    height = 0.3 * len(arms) + 1.3 + room / 72
    figure, axes = new_figure(1, len(panels), height=height, title=title)
    for index, (axis, (name, found)) in enumerate(zip(axes.flat, panels.items(), strict=True)):
        for arm, (value, low, high) in found.items():
            axis.errorbar(value, arms.index(arm), xerr=[[value - low], [high - value]],
                          fmt="o", color=COLOURS[0], markersize=5, capsize=3)
        for number, (line, value) in enumerate(references.get(name, {}).items()):
            axis.axvline(value, color="black", linestyle=DASHES[number % 3], linewidth=1)
            axis.annotate(f"{line} {value:.3g}", (value, 1), fontsize=8, ha="center",
                          xycoords=axis.get_xaxis_transform(), xytext=(0, 2 + 10 * number),
                          textcoords="offset points")
        axis.set_yticks(range(len(arms)), arms if index == 0 else [""] * len(arms), fontsize=8)
        axis.set_ylim(len(arms) - 0.5, -0.5)  # the first arm at the top
        axis.set_xlabel(axis_name, fontsize=8)
        axis.set_title(name, fontsize=9, pad=6 + room)
        axis.tick_params(labelsize=8)
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
    return figure
