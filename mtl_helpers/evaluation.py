"""Scores with bootstrap intervals, on scikit-learn."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from sklearn import metrics

if TYPE_CHECKING:
    import torch

    from .data import LabelledSentences
    from .model import MultiTaskModel

Ids = Sequence[int] | np.ndarray
Groups = Sequence[Hashable] | np.ndarray


class Report:
    """What all reports have: the score that selects weights, and those of a history."""
    lead: ClassVar[str]
    kept: ClassVar[tuple[str, ...]]

    @property
    def headline(self) -> tuple[str, float]:
        return self.lead, getattr(self, self.lead)

    def scores(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self.kept}


@dataclass(frozen=True, eq=False)
class TaskReport(Report):
    """Scores of one task over n labelled sentences; printing it shows a table."""
    labels: tuple[str, ...]  # K names
    n: int
    accuracy: float
    macro_precision: float  # macro: classes that are true or predicted somewhere count alike
    macro_recall: float
    macro_f1: float
    weighted_precision: float  # weighted: they count by their sentences
    weighted_recall: float
    weighted_f1: float
    precision: np.ndarray  # (K,), NaN for a class that is nowhere true or predicted
    recall: np.ndarray  # (K,)
    f1: np.ndarray  # (K,)
    confusion: np.ndarray  # (K, K) counts: a row a true class, a column a predicted one
    table: str

    lead, kept = "macro_f1", ("accuracy", "macro_precision", "macro_recall", "macro_f1")

    def __str__(self) -> str:
        lines = [self.table.rstrip()]
        for kind, axis in (("true", 1), ("predicted", 0)):
            for i in np.flatnonzero(self.confusion.sum(axis=axis) == 0):
                lines.append(f"never {kind}: {self.labels[i]}")
        return "\n".join(lines)


@dataclass(frozen=True)
class RegressionReport(Report):
    """Scores of one regression task over n labelled sentences, errors in the label's unit."""
    n: int
    pearson: float  # NaN where the labels or the predictions are constant
    mean_absolute_error: float
    rmse: float

    lead, kept = "pearson", ("pearson", "mean_absolute_error")


@dataclass(frozen=True, eq=False)
class MultiLabelReport(Report):
    """Scores of a task of any of L labels, over the known entries of n labelled sentences."""
    labels: tuple[str, ...]  # L names
    n: int
    precision: np.ndarray  # (L,), NaN for a label that is missing everywhere
    recall: np.ndarray  # (L,)
    f1: np.ndarray  # (L,)
    macro_precision: float  # macro: labels count alike
    macro_recall: float
    macro_f1: float
    micro_precision: float  # micro: all entries count alike
    micro_recall: float
    micro_f1: float

    lead, kept = "macro_f1", ("macro_f1", "micro_f1")


@dataclass(frozen=True)
class SimilarityReport(Report):
    """How near n predicted vectors are to those they were to stay near."""
    n: int
    mean_cosine: float

    lead, kept = "mean_cosine", ("mean_cosine",)


class Interval(NamedTuple):
    """A score and the ends of its 95 % interval."""
    value: float
    low: float
    high: float


def is_known(labels: np.ndarray) -> np.ndarray:
    """Mask (N,) of the sentences that have a label, of (N,) or any entry of (N, L)."""
    known = ~np.isnan(labels) if labels.dtype.kind == "f" else labels != -100
    return known.any(axis=1) if labels.ndim == 2 else known


def labelled(true: Ids, predicted: Ids, classes: float, *more: np.ndarray) -> list[np.ndarray]:
    """Check ids (N,) and (N, ...), return these and more of the M sentences with a label."""
    ids, guesses = np.asarray(true), np.asarray(predicted)
    known = is_known(ids)
    if ids.shape != guesses.shape[:1] or not known.any():
        raise ValueError("true must be (N,), not all missing, for N predictions, got "
                         f"{ids.shape} with {known.sum()} labels for {guesses.shape}")
    for name, given in (("true", ids[known]), ("predicted", guesses[known])):
        if given.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold integer class ids, got {given.dtype}")
        if given.min() < 0 or given.max() >= classes:
            raise ValueError(f"{name} must hold ids from 0 to {classes - 1}, "
                             f"got {given.min()} to {given.max()}")
    return [rows[known] for rows in (ids, guesses, *more)]


