"""How single raters of the corpus agree with the mean, of all raters or of the other ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mtl_helpers import SENTIMENTS, TaskReport, score_classification


class HumanRow(NamedTuple):
    """How single raters agree with the mean of all; the scores are weighted averages."""
    correlation: float
    precision: float
    recall: float
    f1: float


def human_row(ratings: np.ndarray) -> HumanRow:
    """Score every rating against the mean of its sentence, as Hutto & Gilbert (2014) in Table 4.

    The class is the sign, and all pairs of rating and mean count alike.

    Args:
        ratings: (N, R) from -4 to 4, padded with NaN, of one genre.

    Raises:
        ValueError: If a sentence has fewer than two ratings.
    """
    ratings, given = checked(ratings)
    means = np.nanmean(ratings, axis=1, keepdims=True)  # (N, R) -> (N, 1)
    rating, mean = ratings[given], np.broadcast_to(means, ratings.shape)[given]  # (M,), (M,)
    report = score_classification(classes(mean, 0), classes(rating, 0), SENTIMENTS)
    correlation = np.corrcoef(rating, mean)[0, 1]
    return HumanRow(float(correlation), report.weighted_precision, report.weighted_recall,
                    report.weighted_f1)


def leave_one_rater_out(ratings: np.ndarray, band: float = 0.5) -> TaskReport:
    """Score every rating against the mean of the others of its sentence: a human ceiling.

    Args:
        ratings: (N, R) from -4 to 4, padded with NaN, of the sentences to score.
        band: values from -band to band are neutral; 0 makes the class the sign.

    Raises:
        ValueError: If a sentence has fewer than two ratings.
    """
    ratings, given = checked(ratings)
    total = np.nansum(ratings, axis=1, keepdims=True)  # (N, R) -> (N, 1)
    count = given.sum(axis=1, keepdims=True)  # (N, R) -> (N, 1)
    others = (total - ratings) / (count - 1)  # (N, R)
    return score_classification(classes(others[given], band), classes(ratings[given], band),
                                SENTIMENTS)


def checked(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ratings in double precision, (N, R), and where there is one, (N, R)."""
    ratings = np.asarray(ratings, dtype=np.float64)
    given = ~np.isnan(ratings)
    if ratings.ndim != 2 or given.sum(axis=1).min(initial=2) < 2:
        raise ValueError("ratings must be (N, R) with two or more ratings for each sentence, "
                         f"got shape {ratings.shape}")
    return ratings, given


def classes(values: np.ndarray, band: float) -> np.ndarray:
    """The ids of SENTIMENTS of ratings or means, of one shape."""
    return 1 + (values > band).astype(np.int64) - (values < -band)
