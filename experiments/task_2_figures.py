"""The figures of Task_2.ipynb; each function draws one and returns it, not shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.figures import COLOURS, new_figure, style


def plot_reach(norms: np.ndarray, parts: Sequence[str], losses: Sequence[str],
               title: str) -> Figure:
    """Which parts (P) of a model each loss (L) reaches: a filled cell with the gradient's norm.

    `norms` is (P, L), NaN where no path leads from the loss to the part.
    """
    figure, ((axis,),) = new_figure(height=0.34 * len(parts) + 1.0, title=title)
    for row, column in np.ndindex(norms.shape):
        reached = not np.isnan(norms[row, column])
        axis.add_patch(Rectangle(
            (column - 0.47, row - 0.42), 0.94, 0.84, facecolor=COLOURS[column],
            alpha=0.35 if reached else 0.0))
        text = f"gradient, norm {norms[row, column]:.2f}" if reached else "no gradient"
        axis.text(column, row, text, ha="center", va="center", fontsize=9,
                  color="black" if reached else "0.35")
    axis.set_yticks(range(len(parts)), parts, fontsize=9)
    axis.set_xticks(range(len(losses)), losses, fontsize=10)
    axis.set(xlim=(-0.5, len(losses) - 0.5), ylim=(len(parts) - 0.5, -0.5))
    axis.set_ylabel("part of the model", fontsize=9)
    axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axis.spines[:].set_visible(False)
    return figure


def plot_agreement(cosines: Mapping[str, np.ndarray], parts: Sequence[str],
                   title: str) -> Figure:
    """Mean cosines of {name: (R, K)} in K parts of the encoder, +- two standard errors."""
    figure, ((axis,),) = new_figure(height=3.4, title=title)
    axis.axhline(0, color="0.6", linewidth=0.8)
    for index, (name, values) in enumerate(cosines.items()):
        x = np.arange(len(parts)) + 0.08 * (index - (len(cosines) - 1) / 2)  # side by side
        errors = 2 * values.std(axis=0, ddof=1) / np.sqrt(len(values))  # (R, K) -> (K,)
        mean = values.mean(axis=0)
        axis.errorbar(x, mean, errors, markersize=5, linewidth=1.2, capsize=3,
                      **style(4 * index))
        above = mean[-1] == max(other.mean(axis=0)[-1] for other in cosines.values())
        axis.annotate(name, (x[-1], mean[-1]), xytext=(10, 6 if above else -6),
                      textcoords="offset points", va="bottom" if above else "top", fontsize=9,
                      color=style(4 * index)["color"], annotation_clip=False)
    axis.set_xticks(range(len(parts)), parts, fontsize=9)
    axis.set(xlim=(-0.4, len(parts) + 0.9), ylim=(-0.3, 0.3), xlabel="part of the encoder",
             ylabel="cosine with the gradient\nof sentiment")
    return figure
