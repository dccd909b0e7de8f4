"""The figures of Task_3.md, made from the records in results/.

    python -m experiments.task_3_figures        draws results/figures/freezing-*.png
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from experiments.analysis import score
from experiments.drift import EVERY, REMEDIES, STEPS
from experiments.figures import COLOURS, new_figure, style
from experiments.records import RESULTS, read_records
from experiments.studies import ARMS
from experiments.task_3 import (
    DEPTHS,
    POLICIES,
    RATES,
    REMEDY_NAMES,
    STAGES,
    drift_curves,
    label_arms,
)
from experiments.train import LABELS


def legend_below(figure: Figure, axes: np.ndarray) -> None:
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8, frameon=False)


def draw_depths() -> Figure:
    """Macro-F1 by how much is frozen."""
    figure, axes = new_figure(1, 2, height=3.2, title="No loss is seen with half of the "
                              "layers frozen; with five of six both tasks lose")
    for axis, task, colour in zip(axes.flat, LABELS, COLOURS, strict=False):
        found = [score(*arm, task) for arm in DEPTHS.values()]
        axis.errorbar(range(len(found)), [one.value for one in found],
                      [one.margin for one in found], color=colour, marker="o", capsize=3)
        axis.set_xticks(range(len(found)), [*DEPTHS], fontsize=8, rotation=45, ha="right")
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("frozen layers from the bottom", fontsize=8)
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_ylabel("macro-F1 on the test split")
    return figure


def draw_drift() -> Figure:
    """How the frozen head's score changes while the other task trains on."""
    figure, axes = new_figure(1, 2, height=3.6, title="A frozen head may lose its task: genre "
                              "falls, sentiment dips and mostly recovers")
    steps = np.arange(0, STEPS + 1, EVERY)
    for axis, frozen in zip(axes.flat, LABELS, strict=True):
        for index, remedy in enumerate(REMEDIES):
            values = drift_curves(remedy, frozen, frozen)
            values = values - values[:, :1]  # (S, 11)
            axis.plot(steps, values.mean(axis=0), markersize=4, linewidth=1.2,
                      label=REMEDY_NAMES[remedy], **style(index))
            axis.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.15,
                              color=style(index)["color"], linewidth=0)
        other = next(task for task in LABELS if task != frozen)
        axis.set_title(f"{frozen} head frozen, {other} trains on", fontsize=10)
        axis.set_xlabel("steps of the other task")
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_ylabel("change of macro-F1, frozen head")
    legend_below(figure, axes)
    return figure


def draw_labels() -> Figure:
    """Macro-F1 by the number of training sentences."""
    figure, axes = new_figure(1, 2, height=3.4, title="LP-FT is ahead of a frozen encoder "
                              "from 50 sentences on")
    for axis, task in zip(axes.flat, LABELS, strict=True):
        for index, (policy, title) in enumerate(POLICIES.items()):
            found = {size: score(*arms[policy], task) for size, arms in label_arms().items()
                     if policy in arms}
            axis.errorbar([size * 1.05 ** (index - 1) for size in found],
                          [one.value for one in found.values()],
                          [one.margin for one in found.values()], label=title, capsize=3,
                          markersize=4, linewidth=1.2, **style(index))
        axis.set_xscale("log")
        axis.set_xticks([*label_arms()], [f"{size:,}" for size in label_arms()], fontsize=8)
        axis.minorticks_off()
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("training sentences")
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_ylabel("macro-F1 on the test split")
    legend_below(figure, axes)
    return figure


def features(name: str) -> list[float]:
    """CKA of the embeddings' and each layer's features with those before; seed 0, rate 1e-4."""
    setting = next(s for s, *_ in ARMS if (s.study, s.arm) == ("freezing", name))
    return read_records("freezing")[replace(setting, encoder_lr=1e-4).name]["cka"]


def draw_features() -> Figure:
    """How like each layer's features are to those before training, at one rate."""
    figure, axes = new_figure(height=3.4, title="Features change more towards the top, and "
                              "less after a probe")
    arms = {"everything": ("freezing", "full")} | STAGES | RATES
    arms |= {"only layers 5 and 6": DEPTHS["4"]}
    for index, (title, (_, name)) in enumerate(arms.items()):
        axes[0, 0].plot(features(name), markersize=4, linewidth=1.2, label=title, **style(index))
    axes[0, 0].set_xticks(range(7), ["embeddings", *(f"layer {k}" for k in range(1, 7))],
                          fontsize=8)
    axes[0, 0].set_ylabel("CKA with the features before")
    axes[0, 0].grid(axis="y", color="0.9")
    legend_below(figure, axes)
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
