"""Scores per task, class and slice by scikit-learn; bootstrap intervals and paired tests."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit

Ids = Sequence[int] | np.ndarray
Groups = Sequence[Hashable] | np.ndarray
Metric = str | Callable[[np.ndarray], np.ndarray]
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


@dataclass(frozen=True)
class RegressionReport:
    """Scores of one regression task over n labelled sentences; errors are in units of the label."""
    n: int
    pearson: float  # NaN where the labels or the predictions are constant
    mean_absolute_error: float
    rmse: float

    def __str__(self) -> str:
        pearson = "undefined (constant)" if np.isnan(self.pearson) else f"{self.pearson:.3f}"
        return (f"Pearson r {pearson}, MAE {self.mean_absolute_error:.3f}, RMSE {self.rmse:.3f}, "
                f"n {self.n}")


class Interval(NamedTuple):
    """A score and the ends of its confidence interval."""
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class PairedTest(NamedTuple):
    """Score of a second model minus that of a first one, its interval, and McNemar's p-value."""
    difference: float
    low: float
    high: float
    p_value: float  # NaN where a model has several runs

    def __str__(self) -> str:
        shown = f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return shown if np.isnan(self.p_value) else f"{shown}, McNemar p = {self.p_value:.3g}"


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
    pair = _labelled(true, predicted, len(labels))
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


def score_slices(true: Ids, predicted: Ids, labels: Sequence[str],
                 slices: Groups) -> dict[Hashable, TaskReport]:
    """Return a report for each slice, such as each genre, that has a label.

    Arguments and errors are those of `score_classification`; `slices` holds N names.
    Explained in Task_4.ipynb, "Where it errs".
    """
    actual, guess = _labelled(true, predicted, len(labels))
    names, numbers = _numbered("slices", slices, true)
    return {name: score_classification(actual[numbers == i], guess[numbers == i], labels)
            for i, name in enumerate(names)}


def score_regression(true: np.ndarray, predicted: np.ndarray) -> RegressionReport:
    """Compare predicted values (N,) with true ones (N,): floats, NaN where there is no label.

    Raises:
        ValueError: If shapes or types differ, a value is infinite or no sentence has a label.
    """
    pair = np.asarray(true), np.asarray(predicted)
    if pair[0].ndim != 1 or pair[0].shape != pair[1].shape or pair[0].dtype.kind != "f":
        raise ValueError("true must be (N,) floats, NaN where missing, and predicted (N,), got "
                         f"{pair[0].shape} {pair[0].dtype} and {pair[1].shape}")
    values = np.array(pair, dtype=np.float64)[:, ~np.isnan(pair[0])]  # (2, N) -> (2, M)
    if not values.size or not np.isfinite(values).all():
        raise ValueError("true must hold at least one label, and all labels and their predictions "
                         f"must be finite, got {values[~np.isfinite(values)]}")
    pearson = float(np.corrcoef(*values)[0, 1]) if np.ptp(values, axis=1).all() else float("nan")
    return RegressionReport(n=values.shape[1], pearson=pearson,
                            mean_absolute_error=float(metrics.mean_absolute_error(*values)),
                            rmse=float(metrics.root_mean_squared_error(*values)))


