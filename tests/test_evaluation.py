"""Scores against scikit-learn's own, tables, slices, bootstrap intervals and paired tests."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from mtl_helpers.evaluation import (
    METRICS,
    TaskReport,
    bootstrap_interval,
    evaluate,
    paired_test,
    score_classification,
    score_regression,
    score_slices,
)

LABELS = ["negative", "neutral", "positive"]
Pair = tuple[np.ndarray, np.ndarray]


def reference(true: np.ndarray, predicted: np.ndarray, metric: str) -> float:
    """The score that scikit-learn computes for one of METRICS."""
    if metric == "accuracy":
        return metrics.accuracy_score(true, predicted)
    average, score = metric.split("_")
    function = getattr(metrics, f"{score}_score")
    return function(true, predicted, average=average, zero_division=0)


def noisy(n: int, seed: int = 0, share: float = 0.7) -> Pair:
    """True ids of three unequal classes, and predictions of which a share is right."""
    random = np.random.default_rng(seed)
    true = random.choice(3, size=n, p=[0.4, 0.1, 0.5])
    return true, np.where(random.random(n) < share, true, random.integers(0, 3, n))


pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60).map(
    lambda rows: (np.array(rows)[:, 0], np.array(rows)[:, 1])
)


# Reports


def test_a_small_example_worked_by_hand() -> None:
    report = score_classification([0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 2, 0], LABELS)
    assert report.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert report.n == 6 and report.accuracy == pytest.approx(4 / 6)
    assert report.precision == pytest.approx([2 / 3, 1 / 2, 1])
    assert report.recall == pytest.approx([2 / 3, 1, 1 / 2])
    assert report.f1 == pytest.approx([2 / 3, 2 / 3, 2 / 3])
    assert report.macro_precision == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert report.weighted_recall == pytest.approx((3 * 2 / 3 + 1 * 1 + 2 * 1 / 2) / 6)


@given(pair=pairs)
def test_every_score_is_that_of_scikit_learn(pair: Pair) -> None:
    report = score_classification(*pair, labels=list("abcde"))
    for metric in METRICS:
        assert getattr(report, metric) == pytest.approx(reference(*pair, metric), abs=1e-12)
    assert report.confusion.sum() == report.n == len(pair[0])
    counts = metrics.confusion_matrix(*pair, labels=range(5))
    np.testing.assert_array_equal(report.confusion, counts)


def test_sentences_without_label_are_skipped() -> None:
    true, predicted = noisy(200)
    masked = np.where(np.arange(200) % 3 == 0, -100, true)
    kept = masked != -100
    report = score_classification(masked, predicted, LABELS)
    alone = score_classification(true[kept], predicted[kept], LABELS)
    assert report.n == alone.n == int(kept.sum())
    assert str(report) == str(alone)
    np.testing.assert_array_equal(report.confusion, alone.confusion)


def test_what_is_predicted_where_no_label_is_does_not_matter() -> None:
    report = score_classification([0, -100, 1], [0, 99, 1], ["a", "b"])
    assert report.n == 2 and report.accuracy == 1


def test_a_class_that_never_occurs_is_left_out_and_said() -> None:
    true, predicted = noisy(300)
    report = score_classification(true, predicted, [*LABELS, "mixed"])
    without = score_classification(true, predicted, LABELS)
    assert report.macro_f1 == without.macro_f1
    assert np.isnan([report.precision[3], report.recall[3], report.f1[3]]).all()
    assert report.confusion.shape == (4, 4)
    assert "never true: mixed\nnever predicted: mixed" in str(report)
    assert "never" not in str(without)


def test_a_class_that_is_only_predicted_or_only_true_counts_as_in_scikit_learn() -> None:
    report = score_classification([0, 0, 1, 1], [0, 2, 0, 0], LABELS)
    assert report.f1.tolist() == pytest.approx([0.4, 0, 0])
    assert report.macro_f1 == pytest.approx(0.4 / 3)
    assert str(report).endswith("never true: positive\nnever predicted: neutral")


def test_a_single_class_can_be_scored() -> None:
    report = score_classification([1, 1], [1, 1], LABELS)
    assert report.accuracy == report.macro_f1 == report.weighted_f1 == 1


def test_the_table_shows_names_scores_and_counts() -> None:
    report = score_classification(*noisy(1000), LABELS)
    lines = str(report).splitlines()
    assert lines[0].split() == ["precision", "recall", "f1-score", "support"]
    row = next(line.split() for line in lines if line.split()[:1] == ["neutral"])
    own = [report.precision[1], report.recall[1], report.f1[1]]
    assert row[1:] == [*(f"{score:.3f}" for score in own), str(report.confusion[1].sum())]
    assert f"{report.accuracy:.3f}" in str(report) and len(lines) < 10


def test_a_report_cannot_be_changed() -> None:
    report = score_classification(*noisy(10), LABELS)
    assert isinstance(report, TaskReport)
    with pytest.raises(AttributeError):
        report.accuracy = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(("true", "predicted", "error", "message"), [
    ([0, 1], [0], ValueError, r"must both be \(N,\), got \(2,\) and \(1,\)"),
    ([0, 1], [[0.1, 0.9], [0.9, 0.1]], ValueError, r"got \(2,\) and \(2, 2\)"),
    ([[0]], [[0]], ValueError, r"got \(1, 1\)"),
    ([0.0, 1.0], [0, 1], TypeError, "true must hold integer class ids, got float64"),
    ([0, 1], ["negative", "positive"], TypeError, "predicted must hold integer class ids, got <U8"),
    ([0, 3], [0, 1], ValueError, "true must hold ids from 0 to 2, got 0 to 3"),
    ([0, 1], [0, -100], ValueError, "predicted must hold ids from 0 to 2, got -100 to 0"),
    ([-100, -100], [0, 1], ValueError, "at least one id other than -100"),
    ([], [], ValueError, "at least one id other than -100"),
])
def test_ids_that_do_not_fit_are_refused(
    true: list, predicted: list, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        score_classification(true, predicted, LABELS)


@pytest.mark.parametrize("labels", ["negative", ["a", "b", "a"]])
def test_labels_are_checked(labels: list[str]) -> None:
    with pytest.raises(ValueError, match="labels must be a list of different names"):
        score_classification([0, 1], [0, 1], labels)


# Slices


def test_a_slice_is_scored_as_if_it_were_alone() -> None:
    true, predicted = noisy(300)
    true[::7] = -100
    genres = np.array(["tweet", "movie review", "news editorial"])[np.arange(300) ** 2 % 3]
    reports = score_slices(true, predicted, LABELS, genres)
    assert set(reports) == set(genres) == {"tweet", "movie review"}
    for genre, report in reports.items():
        alone = score_classification(true[genres == genre], predicted[genres == genre], LABELS)
        assert str(report) == str(alone) and report.macro_f1 == alone.macro_f1
    assert sum(report.n for report in reports.values()) == (true != -100).sum()


def test_a_slice_without_label_is_left_out_and_one_without_a_class_says_so() -> None:
    slices = [("a", 1), ("b", 2), ("a", 1), ("c", 3)]
    reports = score_slices([0, -100, 2, 1], [0, 99, 2, 1], LABELS, slices)
    assert list(reports) == [("a", 1), ("c", 3)]
    assert reports["a", 1].macro_f1 == 1 and "never true: neutral" in str(reports["a", 1])


def test_slices_are_checked() -> None:
    with pytest.raises(ValueError, match="slices must hold 3 ids, got 2"):
        score_slices([0, 1, 1], [0, 1, 0], LABELS, ["a", "b"])
    with pytest.raises(ValueError, match="ids from 0 to 2, got 0 to 3"):
        score_slices([0, 3], [0, 1], LABELS, ["a", "b"])


# Regression


def test_regression_scores_are_those_of_scipy_and_scikit_learn_without_missing_labels() -> None:
    random = np.random.default_rng(0)
    true = random.normal(size=200).astype(np.float32)
    predicted = (true / 2 + random.normal(size=200)).astype(np.float32)
    masked, wild = true.copy(), predicted.copy()
    masked[::3], wild[::3] = np.nan, np.nan
    report = score_regression(masked, wild)
    kept = true[~np.isnan(masked)], predicted[~np.isnan(masked)]
    assert report.n == len(kept[0])
    assert report.pearson == pytest.approx(stats.pearsonr(*kept).statistic, abs=1e-6)
    expected = metrics.mean_absolute_error(*kept), metrics.mean_squared_error(*kept) ** 0.5
    assert (report.mean_absolute_error, report.rmse) == pytest.approx(expected, rel=1e-6)
    assert str(report) == (f"Pearson r {report.pearson:.3f}, MAE {expected[0]:.3f}, "
                           f"RMSE {expected[1]:.3f}, n {len(kept[0])}")


@pytest.mark.parametrize(("true", "predicted"), [
    ([1.0, 2.0, np.nan], [0.1, 0.1, 5.0]), ([0.1, 0.1], [1.0, 2.0]), ([3.0], [2.0]),
])
def test_a_constant_has_no_correlation_and_the_report_says_so(
    true: list[float], predicted: list[float]
) -> None:
    report = score_regression(np.array(true), np.array(predicted))
    assert math.isnan(report.pearson) and report.rmse > 0
    assert str(report).startswith("Pearson r undefined (constant), MAE ")


@pytest.mark.parametrize(("true", "predicted", "message"), [
    ([1.0, 2.0], [1.0], r"got \(2,\) float64 and \(1,\)"),
    ([1, -100], [1.0, 2.0], r"floats, NaN where missing.* got \(2,\) int64"),
    ([np.nan, np.nan], [1.0, 2.0], "at least one label"),
    ([1.0, 2.0], [1.0, np.nan], r"must be finite, got \[nan\]"),
])
def test_values_that_do_not_fit_are_refused(
    true: list, predicted: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score_regression(np.array(true), np.array(predicted))


# A model


def test_a_model_is_scored_on_each_task_that_has_labels() -> None:
    true, predicted = noisy(60)
    values = np.where(np.arange(60) < 30, true, np.nan).astype(np.float32)
    ids = SimpleNamespace(ids=predicted, values=None)
    predictions = {"sentiment": ids, "genre": ids, "topic": ids,
                   "valence": SimpleNamespace(ids=None, values=predicted.astype(np.float32)),
                   "length": SimpleNamespace(ids=None, values=np.zeros(60))}
    settings = []

    def predict(sentences: list[str], **given: str) -> dict:
        settings.append(given)
        return predictions if sentences == ["A sentence."] * 60 else {}

    heads = {task: SimpleNamespace(labels=LABELS) for task in predictions}
    data = SimpleNamespace(sentences=["A sentence."] * 60, labels={
        "valence": values, "sentiment": true, "genre": np.full(60, -100),
        "length": np.full(60, np.nan), "unknown": true})
    reports = evaluate(SimpleNamespace(predict=predict, heads=heads), data)
    assert list(reports) == ["sentiment", "valence"]
    assert str(reports["sentiment"]) == str(score_classification(true, predicted, LABELS))
    assert reports["valence"] == score_regression(values, predicted.astype(np.float32))
    evaluate(SimpleNamespace(predict=predict, heads=heads), data, dtype="bfloat16")
    assert settings == [{}, {"dtype": "bfloat16"}]


# Intervals


@given(pair=pairs)
def test_the_value_of_an_interval_is_that_of_scikit_learn(pair: Pair) -> None:
    for metric in METRICS:
        interval = bootstrap_interval(*pair, metric, n_resamples=5)
        assert interval.value == pytest.approx(reference(*pair, metric), abs=1e-12)


@pytest.mark.parametrize("by_document", [False, True])
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "weighted_precision"])
def test_an_interval_is_that_of_plain_resampling(metric: str, by_document: bool) -> None:
    true, predicted = noisy(150)
    documents = np.arange(150) // 6 if by_document else np.arange(150)
    rows_of = [np.flatnonzero(documents == document) for document in np.unique(documents)]
    random = np.random.default_rng(1)
    scores = []
    for _ in range(300):
        drawn = random.integers(0, len(rows_of), len(rows_of))
        rows = np.concatenate([rows_of[document] for document in drawn])
        scores.append(reference(true[rows], predicted[rows], metric))
    interval = bootstrap_interval(
        true, predicted, metric, documents if by_document else None, n_resamples=20_000
    )
    assert interval[1:] == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=0.02)


def test_single_sentences_as_documents_give_the_interval_of_sentences() -> None:
    true, predicted = noisy(400)
    plain = bootstrap_interval(true, predicted, n_resamples=5000)
    grouped = bootstrap_interval(true, predicted, groups=list(range(400)), n_resamples=5000)
    assert grouped == pytest.approx(plain, abs=0.005)


def test_sentences_of_one_document_that_are_alike_widen_the_interval() -> None:
    true, predicted = (np.repeat(ids, 10) for ids in noisy(60))
    groups = np.repeat([f"document {i}" for i in range(60)], 10)
    plain = bootstrap_interval(true, predicted, "accuracy")
    grouped = bootstrap_interval(true, predicted, "accuracy", groups)
    assert grouped.high - grouped.low > 2.5 * (plain.high - plain.low)
    assert grouped.value == plain.value


def test_an_interval_covers_the_true_accuracy_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(300):
        right = np.random.default_rng(seed).random(200) < 0.8
        interval = bootstrap_interval(np.ones(200, int), right.astype(int), "accuracy", seed=seed)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.90 < covered / 300 < 0.99


def test_an_interval_repeats_and_follows_its_settings() -> None:
    true, predicted = noisy(500)
    first = bootstrap_interval(true, predicted)
    assert first == bootstrap_interval(true, predicted)
    assert first != bootstrap_interval(true, predicted, seed=1)
    half = bootstrap_interval(true, predicted, confidence=0.5)
    assert first.low < half.low < half.value < half.high < first.high
    assert str(first) == f"{first.value:.3f} [{first.low:.3f}, {first.high:.3f}]"


def test_an_interval_leaves_out_sentences_without_label_and_their_documents() -> None:
    true, predicted = noisy(300)
    masked = np.where(np.arange(300) < 100, -100, true)
    groups = (np.arange(300) ** 2 // 700).tolist()  # documents of different lengths
    alone = bootstrap_interval(true[100:], predicted[100:], groups=groups[100:])
    assert bootstrap_interval(masked, predicted, groups=groups) == alone


def test_a_metric_can_be_a_function_of_confusion_matrices() -> None:
    true, predicted = noisy(300)

    def accuracy(matrices: np.ndarray) -> np.ndarray:
        return np.trace(matrices, axis1=1, axis2=2) / matrices.sum(axis=(1, 2))

    named = bootstrap_interval(true, predicted, "accuracy")
    assert bootstrap_interval(true, predicted, accuracy) == pytest.approx(named, abs=1e-12)


@pytest.mark.parametrize("documents", [None, 3500, 800])
def test_a_thousand_resamples_take_less_than_a_second(documents: int | None) -> None:
    true, predicted = noisy(3500)
    groups = None if documents is None else (np.arange(3500) % documents).tolist()
    start = time.process_time()
    bootstrap_interval(true, predicted, groups=groups)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(("settings", "message"), [
    ({"metric": "f1"}, "metric must be a function or one of .*'macro_f1'.*, got 'f1'"),
    ({"n_resamples": 0}, "n_resamples must be at least 1, got 0"),
    ({"confidence": 95}, "between 0 and 1, got 95"),
    ({"groups": [1, 2]}, "groups must hold 3 ids, got 2"),
])
def test_settings_of_an_interval_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval([0, 1, 1], [0, 1, 0], **settings)


def test_ids_of_an_interval_are_checked() -> None:
    with pytest.raises(TypeError, match="predicted must hold integer class ids"):
        bootstrap_interval([0, 1], [0.2, 0.9])
    with pytest.raises(ValueError, match="ids from 0 to 999, got 0 to 1000"):
        bootstrap_interval([0, 1000], [0, 1])


# Paired tests


def three(n: int = 240, runs: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True ids (N,), and those of a weaker and a better model, (S, N), which err together often."""
    random = np.random.default_rng(5)
    true, weak = noisy(n)
    first = np.where(random.random((runs, n)) < 0.1, true, weak)
    return true, first, np.where(random.random((runs, n)) < 0.3, true, first)