def score_classification(true: Ids, predicted: Ids, labels: Sequence[str]) -> TaskReport:
    """Compare predicted with true class ids. Explained in Task_1.ipynb, section 1.7.

    Args:
        true, predicted: (N,) ids in 0 .. K-1; a sentence whose true id is -100 is skipped.
        labels: K class names in the order of their ids.
    """
    if isinstance(labels, str) or len(set(labels)) != len(labels):
        raise ValueError(f"labels must be a list of different names, got {labels!r}")
    pair = labelled(true, predicted, len(labels))
    score, present = metrics.precision_recall_fscore_support, np.union1d(*pair).astype(int)
    own = np.full((3, len(labels)), np.nan)
    own[:, present] = score(*pair, labels=present, zero_division=0)[:3]
    macro = np.array(score(*pair, average="macro", zero_division=0)[:3])
    weighted = np.array(score(*pair, average="weighted", zero_division=0)[:3])
    confusion = metrics.confusion_matrix(*pair, labels=range(len(labels)))
    table = metrics.classification_report(*pair, labels=present, digits=3, zero_division=0,
                                          target_names=[labels[i] for i in present])
    rest = [*macro.tolist(), *weighted.tolist(), *own, confusion, table]  # in its order
    return TaskReport(tuple(labels), len(pair[0]), float(metrics.accuracy_score(*pair)), *rest)


def score_regression(true: np.ndarray, predicted: np.ndarray) -> RegressionReport:
    """Compare values (N,) with true ones: floats, NaN in true where there is no label."""
    labels, values = np.asarray(true), np.asarray(predicted)
    if labels.ndim != 1 or labels.shape != values.shape or labels.dtype.kind != "f":
        raise ValueError("true must be (N,) floats, NaN where missing, and predicted (N,), "
                         f"got {labels.shape} {labels.dtype} and {values.shape}")
    pair = np.array([labels, values], dtype=np.float64)[:, is_known(labels)]  # (2, M)
    if not pair.size or not np.isfinite(pair).all():
        raise ValueError("true must hold a label, and labels and their predictions be finite, "
                         f"got {pair[~np.isfinite(pair)]}")
    pearson = np.corrcoef(*pair)[0, 1] if np.ptp(pair, axis=1).all() else np.nan
    errors = metrics.mean_absolute_error(*pair), metrics.root_mean_squared_error(*pair)
    return RegressionReport(pair.shape[1], float(pearson), *map(float, errors))


def score_multilabel(true: np.ndarray, predicted: np.ndarray,
                     labels: Sequence[str]) -> MultiLabelReport:
    """Compare 0 and 1 (N, L) with true ones, of which entries may be NaN, for missing."""
    known = ~np.isnan(true)

    def score(entries: np.ndarray, guesses: np.ndarray) -> np.ndarray:
        return np.array(metrics.precision_recall_fscore_support(
            entries, guesses, average="binary", zero_division=0)[:3])

    own = np.full((3, len(labels)), np.nan)
    for i in np.flatnonzero(known.any(axis=0)):
        own[:, i] = score(true[known[:, i], i], predicted[known[:, i], i])
    macro, micro = np.nanmean(own, axis=1), score(true[known], predicted[known])
    return MultiLabelReport(tuple(labels), int(known.any(axis=1).sum()), *own,
                            *macro.tolist(), *micro.tolist())


def score_similarity(true: np.ndarray, predicted: np.ndarray) -> SimilarityReport:
    """Compare vectors (N, D) with true ones, of which a row of NaN is missing."""
    known = is_known(true)
    distances = metrics.pairwise.paired_cosine_distances(true[known], predicted[known])
    return SimilarityReport(len(distances), float(1 - distances.mean()))


