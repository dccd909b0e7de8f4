"""The figures of the documents. Each function draws one figure and returns it, not shown."""

from __future__ import annotations

import io
import math
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