def test_a_model_does_not_differ_from_itself() -> None:
    true, predicted = noisy(200)
    assert paired_test(true, predicted, predicted) == (0, 0, 0, 1)
    runs = np.array([noisy(200, seed)[1] for seed in range(3)])
    assert paired_test(true, runs, runs[::-1])[:3] == pytest.approx((0, 0, 0), abs=1e-15)


@pytest.mark.parametrize("metric", METRICS)
def test_the_difference_is_that_of_the_two_scores(metric: str) -> None:
    true, (first,), (second,) = three()
    result = paired_test(true, first, second, metric, n_resamples=50)
    expected = reference(true, second, metric) - reference(true, first, metric)
    assert result.difference == pytest.approx(expected, abs=1e-12)
    assert result.low < result.high
    back = paired_test(true, second, first, metric, n_resamples=50)
    assert back == pytest.approx(
        (-result.difference, -result.high, -result.low, result.p_value), abs=0.02)


@pytest.mark.parametrize("by_document", [False, True])
@pytest.mark.parametrize("runs", [1, 2])
def test_a_paired_interval_is_that_of_plain_resampling(runs: int, by_document: bool) -> None:
    true, first, second = three(runs=runs)
    documents = np.arange(240) // 8 if by_document else np.arange(240)
    rows_of = [np.flatnonzero(documents == document) for document in np.unique(documents)]
    random = np.random.default_rng(1)
    differences = []
    for _ in range(300):
        drawn = random.integers(0, len(rows_of), len(rows_of))
        rows = np.concatenate([rows_of[document] for document in drawn])
        scores = [np.mean([metrics.f1_score(true[rows], run[rows], average="macro")
                           for run in model]) for model in (first, second)]
        differences.append(scores[1] - scores[0])
    result = paired_test(true, first, second, groups=documents if by_document else None,
                         n_resamples=10_000)
    ends = np.quantile(differences, [0.025, 0.975])
    assert result[1:3] == pytest.approx(ends, abs=0.15 * (ends[1] - ends[0]))


