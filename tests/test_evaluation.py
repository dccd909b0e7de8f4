"""Reports and intervals: against scikit-learn, loops and by hand."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics
from tiny import make_data, make_model

from mtl_helpers.evaluation import (
    bootstrap_interval,
    evaluate,
    score_classification,
    score_regression,
)

LABELS = ["negative", "neutral", "positive"]
FIELDS = ("accuracy", "macro_precision", "macro_recall", "macro_f1",
          "weighted_precision", "weighted_recall", "weighted_f1")
METRICS = ("accuracy", "macro_f1")


def reference(true, predicted, field):
    """The score that scikit-learn computes for one of FIELDS."""
    if field == "accuracy":
        return metrics.accuracy_score(true, predicted)
    average, score = field.split("_")
    function = getattr(metrics, f"{score}_score")
    return function(true, predicted, average=average, zero_division=0)


def noisy(n, seed=0, share=0.7):
    """True ids of three unequal classes, and predictions of which a share is right."""
    random = np.random.default_rng(seed)
    true = random.choice(3, size=n, p=[0.4, 0.1, 0.5])
    return true, np.where(random.random(n) < share, true, random.integers(0, 3, n))


@settings(max_examples=40)
@given(pair=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60).map(
    lambda rows: np.transpose(rows)))
def test_every_score_is_that_of_scikit_learn_over_what_is_labelled(pair):
    masked = np.append(pair[0], [-100, -100]), np.append(pair[1], [99, 0])
    report = score_classification(*masked, labels=list("abcde"))
    for field in FIELDS:
        assert getattr(report, field) == pytest.approx(reference(*pair, field), abs=1e-12)
        assert type(getattr(report, field)) is float
    counts = metrics.confusion_matrix(*pair, labels=range(5))
    np.testing.assert_array_equal(report.confusion, counts)
    own = np.array(metrics.precision_recall_fscore_support(
        *pair, labels=range(5), zero_division=0)[:3])
    own[:, counts.sum(axis=0) + counts.sum(axis=1) == 0] = np.nan
    np.testing.assert_allclose([report.precision, report.recall, report.f1], own)
    assert report.confusion.sum() == report.n == len(pair[0])
    assert report.headline == ("macro_f1", report.macro_f1)
    assert report.scores() == {field: getattr(report, field) for field in FIELDS[:4]}
    for metric in METRICS:
        interval = bootstrap_interval(*masked, metric, n_resamples=5)
        assert interval.value == pytest.approx(getattr(report, metric), abs=1e-12)


def test_the_table_shows_names_scores_and_counts_and_what_never_occurs():
    report, without = (score_classification(*noisy(1000), labels)
                       for labels in ([*LABELS, "mixed"], LABELS))
    assert report.macro_f1 == without.macro_f1
    assert "never true: mixed\nnever predicted: mixed" in str(report)
    lines = str(without).splitlines()
    assert lines[0].split() == ["precision", "recall", "f1-score", "support"]
    row = next(line.split() for line in lines if line.split()[:1] == ["neutral"])
    own = [report.precision[1], report.recall[1], report.f1[1]]
    assert row[1:] == [*(f"{score:.3f}" for score in own), str(report.confusion[1].sum())]
    assert f"{report.accuracy:.3f}" in str(without) and len(lines) < 10
    assert "never" not in str(without)
    report = score_classification([0, 0, 1, 1], [0, 2, 0, 0], LABELS)
    assert str(report).endswith("never true: positive\nnever predicted: neutral")


def test_regression_scores_are_those_of_scipy_and_scikit_learn_where_labelled():
    random = np.random.default_rng(0)
    true = random.normal(size=200).astype(np.float32)
    predicted = (true / 2 + random.normal(size=200)).astype(np.float32)
    true[1] = -100  # of values, one like others
    masked, wild = true.copy(), predicted.copy()
    masked[::3], wild[::3] = np.nan, np.nan
    report, known = score_regression(masked, wild), ~np.isnan(masked)
    kept = true[known], predicted[known]
    assert report.n == len(kept[0])
    assert report.pearson == pytest.approx(stats.pearsonr(*kept).statistic, abs=1e-6)
    expected = metrics.mean_absolute_error(*kept), metrics.mean_squared_error(*kept) ** 0.5
    assert (report.mean_absolute_error, report.rmse) == pytest.approx(expected, rel=1e-6)
    assert report.headline == ("pearson", report.pearson)
    assert report.scores() == {"pearson": report.pearson,
                               "mean_absolute_error": report.mean_absolute_error}


def test_a_constant_has_no_correlation():
    for true, predicted in (([1.0, 2.0, np.nan], [0.1, 0.1, 5.0]), ([0.1, 0.1], [1.0, 2.0]),
                            ([3.0], [2.0])):
        report = score_regression(np.array(true), np.array(predicted))
        assert math.isnan(report.pearson) and report.rmse > 0


def test_a_model_is_scored_on_each_task_that_has_labels():
    model, data, passed = make_model(), make_data(), []
    data.labels = {"unknown": data.labels["genre"], "unused": np.full(37, -100),
                   **dict(reversed(data.labels.items()))}
    predict = model.predict
    predicted = predict(data.sentences)
    model.predict = lambda sentences, **given: passed.append(given) or predict(sentences)
    reports = evaluate(model, data)
    assert list(reports) == ["genre", "sentiment", "valence"]  # as the heads come
    for task in ("genre", "sentiment"):
        ids, names = predicted[task].ids, model.heads[task].labels
        assert str(reports[task]) == str(score_classification(data.labels[task], ids, names))
    values = predicted["valence"].values
    assert reports["valence"] == score_regression(data.labels["valence"], values)
    evaluate(model, data, dtype="bfloat16")
    assert passed == [{}, {"dtype": "bfloat16"}]


@pytest.mark.parametrize("by_document", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_an_interval_is_that_of_plain_resampling(metric, by_document):
    true, predicted = (np.repeat(ids, 6) for ids in noisy(40))  # all of a document are alike
    documents = np.arange(240) // 6 if by_document else np.arange(240)
    rows_of = [np.flatnonzero(documents == document) for document in np.unique(documents)]
    random = np.random.default_rng(1)
    scores = []
    for _ in range(1000):
        chosen = random.integers(0, len(rows_of), len(rows_of))
        rows = np.concatenate([rows_of[document] for document in chosen])
        scores.append(reference(true[rows], predicted[rows], metric))
    groups = [("document", document) for document in documents] if by_document else None
    interval = bootstrap_interval(true, predicted, metric, groups, n_resamples=20_000)
    assert interval[1:] == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=0.014)
    assert interval.value == pytest.approx(reference(true, predicted, metric))


def test_many_classes_need_little_memory():
    true = np.random.default_rng(0).integers(0, 5000, 20_000)
    predicted = np.where(np.arange(20_000) % 4, true, 0)
    tracemalloc.start()
    interval = bootstrap_interval(true, predicted, "accuracy", np.arange(20_000) // 2, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert interval.low < 0.75 < interval.high and peak < 100e6


def test_an_interval_repeats_and_follows_its_seed():
    first, again, other = (bootstrap_interval(*noisy(500), seed=seed) for seed in (0, 0, 1))
    assert first == again != other and first.low < first.value < first.high
    one = bootstrap_interval(*noisy(500), n_resamples=1)
    assert one.low == one.high != one.value == first.value


def test_an_interval_leaves_out_sentences_without_label_and_their_documents():
    true, predicted = noisy(300)
    masked = np.where(np.arange(300) < 100, -100, true)
    groups = (np.arange(300) ** 2 // 700).tolist()  # documents of different lengths
    alone = bootstrap_interval(true[100:], predicted[100:], groups=groups[100:])
    assert bootstrap_interval(masked, predicted, groups=groups) == alone
