"""The figures of the documents. Each function draws one figure and returns it; nothing is shown."""

import io
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "////", "...", "xxx", "---", "\\\\\\\\", "ooo", "+++")
DASHES = ("--", ":", "-.")


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
    """An empty figure, 7.2 inches wide, and its axes (rows, columns).

    `height` is that of a row in inches. `title` states the finding, here and in every plot below.
    """
    figure = NotebookFigure(figsize=(7.2, height * rows), dpi=100, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure, axes


def legend_above(axis: Axes, columns: int) -> None:
    """Put the legend of an axis above it."""
    axis.legend(fontsize=8, ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0),
                frameon=False)


def scatter_classes(axis: Axes, points: np.ndarray, ids: np.ndarray, labels: Sequence[str]) -> None:
    """Draw points (N, 2) in the colour and marker of their class ids (N,)."""
    order = np.random.default_rng(0).permutation(len(points))
    for part in np.array_split(order, 20):  # in turn, so that no class lies on top of the others
        for index in range(len(labels)):
            chosen = part[ids[part] == index]
            axis.scatter(points[chosen, 0], points[chosen, 1], s=7, color=COLOURS[index],
                         marker=MARKERS[index], alpha=0.65, linewidths=0)
    for index, label in enumerate(labels):
        axis.scatter([], [], s=7, color=COLOURS[index], marker=MARKERS[index], label=label)
    axis.set_xticks([])
    axis.set_yticks([])


def plot_maps(maps: Sequence[Sequence[tuple[str, np.ndarray, np.ndarray, Sequence[str]]]],
              title: str, axis_name: str) -> Figure:
    """A grid of two-dimensional maps of the same sentences.

    Args:
        maps: rows of (title, points (N, 2), class ids (N,), class names).
        axis_name: what the two coordinates are, such as "principal component".
    """
    figure, axes = new_figure(len(maps), len(maps[0]), height=2.9, title=title)
    for axis, (name, points, ids, labels) in zip(axes.flat, sum(map(list, maps), []), strict=True):
        scatter_classes(axis, points, ids, labels)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(f"{axis_name} 1", fontsize=8)
        axis.set_ylabel(f"{axis_name} 2", fontsize=8)
    for row in axes:
        for axis in {tuple(axis.get_legend_handles_labels()[1]): axis for axis in row}.values():
            low, high = axis.get_ylim()
            axis.set_ylim(low - 0.25 * (high - low), high)  # room for the legend below the points
            axis.legend(fontsize=7, markerscale=2, loc="lower center", ncols=2, frameon=False)
    return figure


def plot_cosines(cosines: np.ndarray, sentences: Sequence[str], title: str) -> Figure:
    """A heat map of the cosines (N, N) between N sentences."""
    figure, ((axis,),) = new_figure(height=5.0, title=title)
    image = axis.imshow(cosines, cmap="cividis", vmin=min(0.0, cosines.min()), vmax=1)
    for row, column in np.ndindex(cosines.shape):
        colour = "black" if cosines[row, column] > 0.6 else "white"
        axis.text(column, row, f"{cosines[row, column]:.2f}", ha="center", va="center",
                  fontsize=8, color=colour)
    wrapped = [textwrap.fill(sentence, 28) for sentence in sentences]
    axis.set_yticks(range(len(sentences)), wrapped, fontsize=8)
    axis.set_xticks(range(len(sentences)), [str(i + 1) for i in range(len(sentences))])
    axis.set_xlabel("the same sentences, by row", fontsize=8)
    figure.colorbar(image, ax=axis, label="cosine", shrink=0.8)
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
                         color=COLOURS[index], marker=MARKERS[index],
                         label=None if position else kind)
            axis.hlines(np.mean(found[kind]), x - width / 2.4, x + width / 2.4,
                        color=COLOURS[index], linewidth=2.5)
    axis.set_xticks(range(len(cosines)), list(cosines), fontsize=8)
    axis.set_ylabel("cosine of the two sentences")
    axis.set_ylim(top=1.02)
    legend_above(axis, len(kinds))
    return figure


def plot_gradients(norms: np.ndarray, parts: Sequence[str], losses: Sequence[str],
                   title: str) -> Figure:
    """Norms (P, L) of the gradient that each loss sends to each part; white where there is none."""
    figure, ((axis,),) = new_figure(height=0.32 * len(parts) + 1.2, title=title)
    shown = np.ma.masked_less_equal(norms, 0)
    image = axis.imshow(shown, cmap="cividis", aspect="auto", vmin=0)
    for row, column in np.ndindex(norms.shape):
        text = f"{norms[row, column]:.2f}" if norms[row, column] > 0 else "none"
        dark = 0 < norms[row, column] < 0.6 * norms.max()
        axis.text(column, row, text, ha="center", va="center", fontsize=8,
                  color="white" if dark else "black")
    axis.set_yticks(range(len(parts)), parts, fontsize=8)
    axis.set_xticks(range(len(losses)), losses, fontsize=8)
    figure.colorbar(image, ax=axis, label="norm of the gradient")
    return figure