def test_a_better_model_is_found_though_the_intervals_of_the_two_overlap() -> None:
    true, (first,), (second,) = three(600)
    result = paired_test(true, first, second)
    assert result.low > 0 and result.p_value < 1e-4
    assert bootstrap_interval(true, first).high > bootstrap_interval(true, second).low
    assert str(result) == (f"{result.difference:+.3f} [{result.low:+.3f}, {result.high:+.3f}], "
                           f"McNemar p = {result.p_value:.3g}")


@pytest.mark.parametrize(("lost", "won"), [(0, 1), (2, 9), (7, 7), (30, 12)])
def test_the_p_value_is_that_of_a_fair_coin_among_the_sentences_where_one_is_right(
    lost: int, won: int
) -> None:
    first = np.repeat([1, 0, 1, 0, 1], [lost, won, 20, 10, 5])
    second = np.repeat([0, 1, 1, 0, 1], [lost, won, 20, 10, 5])
    true = np.repeat([1, 1, 1, 1, -100], [lost, won, 20, 10, 5])
    n, extreme = lost + won, min(lost, won)
    expected = min(1, 2 * sum(math.comb(n, i) for i in range(extreme + 1)) / 2**n)
    result = paired_test(true, first, second, "accuracy", n_resamples=5)
    assert result.p_value == pytest.approx(expected)
    assert result.difference == pytest.approx((won - lost) / (n + 30))