def evaluate(model: "MultiTaskModel", data: "LabelledSentences",
             dtype: "torch.dtype | None" = None,
             tokens_per_batch: int | None = None) -> dict[str, Report]:
    """Score every task that has a label in the data; the rest, if given, goes to `predict`.

    A ValueError says which labels do not fit the head of their task.
    """
    heads: Any = model.heads
    labels = {}
    for task, given in data.labels.items():
        if task in heads and is_known(given).any():
            names = data.names.get(task)
            labels[task] = heads[task].take_labels(task, given, len(given), names).numpy()
    settings: dict[str, Any] = {"dtype": dtype, "tokens_per_batch": tokens_per_batch}
    settings = {name: value for name, value in settings.items() if value}
    predictions = model.predict(data.sentences, **settings)
    reports: dict[str, Report] = {}
    for task, found in predictions.items():
        if task not in labels:
            continue
        true, vectors = labels[task], labels[task].ndim == 2
        if found.ids is not None:
            score: Any = score_multilabel if vectors else score_classification
            reports[task] = score(true, found.ids, heads[task].labels)
        else:
            score = score_similarity if vectors else score_regression
            reports[task] = score(true, found.values)
    return reports


def bootstrap_interval(true: Ids, predicted: Ids, metric: str = "macro_f1",
                       groups: Groups | None = None, n_resamples: int = 1000,
                       seed: int = 0) -> Interval:
    """Return a score with its 95 % percentile bootstrap interval (Efron, 1979).

    With many rare classes, of which each draw lacks some, macro-F1 is biased downwards, and
    its interval can lie below the score.

    Args:
        true, predicted: (N,) ids, as in `score_classification`.
        metric: "accuracy" or "macro_f1".
        groups: N document ids, to draw whole documents; None draws single sentences.
        n_resamples, seed: R draws with replacement, and the seed of them.
    """
    scores = resampled_scores(true, [predicted], metric, groups, n_resamples, seed)[:, 0]
    ends = np.quantile(scores[1:], [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return Interval(float(scores[0]), *ends.tolist())


def resampled_scores(true: Ids, runs: Sequence[Ids], metric: str, groups: Groups | None = None,
                     n_resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Score S runs on all N sentences, then on R draws, the same for all runs: (1 + R, S)."""
    if metric not in ("accuracy", "macro_f1") or n_resamples < 1:
        raise ValueError("metric must be accuracy or macro_f1 and n_resamples at least 1, "
                         f"got {metric!r} and {n_resamples}")
    ids = np.column_stack(labelled(true, np.stack(runs, axis=1), np.inf)).astype(int)
    if groups is None:  # sentences that are alike in all runs make one unit
        ids, sizes = np.unique(ids, axis=0, return_counts=True)
        units = np.arange(len(sizes))
    else:
        if len(groups) != len(true):
            raise ValueError(f"groups must hold {len(true)} ids, got {len(groups)}")
        order: dict[Hashable, int] = {}
        known = zip(groups, is_known(np.asarray(true)), strict=True)
        units = np.array([order.setdefault(name, len(order)) for name, has in known if has])
        sizes = np.ones(len(order), dtype=int)
    actual, *guesses = ids.T
    random, scores, times = np.random.default_rng(seed), [], sizes  # (U,): first, each once
    for _ in range(1 + n_resamples):
        scores.append([_score(actual, guess, times[units], metric) for guess in guesses])
        times = random.multinomial(sizes.sum(), sizes / sizes.sum())
    return np.array(scores)


def _score(true: np.ndarray, predicted: np.ndarray, times: np.ndarray, metric: str) -> float:
    """A score of ids (M,), each of which counts some `times` (M,)."""
    hit = true == predicted
    right = np.bincount(true[hit], times[hit], 1 + max(true.max(), predicted.max()))  # (K,)
    seen = np.bincount(true, times, len(right)) + np.bincount(predicted, times, len(right))
    if metric == "accuracy":
        return 2 * right.sum() / seen.sum()
    return np.average(2 * right / np.maximum(seen, 1), weights=seen > 0)
