"""What a recorded joint run gets wrong, sentence by sentence: for Task_4.ipynb."""

from __future__ import annotations

import functools

import numpy as np
from IPython.display import Markdown

from experiments.analysis import runs
from experiments.page import show
from experiments.records import from_digits
from experiments.train import splits
from mtl_helpers import (
    GENRES,
    SENTIMENTS,
    load_corpus,
    load_ratings,
    score_classification,
    split_indices,
)


@functools.cache
def sentiment_run() -> dict[str, np.ndarray]:
    """Probabilities (N, 3) of sentiment by a joint run, for validation and test sentences."""
    (record,) = runs("errors", "joint")
    return {part: from_digits(record[part]["sentiment"]["probabilities"], len(SENTIMENTS))
            for part in ("validation", "test")}


def by_genre() -> Markdown:
    """How often the run is right about the sentiment of each genre's test sentences."""
    test, said = splits()[2], sentiment_run()["test"].argmax(axis=1)
    rows = []
    for i, name in enumerate(GENRES):
        own = test.labels["genre"] == i
        report = score_classification(test.labels["sentiment"][own], said[own], SENTIMENTS)
        rows.append((name, report.n, 100 * report.accuracy, 100 * report.macro_f1))
    return show(("sentiment of", "sentences", "accuracy", "macro-F1"), rows)


def wrong() -> np.ndarray:
    """Which test sentences the run misses, (N,)."""
    return sentiment_run()["test"].argmax(axis=1) != splits()[2].labels["sentiment"]


@functools.cache
def spread() -> np.ndarray:
    """Standard deviation of the ratings of each test sentence, (N,)."""
    rows = split_indices(load_corpus(), seed=0)[2]
    ratings = load_ratings()[rows].astype(float)  # (N, R), NaN where there is no rating
    return np.nanstd(ratings, axis=1).round(6)  # equal spreads are on one side of a cut


def thirds() -> np.ndarray:
    """0, 1 or 2 for each test sentence: its raters agree most, less, least, (N,)."""
    return np.digitize(spread(), np.quantile(spread(), [1 / 3, 2 / 3]))


def by_agreement() -> Markdown:
    """How often the run is wrong, by how much the raters disagree."""
    sure = sentiment_run()["test"].max(axis=1) >= 0.9
    rows = []
    for i, name in enumerate(("agree most", "are between", "agree least")):
        part = thirds() == i
        rows.append((name, int(part.sum()), 100 * float(wrong()[part].mean()),
                     int((part & wrong() & sure).sum())))
    return show(("raters", "sentences", "wrong, %", "wrong, but 90 % sure"), rows)


def print_mistakes(count: int) -> None:
    """The mistakes of which the run is surest; of equal ones, the earlier in the test split."""
    test, probabilities = splits()[2], sentiment_run()["test"]
    confidence = probabilities.max(axis=1)
    for row in np.argsort(-confidence * wrong(), kind="stable")[:count]:
        true = SENTIMENTS[test.labels["sentiment"][row]]
        said = SENTIMENTS[probabilities[row].argmax()]
        print(f"{GENRES[test.labels['genre'][row]]}: {test.sentences[row][:88]}")
        print(f"    raters {true}, model {said} ({confidence[row]:.0%})")