def plot_series(series: Mapping[str, np.ndarray], ticks: Sequence[str], axis_names: Sequence[str],
                title: str) -> Figure:
    """The mean of repeated measurements, and two standard errors of it on either side.

    Args:
        series: {name: (R, K)}, R >= 2 measurements at each of K places.
        ticks: K names of the places.
        axis_names: of the places and of the values, with units.
    """
    figure, ((axis,),) = new_figure(title=title)
    for index, (name, values) in enumerate(series.items()):
        x = np.arange(len(ticks)) + 0.06 * (index - (len(series) - 1) / 2)  # side by side
        errors = 2 * values.std(axis=0, ddof=1) / np.sqrt(len(values))  # (R, K) -> (K,)
        axis.errorbar(x, values.mean(axis=0), errors, color=COLOURS[index], marker=MARKERS[index],
                      markersize=5, linewidth=1, capsize=3, label=name)
    axis.set_xticks(range(len(ticks)), ticks, fontsize=8)
    axis.set_xlabel(axis_names[0])
    axis.set_ylabel(axis_names[1])
    legend_above(axis, 2)
    return figure


def plot_schedule(schedules: Mapping[str, Sequence[tuple[str, ...]]], title: str) -> Figure:
    """The tasks that each step trains, a cell a step; the cell of a joint batch is divided.

    Args:
        schedules: {name: the tasks of each of its first S steps}, such as `Batch.tasks`.

    Raises:
        TypeError: If the tasks of a step are a string and not a tuple.
    """
    for tasks in sum(map(list, schedules.values()), []):
        if isinstance(tasks, str):
            raise TypeError(f"schedules must have a tuple of tasks for each step, got {tasks!r}")
    figure, ((axis,),) = new_figure(height=0.42 * len(schedules) + 1.3, title=title)
    cells = [(task, step, row - 0.4 + 0.8 * part / len(tasks), 0.8 / len(tasks))
             for row, steps in enumerate(schedules.values())
             for step, tasks in enumerate(steps, 1)
             for part, task in enumerate(tasks)]
    for index, task in enumerate(dict.fromkeys(task for task, *_ in cells)):
        places, edges, heights = zip(*(cell for name, *cell in cells if name == task), strict=True)
        axis.bar(places, heights, 1.0, edges, color=COLOURS[index], hatch=HATCHES[index],
                 edgecolor="white", linewidth=0.8, label=task)
    axis.set_yticks(range(len(schedules)), list(schedules), fontsize=8)
    axis.set_ylim(len(schedules) - 0.5, -0.5)  # the first schedule at the top
    axis.set_xlim(0.5, max(map(len, schedules.values())) + 0.5)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("step")
    legend_above(axis, 4)
    return figure


def plot_losses(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str, smooth: int = 20,
                floors: Mapping[str, float] | None = None) -> Figure:
    """The training loss of each task: every step faint, and a running mean.

    Args:
        curves: {task: (steps (S,), losses (S,))}, as `History.losses` returns them.
        smooth: how many of the task's steps a mean is over; it stands at their middle.
        floors: {task: least loss that can be expected}, drawn as broken lines.

    Raises:
        ValueError: If smooth is below 1, a curve has no steps, or floors has a task that curves
            lacks.
    """
    floors = floors or {}
    if smooth < 1:
        raise ValueError(f"smooth must be at least 1, got {smooth}")
    if unknown := set(floors) - set(curves):
        raise ValueError(f"floors must have tasks of curves, got {sorted(unknown)}")
    figure, ((axis,),) = new_figure(height=3.8, title=title)
    for index, (task, (steps, losses)) in enumerate(curves.items()):
        colour, marker = COLOURS[index], MARKERS[index]
        n = min(smooth, len(steps))
        if n == 0:
            raise ValueError(f"curves must have a step for each task, got none for {task!r}")
        means = [np.convolve(values, np.full(n, 1 / n), "valid") for values in (steps, losses)]
        axis.plot(steps, losses, color=colour, alpha=0.25, linewidth=0.7)
        axis.plot(*means, color=colour, marker=marker, markersize=4, markevery=0.1, linewidth=1.6,
                  label=f"{task}, mean of {n} steps")
        if task in floors:
            axis.axhline(floors[task], color=colour, linestyle=DASHES[index % 3], linewidth=1.4,
                         label=f"{task}, best possible {floors[task]:.2f}")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("step")
    axis.set_ylabel("cross-entropy (nats)")
    legend_above(axis, len(curves))
    return figure


