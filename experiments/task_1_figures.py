"""The figures of Task_1.ipynb alone; those of several pages are in figures.py."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.figures import COLOURS, new_figure

PLACES = {"paraphrase": "paraphrase", "negated": "negation", "synonym": "synonym"}
CLOSER, FURTHER = COLOURS[4], COLOURS[0]


def plot_negations(cosines: Mapping[str, Mapping[str, np.ndarray]], title: str) -> Figure:
    """Cosines of paraphrase, negation and synonym, a line for each sentence, a panel a model."""
    figure, axes = new_figure(1, len(cosines), height=3.6, title=title)
    for axis, (model, found) in zip(axes.flat, cosines.items(), strict=True):
        values = np.array([found[kind] for kind in PLACES])  # (3, N)
        for paraphrase, negation, synonym in values.T:
            colour = CLOSER if negation > paraphrase else FURTHER
            axis.plot([0, 1], [paraphrase, negation], color=colour, linewidth=1, marker="o",
                      markersize=3.5, alpha=0.8)
            axis.plot(2, synonym, color="0.45", marker="D", markersize=3.5, alpha=0.8)
        count = int((values[1] > values[0]).sum())
        axis.set_title(f"{model}\n{count} of {values.shape[1]} negations are closer", fontsize=9)
        axis.set_xticks(range(3), list(PLACES.values()), fontsize=8)
        axis.set(xlim=(-0.3, 2.3), ylim=(0.25, 1.02))
        axis.set_ylabel("cosine with the sentence", fontsize=8)
        axis.tick_params(axis="y", labelsize=8)
    return figure


def plot_cosines(cosines: np.ndarray, sentences: Sequence[str],
                 boxes: Sequence[tuple[int, int]], title: str) -> Figure:
    """The cosines (N, N) of N sentences, each pair once; the cells in `boxes` get a frame."""
    figure, ((axis,),) = new_figure(height=4.4, title=title)
    below = np.tri(len(cosines), k=-1, dtype=bool)
    image = axis.imshow(np.ma.masked_array(cosines, below), cmap="cividis", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(~below), strict=True):
        colour = "black" if cosines[row, column] > 0.6 else "white"
        axis.text(column, row, f"{cosines[row, column]:.2f}", ha="center", va="center",
                  fontsize=9, color=colour)
    for row, column in boxes:
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, linewidth=2.5,
                                 edgecolor=CLOSER))
    wrapped = [textwrap.fill(f"{i}  {text}", 28) for i, text in enumerate(sentences, 1)]
    axis.set_yticks(range(len(sentences)), wrapped, fontsize=8)
    axis.set_xticks(range(len(sentences)), [str(i + 1) for i in range(len(sentences))])
    axis.set_xlabel("the same sentences, by number", fontsize=8)
    figure.colorbar(image, ax=axis, label="cosine", shrink=0.8)
    return figure