def bootstrap_interval(true: Ids, predicted: Ids, metric: Metric = "macro_f1",
                       groups: Groups | None = None, n_resamples: int = 1000,
                       confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return a score with its percentile bootstrap interval (Efron, 1979).

    Args:
        true, predicted: (N,) ids, as in `score_classification`.
        metric: one of METRICS, or a function from confusion matrices (R, K, K) to scores (R,).
        groups: N document ids, to draw whole documents; None draws single sentences.
        n_resamples, seed: R draws with replacement, and the seed of them.
        confidence: share of the resampled scores between the two ends.

    Raises:
        TypeError, ValueError: If ids are not integers, or another argument is not valid.
    """
    scores = _resampled(true, [("predicted", predicted)], metric, groups, n_resamples, seed)
    return _interval(scores[:, 0], confidence)


def paired_test(true: Ids, first: Ids, second: Ids, metric: Metric = "macro_f1",
                groups: Groups | None = None, n_resamples: int = 1000, confidence: float = 0.95,
                seed: int = 0) -> PairedTest:
    """Say how much higher a second model scores than a first one on the same sentences.

    Every draw of the bootstrap is the same for both models. Runs of a model are averaged within a
    draw: the interval is about the choice of test sentences, not about how much runs differ. The
    p-value is that of McNemar's exact test (1947) that both are right equally often; it takes
    sentences as independent. Explained in Task_4.ipynb, "Does it help".

    Args:
        first, second: (N,) predicted ids, or (S, N) for S runs; the rest as `bootstrap_interval`.
    """
    models = {"first": np.atleast_2d(first), "second": np.atleast_2d(second)}  # (S, N) each
    runs = [(name, run) for name, ids in models.items() for run in ids]
    scores = _resampled(true, runs, metric, groups, n_resamples, seed)  # (1 + R, 2S)
    s = len(models["first"])
    differences = scores[:, s:].mean(axis=1) - scores[:, :s].mean(axis=1)  # (1 + R,)
    p_value = float("nan")
    if len(runs) == 2:
        was, now = (np.equal(*_labelled(true, run)) for _, run in runs)  # (M,) bool: who is right
        won, lost = (now > was).sum(), (was > now).sum()
        p_value = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return PairedTest(*_interval(differences, confidence), p_value)


def _resampled(true: Ids, runs: Sequence[tuple[str, Ids]], metric: Metric,
               groups: Groups | None, n_resamples: int, seed: int) -> np.ndarray:
    """Return the scores of S named runs on all sentences, then on each of R draws: (1 + R, S)."""
    if not (callable(metric) or metric in METRICS):
        raise ValueError(f"metric must be a function or one of {METRICS}, got {metric!r}")
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples}")
    labelled = [_labelled(true, run, name=name) for name, run in runs]
    actual, guesses = labelled[0][0], np.array([guess for _, guess in labelled])  # (M,), (S, M)
    k = int(max(actual.max(), guesses.max())) + 1
    cells = k * actual + guesses  # (S, M) positions in a flat confusion matrix
    if groups is None:  # sentences that are alike in all runs make one unit
        cells, sizes = np.unique(cells, axis=1, return_counts=True)
        units = np.arange(len(sizes))
    else:
        names, units = _numbered("groups", groups, true)
        sizes = np.ones(len(names), dtype=int)
    drawn = np.random.default_rng(seed).multinomial(sizes.sum(), sizes / sizes.sum(), n_resamples)
    times = np.vstack([sizes, drawn]).astype(float)  # (1 + R, U)
    scores = []
    for row in cells:
        counts = np.bincount(k * k * units + row, minlength=k * k * len(sizes))
        matrices = (times @ counts.reshape(-1, k * k)).reshape(-1, k, k)  # (1 + R, K, K)
        scores.append(metric(matrices) if callable(metric) else _scores(matrices, metric))
    return np.stack(scores, axis=1)


def _interval(scores: np.ndarray, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    ends = np.quantile(scores[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(*map(float, (scores[0], *ends)))


def _numbered(argument: str, names: Groups, true: Ids) -> tuple[list[Hashable], np.ndarray]:
    """Return the names of the M labelled sentences, and the number (M,) of each one's name."""
    if len(names) != len(true):
        raise ValueError(f"{argument} must hold {len(true)} ids, got {len(names)}")
    order: dict[Hashable, int] = {}
    known = (name for name, label in zip(names, true, strict=True) if label != -100)
    numbers = np.array([order.setdefault(name, len(order)) for name in known])
    return list(order), numbers


def _labelled(true: Ids, predicted: Ids, n_classes: int = 1000,
              name: str = "predicted") -> list[np.ndarray]:
    """Return the true and the predicted ids of the M sentences that have a label, each (M,)."""
    given = {"true": np.asarray(true), name: np.asarray(predicted)}
    shapes = [ids.shape for ids in given.values()]
    if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
        raise ValueError(f"true and {name} must both be (N,), got {shapes[0]} and {shapes[1]}")
    known = given["true"] != -100
    if not known.any():
        raise ValueError("true must hold at least one id other than -100, got none")
    for name, ids in given.items():
        if ids.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold integer class ids, got {ids.dtype}")
        given[name] = ids = ids[known].astype(np.int64)
        if ids.min() < 0 or ids.max() >= n_classes:
            raise ValueError(f"{name} must hold ids from 0 to {n_classes - 1}, "
                             f"got {ids.min()} to {ids.max()}")
    return list(given.values())


def _scores(matrices: np.ndarray, metric: str) -> np.ndarray:
    hits = np.diagonal(matrices, axis1=1, axis2=2)  # (R, K, K) -> (R, K)
    true, predicted = matrices.sum(axis=2), matrices.sum(axis=1)  # (R, K), (R, K)
    if metric == "accuracy":
        return hits.sum(axis=1) / true.sum(axis=1)
    average, score = metric.split("_")
    below = {"precision": predicted, "recall": true, "f1": (true + predicted) / 2}[score]
    own = hits / np.where(below > 0, below, 1)
    return np.average(own, axis=1, weights=true if average == "weighted" else true + predicted > 0)


def evaluate(model: Any, data: Any, dtype: Any = None) -> dict[str, Any]:
    """Score a MultiTaskModel on LabelledSentences: {task: TaskReport or RegressionReport}.

    A task without any label in the data is left out. `dtype`, if given, goes on to `predict`.
    """
    settings, reports = {"dtype": dtype} if dtype else {}, dict[str, Any]()
    for task, predicted in model.predict(data.sentences, **settings).items():
        true = data.labels.get(task, np.array([]))
        if (np.isnan(true) if true.dtype.kind == "f" else true == -100).all():
            continue
        reports[task] = (score_regression(true, predicted.values) if predicted.ids is None else
                         score_classification(true, predicted.ids, model.heads[task].labels))
    return reports


def linear_probe(train_embeddings: np.ndarray, train_ids: Ids,
                 embeddings: np.ndarray) -> np.ndarray:
    """Predict classes by a logistic regression on frozen embeddings: what a linear head can read.

    The strength of its regularisation is the one of four that is best on a held-out quarter.

    Args:
        train_embeddings: (N, D), or a scipy sparse matrix of that shape.
        train_ids: (N,) class ids, -100 for a sentence without label, which is skipped.
        embeddings: (M, D), whose class ids (M,) are returned.

    Explained in Task_1.ipynb, "What the vectors know".
    """
    known = np.asarray(train_ids) != -100
    probe = GridSearchCV(
        LogisticRegression(max_iter=2000), {"C": [0.1, 1, 10, 100]}, scoring="f1_macro",
        cv=StratifiedShuffleSplit(1, test_size=0.25, random_state=0), error_score="raise")
    return probe.fit(train_embeddings[known], np.asarray(train_ids)[known]).predict(embeddings)
