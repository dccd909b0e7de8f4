"""Calibration: does a classifier's confidence say how often it is right, and a temperature."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from mtl_helpers.evaluation import Ids, labelled

BINS = 10  # of confidence
SMALLEST = 1e-45  # about the least positive float32: what underflowed to 0 counts as this


class Reliability(NamedTuple):
    """What a reliability diagram shows: bin b is above edges[b] and up to edges[b + 1]."""
    edges: np.ndarray  # (B + 1,) from 0 to 1
    counts: np.ndarray  # (B,) sentences
    confidence: np.ndarray  # (B,) mean probability of the top class, NaN in an empty bin
    accuracy: np.ndarray  # (B,) share of sentences whose top class is the true one, or NaN


def reliability(true: Ids, probabilities: np.ndarray) -> Reliability:
    """Compare confidence with accuracy in ten bins. Explained in Task_4.ipynb, 4.13.

    Args:
        true, probabilities: (N,) ids, -100 where missing, and (N, K) rows that sum to one.
    """
    rows = _checked(probabilities)
    ids, guesses, rows = labelled(true, rows.argmax(axis=1), rows.shape[1], rows)
    confidence = rows.max(axis=1)  # (M, K) -> (M,)
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.searchsorted(edges[1:-1], confidence.round(12))  # last digits are the machine's
    counts = np.bincount(bins, minlength=BINS)
    below = np.where(counts > 0, counts, np.nan)
    return Reliability(edges, counts, np.bincount(bins, confidence, BINS) / below,
                       np.bincount(bins, ids == guesses, BINS) / below)


def expected_calibration_error(true: Ids, probabilities: np.ndarray) -> float:
    """Return the mean gap of accuracy and confidence over all sentences (Guo et al., 2017)."""
    _, counts, confidence, accuracy = reliability(true, probabilities)
    return float(np.nansum(counts * np.abs(accuracy - confidence)) / counts.sum())


def brier_score(true: Ids, probabilities: np.ndarray) -> float:
    """Return the mean squared error, summed over classes: 0 to 2 (Brier, 1950)."""
    rows = _checked(probabilities)
    ids, _, rows = labelled(true, rows.argmax(axis=1), rows.shape[1], rows)
    return float(((rows - np.eye(rows.shape[1])[ids]) ** 2).sum(axis=1).mean())


def fit_temperature(true: Ids, probabilities: np.ndarray) -> float:
    """Return the temperature, exp(-5) to exp(5), of highest likelihood (Guo et al., 2017).

    It is near an end where all predictions are right, or no better than chance.
    """
    rows = _checked(probabilities)
    ids, _, rows = labelled(true, rows.argmax(axis=1), rows.shape[1], rows)
    logits = np.log(np.maximum(rows, SMALLEST))  # (M, K), but for a constant in each row

    def loss(log_temperature: float) -> float:
        scaled = special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return -scaled[np.arange(len(ids)), ids].mean()

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(-5, 5), method="bounded").x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(log(probabilities) / temperature): flatter above 1, sharper below 1."""
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature must be finite and above 0, got {temperature}")
    rows = np.maximum(_checked(probabilities), SMALLEST)
    return special.softmax(np.log(rows) / temperature, axis=1)


def _checked(probabilities: np.ndarray) -> np.ndarray:
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise ValueError(f"probabilities must be (N, K), K at least 2, got {rows.shape}")
    wrong = rows[~((rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) < 1e-3))]  # NaN too
    if wrong.size:
        raise ValueError(f"probabilities must be 0 to 1, a row sum to one, got {wrong[0]}")
    return rows
