"""Calibration: does a classifier's confidence say how often it is right, and a temperature."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Ids = Sequence[int] | np.ndarray
SMALLEST = 1e-45  # about the least positive float32: what underflowed to 0 counts as this


class Reliability(NamedTuple):
    """Confidence and accuracy of the top class in B bins of confidence; NaN where a bin is empty.

    Bin b holds confidences above edges[b] and up to edges[b + 1].
    """
    edges: np.ndarray  # (B + 1,) from 0 to 1
    counts: np.ndarray  # (B,) sentences
    confidence: np.ndarray  # (B,) mean probability of the top class
    accuracy: np.ndarray  # (B,) share of sentences whose top class is the true one


def reliability(true: Ids, probabilities: np.ndarray, n_bins: int = 10) -> Reliability:
    """Compare confidence with accuracy in bins of equal width: what a reliability diagram shows.

    Args:
        true: (N,) class ids, -100 for a sentence without label, which is skipped.
        probabilities: (N, K); rows sum to one. A class may be one that never occurs in true.
        n_bins: B.

    Raises:
        TypeError: If ids are not integers.
        ValueError: If any argument is not valid or no sentence has a label.

    Explained in Task_4.ipynb, "Calibration".
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    ids, rows = _labelled(true, probabilities)
    edges = np.linspace(0, 1, n_bins + 1)
    confidence = rows.max(axis=1)  # (M, K) -> (M,)
    bins = np.searchsorted(edges[1:-1], confidence)  # (M,)
    counts = np.bincount(bins, minlength=n_bins)
    below = np.where(counts > 0, counts, np.nan)
    right = rows.argmax(axis=1) == ids
    means = [np.bincount(bins, values, n_bins) / below for values in (confidence, right)]
    return Reliability(edges, counts, *means)


def expected_calibration_error(true: Ids, probabilities: np.ndarray, n_bins: int = 10) -> float:
    """Return the mean gap between confidence and accuracy, each bin weighted by its sentences.

    Guo et al., 2017. Arguments and errors are those of `reliability`.
    Explained in Task_4.ipynb, "Calibration".
    """
    bins = reliability(true, probabilities, n_bins)
    gaps = np.abs(bins.accuracy - bins.confidence)  # (B,)
    return float(np.nansum(bins.counts * gaps) / bins.counts.sum())


def brier_score(true: Ids, probabilities: np.ndarray) -> float:
    """Return the squared error of the probabilities, summed over classes, mean over sentences.

    It goes from 0 to 2, as in Brier (1950): for two classes it is twice the score that
    scikit-learn's `brier_score_loss` has for the probability of one of them.
    Arguments and errors are those of `reliability`. Explained in Task_4.ipynb, "Calibration".
    """
    ids, rows = _labelled(true, probabilities)
    return float(((rows - np.eye(rows.shape[1])[ids]) ** 2).sum(axis=1).mean())


def fit_temperature(true: Ids, probabilities: np.ndarray) -> float:
    """Return the temperature that gives the labels the highest likelihood (Guo et al., 2017).

    Fit it on validation sentences. It is searched between exp(-5) and exp(5), and is near an end
    where the labels do not determine it: where all predictions are right, or no better than chance.
    Arguments and errors are those of `reliability`. Explained in Task_4.ipynb, "Calibration".
    """
    ids, rows = _labelled(true, probabilities)
    logits = _logits(rows)  # (M, K)

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -scaled[np.arange(len(ids)), ids].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(log(probabilities) / temperature): flatter above 1, sharper below 1.

    The order of the classes stays, and with it the predicted one. A ValueError says which argument
    is not valid. Explained in Task_4.ipynb, "Calibration".
    """
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature must be finite and above 0, got {temperature}")
    return softmax(_logits(_checked(probabilities)) / temperature, axis=1)


def _logits(rows: np.ndarray) -> np.ndarray:
    """Log-probabilities; they differ from the logits by a constant for each sentence."""
    return np.log(np.maximum(rows, SMALLEST))


def _checked(probabilities: np.ndarray) -> np.ndarray:
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise ValueError(f"probabilities must be (N, K) with two or more classes, got {rows.shape}")
    wrong = ~((rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) < 1e-3))  # also where NaN
    if wrong.any():
        i = np.flatnonzero(wrong)[0]
        raise ValueError("probabilities must have rows from 0 to 1 that sum to one, "
                         f"got {rows[i]} in row {i}")
    return rows


def _labelled(true: Ids, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids (M,) and the probabilities (M, K) of the M sentences that have a label."""
    ids, rows = np.asarray(true), _checked(probabilities)
    if ids.shape != rows.shape[:1]:
        raise ValueError(f"true must be ({len(rows)},) as probabilities has {len(rows)} rows, "
                         f"got {ids.shape}")
    known = ids != -100
    if not known.any():
        raise ValueError("true must hold at least one id other than -100, got none")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"true must hold integer class ids, got {ids.dtype}")
    ids, rows = ids[known], rows[known]
    if ids.min() < 0 or ids.max() >= rows.shape[1]:
        raise ValueError(f"true must hold ids from 0 to {rows.shape[1] - 1}, "
                         f"got {ids.min()} to {ids.max()}")
    return ids, rows
