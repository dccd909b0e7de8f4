"""Per-task scores, computed by scikit-learn, and bootstrap intervals around them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

Ids = Sequence[int] | np.ndarray
METRICS = ("accuracy", "macro_precision", "macro_recall", "macro_f1",
           "weighted_precision", "weighted_recall", "weighted_f1")


@dataclass(frozen=True, eq=False)
class TaskReport:
    """Scores of one task over n labelled sentences and K classes; printing it shows a table.

    Macro averages count every class alike, weighted ones by its sentences. As in scikit-learn, a
    class that is nowhere true or predicted is left out of both and has NaN scores of its own.
    """
    labels: tuple[str, ...]  # K names
    n: int
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    precision: np.ndarray  # (K,)
    recall: np.ndarray  # (K,)
    f1: np.ndarray  # (K,)
    confusion: np.ndarray  # (K, K) counts: a row for each true class, a column for each predicted
    table: str

    def __str__(self) -> str:
        totals = {"true": self.confusion.sum(axis=1), "predicted": self.confusion.sum(axis=0)}
        notes = [f"never {kind}: {self.labels[i]}" for kind, counts in totals.items()
                 for i in np.flatnonzero(counts == 0)]
        return "\n".join([self.table.rstrip(), *notes])


class Interval(NamedTuple):
    """A score and the ends of its confidence interval."""
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def score_classification(true: Ids, predicted: Ids, labels: Sequence[str]) -> TaskReport:
    """Compare predicted with true class ids. Explained in Task_1.ipynb, "The metrics".

    Args:
        true: (N,) ids in 0 .. K-1, or -100 for a sentence without label, which is skipped.
        predicted: (N,) ids in 0 .. K-1.
        labels: K class names in the order of their ids.

    Raises:
        TypeError: If ids are not integers.
        ValueError: If shapes differ, an id is out of range or no sentence has a label.
    """
    if isinstance(labels, str) or len(set(labels)) != len(labels):
        raise ValueError(f"labels must be a list of different names, got {labels!r}")
    _, *pair = _labelled(true, predicted, len(labels))
    present = np.union1d(*pair)
    scores = partial(metrics.precision_recall_fscore_support, *pair, zero_division=0)
    own = np.full((3, len(labels)), np.nan)
    own[:, present] = scores(labels=present)[:3]
    averages = {f"{kind}_{name}": float(value) for kind in ("macro", "weighted") for name, value
                in zip(("precision", "recall", "f1"), scores(average=kind)[:3], strict=True)}
    return TaskReport(
        labels=tuple(labels), n=len(pair[0]), accuracy=float(metrics.accuracy_score(*pair)),
        precision=own[0], recall=own[1], f1=own[2], **averages,
        confusion=metrics.confusion_matrix(*pair, labels=range(len(labels))),
        table=metrics.classification_report(*pair, labels=present, digits=3, zero_division=0,
                                            target_names=[labels[i] for i in present]))


def bootstrap_interval(true: Ids, predicted: Ids,
                       metric: str | Callable[[np.ndarray], np.ndarray] = "macro_f1",
                       groups: Sequence[Hashable] | np.ndarray | None = None,
                       n_resamples: int = 1000, confidence: float = 0.95,
                       seed: int = 0) -> Interval:
    """Return a score with its percentile bootstrap interval (Efron, 1979).

    Args:
        true, predicted: (N,) ids, as in `score_classification`.
        metric: one of METRICS, or a function from confusion matrices (R, K, K) to scores (R,).
        groups: N document ids, to draw whole documents; None draws single sentences.
        n_resamples: R draws with replacement.
        confidence: share of the resampled scores between the two ends.
        seed: of the draws.

    Raises:
        TypeError: If ids are not integers.
        ValueError: If any argument is not valid.
    """
    if not (callable(metric) or metric in METRICS):
        raise ValueError(f"metric must be a function or one of {METRICS}, got {metric!r}")
    if n_resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples}, and confidence "
                         f"between 0 and 1, got {confidence}")
    if groups is not None and len(groups) != len(true):
        raise ValueError(f"groups must hold {len(true)} ids, got {len(groups)}")
    known, actual, guess = _labelled(true, predicted)
    k = int(max(actual.max(), guess.max())) + 1
    cells = k * actual + guess  # (M,) positions in a flat confusion matrix
    total = np.bincount(cells, minlength=k * k)  # (K*K,)
    random = np.random.default_rng(seed)
    if groups is None:
        drawn = random.multinomial(len(cells), total / len(cells), n_resamples)  # (R, K*K)
    else:
        order: dict[Hashable, int] = {}
        rows = np.array([order.setdefault(groups[i], len(order)) for i in known])  # (M,)
        counts = np.bincount(k * k * rows + cells, minlength=len(order) * k * k)
        times = random.multinomial(len(order), np.full(len(order), 1 / len(order)), n_resamples)
        drawn = times @ counts.reshape(-1, k * k)  # (R, G) @ (G, K*K) -> (R, K*K)
    matrices = np.vstack([total, drawn]).reshape(-1, k, k)
    scores = metric(matrices) if callable(metric) else _scores(matrices, metric)  # (1 + R,)
    ends = np.quantile(scores[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(*map(float, (scores[0], *ends)))


def _labelled(true: Ids, predicted: Ids, n_classes: int = 1000) -> list[np.ndarray]:
    """Return the M positions that have a label, and the true and predicted ids there, each (M,)."""
    given = {"true": np.asarray(true), "predicted": np.asarray(predicted)}
    shapes = [ids.shape for ids in given.values()]
    if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
        raise ValueError(f"true and predicted must both be (N,), got {shapes[0]} and {shapes[1]}")
    known = np.flatnonzero(given["true"] != -100)
    if not known.size:
        raise ValueError("true must hold at least one id other than -100, got none")
    for name, ids in given.items():
        if ids.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold integer class ids, got {ids.dtype}")
        given[name] = ids = ids[known].astype(np.int64)
        if ids.min() < 0 or ids.max() >= n_classes:
            raise ValueError(f"{name} must hold ids from 0 to {n_classes - 1}, "
                             f"got {ids.min()} to {ids.max()}")
    return [known, *given.values()]


def _scores(matrices: np.ndarray, metric: str) -> np.ndarray:
    hits = np.diagonal(matrices, axis1=1, axis2=2)  # (R, K, K) -> (R, K)
    true, predicted = matrices.sum(axis=2), matrices.sum(axis=1)  # (R, K), (R, K)
    if metric == "accuracy":
        return hits.sum(axis=1) / true.sum(axis=1)
    average, score = metric.split("_")
    below = {"precision": predicted, "recall": true, "f1": (true + predicted) / 2}[score]
    own = hits / np.where(below > 0, below, 1)
    return np.average(own, axis=1, weights=true if average == "weighted" else true + predicted > 0)


def evaluate(model: Any, data: Any) -> dict[str, TaskReport]:
    """Score a MultiTaskModel on LabelledSentences, for each classification task that both have."""
    predictions = model.predict(data.sentences)
    shared = [task for task, predicted in predictions.items()
              if predicted.ids is not None and task in data.labels]
    return {task: score_classification(data.labels[task], predictions[task].ids,
                                       model.heads[task].labels) for task in shared}


def linear_probe(train_embeddings: np.ndarray, train_ids: Ids,
                 embeddings: np.ndarray) -> np.ndarray:
    """Predict classes by a logistic regression on frozen embeddings: what a linear head can read.

    Args:
        train_embeddings: (N, D), or a scipy sparse matrix of that shape.
        train_ids: (N,) class ids, -100 for a sentence without label, which is skipped.
        embeddings: (M, D).

    Returns (M,) class ids. Explained in Task_1.ipynb, "What the vectors know".
    """
    ids = np.asarray(train_ids)
    probe = LogisticRegression(max_iter=2000).fit(train_embeddings[ids != -100], ids[ids != -100])
    return probe.predict(embeddings)