def test_several_runs_are_averaged_and_have_no_p_value() -> None:
    true, first, second = three(runs=4)
    result = paired_test(true, first, second)
    single = [paired_test(true, *pair).difference for pair in zip(first, second, strict=True)]
    assert result.difference == pytest.approx(np.mean(single))
    assert math.isnan(result.p_value) and "McNemar" not in str(result)
    uneven = paired_test(true, first[0], second, "accuracy")
    expected = (second == true).mean() - (first[0] == true).mean()
    assert uneven.difference == pytest.approx(expected) and math.isnan(uneven.p_value)
    single_run = paired_test(true, first[:1], second[:1])
    assert single_run == paired_test(true, first[0], second[0]) and single_run.p_value <= 1


def test_documents_whose_sentences_are_alike_widen_a_paired_interval() -> None:
    true, (first,), (second,) = (np.repeat(ids, 10, axis=-1) for ids in three(60))
    plain = paired_test(true, first, second, "accuracy")
    grouped = paired_test(true, first, second, "accuracy", np.arange(600) // 10)
    assert grouped.high - grouped.low > 2.5 * (plain.high - plain.low)
    assert grouped.difference == plain.difference


def test_a_paired_test_leaves_out_missing_labels_and_a_class_that_never_occurs() -> None:
    true, (first,), (second,) = three(300)
    groups = (np.arange(300) ** 2 // 700).tolist()
    masked = np.where(np.arange(300) < 100, -100, true)
    alone = paired_test(true[100:], first[100:], second[100:], groups=groups[100:])
    assert paired_test(masked, first, second, groups=groups) == alone
    renamed = np.array([0, 2, 5])  # of six classes, three never occur
    result = paired_test(renamed[true], renamed[first], renamed[second])
    assert result == pytest.approx(paired_test(true, first, second), abs=1e-12)


def test_arguments_of_a_paired_test_are_checked() -> None:
    with pytest.raises(ValueError, match=r"true and second must both be \(N,\), got .* \(3,\)"):
        paired_test([0, 1], [0, 1], [[0, 1, 1]])
    with pytest.raises(TypeError, match="first must hold integer class ids, got float64"):
        paired_test([0, 1], [0.2, 0.9], [0, 1])
    with pytest.raises(ValueError, match="metric must be a function or one of"):
        paired_test([0, 1], [0, 1], [0, 1], metric="f1")