def plot_confusions(matrices: Mapping[str, tuple[np.ndarray, Sequence[str]]],
                    title: str) -> Figure:
    """Confusion matrices, two side by side; a cell is as bright as its share of the true class.

    Args:
        matrices: {name: (counts (K, K), K class names)}; a row is a true class, a column a
            predicted one.

    Raises:
        ValueError: If counts are not (K, K) for K class names.
    """
    columns = min(len(matrices), 2)
    figure, axes = new_figure(-(-len(matrices) // 2), columns, height=3.9, title=title)
    for axis in axes.flat[len(matrices):]:
        axis.remove()
    for axis, (name, (counts, labels)) in zip(axes.flat, matrices.items(), strict=False):
        if np.shape(counts) != (len(labels), len(labels)):
            raise ValueError(f"matrices must have counts (K, K) for K class names, got "
                             f"{np.shape(counts)} for {len(labels)} in {name!r}")
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # (K, K)
        axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
        for row, column in np.ndindex(shares.shape):
            axis.text(column, row, f"{counts[row, column]:,}\n{shares[row, column]:.0%}",
                      ha="center", va="center", fontsize=8,
                      color="black" if shares[row, column] > 0.6 else "white")
        wrapped = [textwrap.fill(label, 10) for label in labels]
        axis.set_xticks(range(len(labels)), wrapped, fontsize=8)
        axis.set_yticks(range(len(labels)), wrapped, fontsize=8)
        axis.set_xlabel("predicted", fontsize=8)
        axis.set_ylabel("true (% of the row)", fontsize=8)
        axis.set_title(name, fontsize=9)
    return figure


def plot_reliability(panels: Mapping[str, Mapping[str, tuple[np.ndarray, ...]]],
                     title: str) -> Figure:
    """Accuracy against confidence; a marker's area goes with the sentences in its bin.

    Args:
        panels: {panel: {curve: what `calibration.reliability` returns: edges (B + 1,), counts
            (B,), confidence (B,) and accuracy (B,), NaN where a bin is empty}}.
    """
    figure, axes = new_figure(1, len(panels), height=3.9, title=title)
    lowest = min(np.nanmin(curve[2:]) for curves in panels.values() for curve in curves.values())
    for axis, (name, curves) in zip(axes.flat, panels.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1,
                  label="calibrated")
        for index, (curve, (_, counts, confidence, accuracy)) in enumerate(curves.items()):
            filled = counts > 0
            axis.plot(confidence[filled], accuracy[filled], color=COLOURS[index], linewidth=1)
            axis.scatter(confidence[filled], accuracy[filled],
                         s=12 + 300 * counts[filled] / counts.sum(), color=COLOURS[index],
                         marker=MARKERS[index], alpha=0.75, linewidths=0, label=curve)
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
    """A score of each arm with its interval, in a panel for each task.

    Args:
        panels: {panel: {arm: (value, low, high)}}; an arm may be missing in a panel.
        axis_name: of the score, with its unit.
        references: {panel: {name: value}}, drawn as vertical lines.

    Raises:
        ValueError: If a value lies outside its interval, or references has an unknown panel.
    """
    references = references or {}
    if unknown := set(references) - set(panels):
        raise ValueError(f"references must have panels among {list(panels)}, got {sorted(unknown)}")
    arms = list(dict.fromkeys(arm for found in panels.values() for arm in found))
    room = 10 * max([len(lines) for lines in references.values()], default=0)  # points
    figure, axes = new_figure(1, len(panels), height=0.3 * len(arms) + 1.3 + room / 72, title=title)
    for index, (axis, (name, found)) in enumerate(zip(axes.flat, panels.items(), strict=True)):
        for arm, (value, low, high) in found.items():
            if not low <= value <= high:
                raise ValueError(f"panels must have low <= value <= high, got {value}, {low}, "
                                 f"{high} for {arm!r} in {name!r}")
            axis.errorbar(value, arms.index(arm), xerr=[[value - low], [high - value]], fmt="o",
                          color=COLOURS[0], markersize=5, capsize=3)
        for number, (line, value) in enumerate(references.get(name, {}).items()):
            axis.axvline(value, color="black", linestyle=DASHES[number % 3], linewidth=1)
            axis.annotate(f"{line} {value:.3g}", (value, 1), xycoords=axis.get_xaxis_transform(),
                          xytext=(0, 2 + 10 * number), textcoords="offset points",
                          fontsize=8, ha="center")
        axis.set_yticks(range(len(arms)), arms if index == 0 else [""] * len(arms), fontsize=8)
        axis.set_ylim(len(arms) - 0.5, -0.5)  # the first arm at the top
        axis.set_xlabel(axis_name, fontsize=8)
        axis.set_title(name, fontsize=9, pad=6 + room)
        axis.tick_params(labelsize=8)
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
    return figure
