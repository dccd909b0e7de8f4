"""The figures of Task_3.md, made from the records in results/.

    python -m experiments.task_3_figures        draws results/figures/freezing-*.png
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from experiments.analysis import gain, score
from experiments.drift import EVERY, STEPS
from experiments.figures import new_figure, style
from experiments.records import RESULTS, read_records
from experiments.studies import ARMS
from experiments.task_3 import DEPTHS, POLICIES, SINGLE, drift_curves, label_arms
from experiments.train import LABELS

DRAWN = {"none": "nothing done", "encoder": "encoder frozen too",
         "replay": "a tenth of old\nsentences"}


def name_ends(axis: Axes, ends: Mapping[str, float], gap: float) -> None:
    """Write each name right of the end of its line, at least `gap` above the one below it."""
    free = -np.inf
    for index, (name, end) in sorted(enumerate(ends.items()), key=lambda item: item[1][1]):
        free = max(end, free + gap)
        axis.annotate(name, (1, free), xycoords=axis.get_yaxis_transform(), va="center",
                      xytext=(4, 0), textcoords="offset points", fontsize=8,
                      color=style(index)["color"])


def draw_depths() -> Figure:
    """What a task loses by how many of the upper layers train."""
    figure, axes = new_figure(height=3.2, title="No loss is measured with the lower three of six "
                              "layers frozen")
    axis, names = axes[0, 0], [*DEPTHS][:-2]  # from "all 6" to "embeddings"
    axis.axhline(0, color="black", linewidth=1)
    for index, task in enumerate(LABELS):
        found = [gain(task, SINGLE, DEPTHS[name]) for name in names]
        places = np.arange(len(names)) + 0.1 * (index - 0.5)
        axis.errorbar(places, [100 * one.value for one in found],
                      [100 * one.margin for one in found], capsize=3, markersize=5,
                      linewidth=1.2, **style(index))
    axis.set_xticks(range(len(names)), [*names[:-1], "only the\nembeddings"], fontsize=8)
    axis.set_xlabel("frozen layers, from the bottom", fontsize=8)
    axis.set_ylabel("points against training everything", fontsize=8)
    for index, (task, place) in enumerate(zip(LABELS, (-2.2, -7.0), strict=True)):
        axis.annotate(task, (0, place), xytext=(12, 0), textcoords="offset points", fontsize=9,
                      color=style(index)["color"])
    axis.grid(axis="y", color="0.9")
    return figure


def draw_drift() -> Figure:
    """How the frozen head's score changes while the other task trains on, in points."""
    figure, axes = new_figure(1, 2, height=3.2, title="A frozen head does not protect its task: "
                              "genre falls, sentiment dips")
    steps = np.arange(0, STEPS + 1, EVERY)
    for axis, frozen in zip(axes.flat, LABELS, strict=True):
        ends = {}
        for index, (remedy, title) in enumerate(DRAWN.items()):
            values = drift_curves(remedy, frozen, frozen)
            change = 100 * (values - values[:, :1]).mean(axis=0)  # (11,)
            axis.plot(steps, change, markersize=4, linewidth=1.2, **style(index))
            ends[title] = change[-1]
        name_ends(axis, ends, gap=0.9)
        other = next(task for task in LABELS if task != frozen)
        axis.set_title(f"{frozen} head frozen", fontsize=10)
        axis.set_xlabel(f"steps in which {other} trains on", fontsize=8)
        axis.set_ylim(-6, 4)
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_ylabel("change of macro-F1, in points", fontsize=8)
    return figure


def draw_labels() -> Figure:
    """Macro-F1 by the number of training sentences."""
    figure, axes = new_figure(1, 2, height=3.4, title="Heads first, then everything, is ahead of "
                              "a frozen encoder from 50 sentences on")
    for axis, task in zip(axes.flat, LABELS, strict=True):
        ends = {}
        for index, (policy, title) in enumerate(POLICIES.items()):
            found = {size: score(*arms[policy], task) for size, arms in label_arms().items()
                     if policy in arms}
            values = [100 * one.value for one in found.values()]
            axis.errorbar([size * 1.05 ** (index - 1) for size in found], values,
                          [100 * one.margin for one in found.values()], capsize=3,
                          markersize=4, linewidth=1.2, **style(index))
            ends[title] = values[-1]
        name_ends(axis, ends, gap=2.2)
        axis.set_xscale("log")
        axis.set_xticks([*label_arms()], [f"{size:,}" for size in label_arms()], fontsize=8)
        axis.minorticks_off()
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("training sentences", fontsize=8)
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_ylabel("macro-F1, in points", fontsize=8)
    return figure


def features(name: str) -> list[float]:
    """CKA of the embeddings' and each layer's features with those before; seed 0, rate 1e-4."""
    setting = next(s for s, *_ in ARMS if (s.study, s.arm) == ("freezing", name))
    return read_records("freezing")[replace(setting, encoder_lr=1e-4).name]["cka"]


def draw_features() -> Figure:
    """How like each layer's features are to those before training, at one learning rate."""
    figure, axes = new_figure(height=3.2, title="Features change more towards the top, and "
                              "less after the heads were trained first")
    axis, ends = axes[0, 0], {}
    names = {"everything at once": "full", "heads first (LP-FT)": "lp-ft",
             "only layers 5 and 6": "layers-4"}
    for index, (title, name) in enumerate(names.items()):
        axis.plot(features(name), markersize=4, linewidth=1.2, **style(index))
        ends[title] = features(name)[-1]
    name_ends(axis, ends, gap=0.04)
    axis.set_xticks(range(7), ["embeddings", *(f"layer {k}" for k in range(1, 7))], fontsize=8)
    axis.set_ylabel("similarity (CKA) to before training", fontsize=8)
    axis.set_ylim(0, 1.03)
    axis.grid(axis="y", color="0.9")
    return figure


FIGURES = {"drift": draw_drift, "depths": draw_depths, "features": draw_features,
           "labels": draw_labels}


def path_of(name: str) -> Path:
    return RESULTS / "figures" / f"freezing-{name}.png"


def drawn(figure: Figure) -> str:
    """A hash of the values that a figure shows; it is kept in the picture."""
    values = [np.round(np.asarray(line.get_ydata(), dtype=float), 5).tolist()
              for axis in figure.axes for line in axis.lines]
    return hashlib.sha256(str(values).encode()).hexdigest()


if __name__ == "__main__":
    for name, draw in FIGURES.items():
        figure, kept = draw(), PngInfo()
        kept.add_text("records", drawn(figure))
        Image.open(io.BytesIO(figure._repr_png_())).save(path_of(name), pnginfo=kept, optimize=True)
