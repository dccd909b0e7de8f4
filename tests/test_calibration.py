"""Reliability, calibration error, Brier score and temperature against scikit-learn and by hand."""

from __future__ import annotations

from inspect import signature

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from mtl_helpers.calibration import (
    apply_temperature,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    reliability,
)

FUNCTIONS = [reliability, expected_calibration_error, brier_score, fit_temperature]


def drawn(n: int = 5000, k: int = 4, sharpness: float = 2, seed: int = 0) -> tuple:
    """Logits (N, K), and labels (N,) drawn from their softmax: calibrated by construction."""
    random = np.random.default_rng(seed)
    logits = sharpness * random.normal(size=(n, k))
    cumulative = softmax(logits, axis=1).cumsum(axis=1)
    true = (random.random((n, 1)) > cumulative[:, :-1]).sum(axis=1)  # (N, K - 1) -> (N,)
    return logits, true


# Reliability and its error


@pytest.mark.parametrize("n_bins", [1, 5, 10, 15])
def test_reliability_is_the_calibration_curve_of_scikit_learn(n_bins: int) -> None:
    logits, true = drawn(k=2)
    probabilities = softmax(2 * logits, axis=1)
    bins = reliability(true, probabilities, n_bins)
    right = probabilities.argmax(axis=1) == true
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=n_bins)
    filled = bins.counts > 0
    np.testing.assert_allclose(bins.accuracy[filled], accuracy)
    np.testing.assert_allclose(bins.confidence[filled], confidence)
    assert np.isnan(bins.accuracy[~filled]).all() and np.isnan(bins.confidence[~filled]).all()
    assert bins.counts.sum() == 5000 and len(bins.edges) == n_bins + 1 == len(bins.counts) + 1


@pytest.mark.parametrize("factor", [0.5, 1, 3])
def test_the_calibration_error_is_that_of_a_plain_loop(factor: float) -> None:
    logits, true = drawn(n=700)
    probabilities = softmax(factor * logits, axis=1).astype(np.float32)
    total = 0.0
    for b in range(15):
        inside = [(max(row), int(row.argmax() == label))
                  for row, label in zip(probabilities.tolist(), true, strict=True)
                  for row in [np.array(row)] if b / 15 < max(row) <= (b + 1) / 15]
        if inside:
            confidence, right = np.mean(inside, axis=0)
            total += len(inside) / 700 * abs(confidence - right)
    assert expected_calibration_error(true, probabilities, n_bins=15) == pytest.approx(total)


def test_a_small_example_worked_by_hand() -> None:
    probabilities = np.array([[0.55, 0.45], [0.42, 0.58], [0.95, 0.05], [1, 0], [0.5, 0.5]])
    bins = reliability([1, 1, 0, 0, 0], probabilities)
    assert bins.counts.tolist() == [0, 0, 0, 0, 1, 2, 0, 0, 0, 2]  # 0.5 is in the bin below it
    assert bins.confidence[[4, 5, 9]] == pytest.approx([0.5, 0.565, 0.975])
    assert bins.accuracy[[4, 5, 9]] == pytest.approx([1, 0.5, 1])
    error = expected_calibration_error([1, 1, 0, 0, 0], probabilities)
    assert error == pytest.approx((1 * 0.5 + 2 * 0.065 + 2 * 0.025) / 5)


def test_calibrated_predictions_have_a_small_error_and_sharpened_ones_a_large_one() -> None:
    logits, true = drawn(n=20_000)
    assert expected_calibration_error(true, softmax(logits, axis=1)) < 0.01
    assert expected_calibration_error(true, softmax(3 * logits, axis=1)) > 0.1


# Brier score


def test_the_brier_score_is_twice_scikit_learns_for_two_classes() -> None:
    logits, true = drawn(n=300, k=2)
    probabilities = softmax(logits, axis=1)
    binary = brier_score_loss(true, probabilities[:, 1])
    assert brier_score(true, probabilities) == pytest.approx(2 * binary)


@pytest.mark.skipif("scale_by_half" not in signature(brier_score_loss).parameters,
                    reason="scikit-learn has no multiclass Brier score before 1.7")
def test_the_brier_score_is_scikit_learns_for_several_classes() -> None:
    logits, true = drawn(n=300)
    probabilities = softmax(logits, axis=1)
    expected = brier_score_loss(true, probabilities, labels=range(4), scale_by_half=False)
    assert brier_score(true, probabilities) == pytest.approx(expected)


def test_the_brier_score_goes_from_0_to_2() -> None:
    assert brier_score([0, 2], np.eye(3)[[0, 2]]) == 0
    assert brier_score([0, 2], np.eye(3)[[1, 0]]) == 2


# Temperature


@pytest.mark.parametrize("factor", [0.4, 1, 2.5])
def test_logits_that_were_scaled_are_brought_back(factor: float) -> None:
    logits, true = drawn(n=20_000)
    scaled = softmax(factor * logits, axis=1).astype(np.float32)
    temperature = fit_temperature(true, scaled)
    assert temperature == pytest.approx(factor, rel=0.03)
    back = apply_temperature(scaled, temperature)
    assert np.array_equal(back.argmax(axis=1), scaled.argmax(axis=1))
    assert expected_calibration_error(true, back) < 0.015
    np.testing.assert_allclose(back, softmax(logits * factor / temperature, axis=1), atol=1e-5)


def test_the_temperature_has_the_least_log_loss() -> None:
    logits, true = drawn(n=500, seed=3)
    probabilities = softmax(1.7 * logits, axis=1)
    best = fit_temperature(true, probabilities)
    losses = [log_loss(true, apply_temperature(probabilities, best * factor), labels=range(4))
              for factor in (0.98, 1, 1.02)]
    assert losses[1] == min(losses) < log_loss(true, probabilities, labels=range(4))


@pytest.mark.skipif("temperature" not in str(CalibratedClassifierCV.__doc__),
                    reason="scikit-learn has no temperature scaling before 1.8")
def test_the_temperature_is_that_of_scikit_learn() -> None:
    logits, true = drawn(n=600, k=3, sharpness=1)
    model = LogisticRegression(C=1e3, max_iter=1000).fit(logits[:40], true[:40])  # overfits
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="temperature")
    calibrated.fit(logits[40:], true[40:])
    probabilities = model.predict_proba(logits[40:])
    temperature = fit_temperature(true[40:], probabilities)
    assert abs(temperature - 1) > 0.05
    np.testing.assert_allclose(apply_temperature(probabilities, temperature),
                               calibrated.predict_proba(logits[40:]), atol=1e-4)


def test_a_temperature_of_one_changes_nothing_and_zeros_are_bounded() -> None:
    probabilities = np.array([[1, 0, 0], [0.2, 0.3, 0.5]], dtype=np.float32)
    np.testing.assert_allclose(apply_temperature(probabilities, 1), probabilities, atol=1e-7)
    np.testing.assert_allclose(apply_temperature(probabilities, 1e9), 1 / 3, atol=1e-6)
    assert 1 < fit_temperature([1, 2], probabilities) < np.exp(5)
    assert 0 < fit_temperature([0, 2], probabilities) < 1


# All of them


@pytest.mark.parametrize("function", FUNCTIONS)
def test_missing_labels_are_skipped_and_a_class_may_never_occur(function) -> None:
    logits, true = drawn(n=400)
    probabilities = softmax(2 * logits, axis=1)
    masked = np.where((true == 3) | (np.arange(400) < 50), -100, true)
    kept = masked != -100
    alone = function(true[kept].tolist(), probabilities[kept])
    np.testing.assert_equal(function(masked, probabilities), alone)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("true", "probabilities", "error", "message"), [
    ([0, 1], [[0.1, 0.9]], ValueError, r"true must be \(1,\) .* got \(2,\)"),
    ([[0]], [[0.1, 0.9]], ValueError, r"true must be \(1,\) .* got \(1, 1\)"),
    ([0, 1], [0.1, 0.9], ValueError, r"probabilities must be \(N, K\) .* got \(2,\)"),
    ([0], [[1.0]], ValueError, r"two or more classes, got \(1, 1\)"),
    ([0, 1], [[0.1, 0.9], [0.3, 0.9]], ValueError, r"got \[0.3 0.9\] in row 1"),
    ([0], [[1.5, -0.5]], ValueError, r"from 0 to 1 that sum to one, got \[ 1.5 -0.5\] in row 0"),
    ([0], [[np.nan, 0.5]], ValueError, r"got \[nan 0.5\] in row 0"),
    ([2], [[0.1, 0.9]], ValueError, "true must hold ids from 0 to 1, got 2 to 2"),
    ([-1], [[0.1, 0.9]], ValueError, "true must hold ids from 0 to 1, got -1 to -1"),
    ([0.0], [[0.1, 0.9]], TypeError, "true must hold integer class ids, got float64"),
    ([-100], [[0.1, 0.9]], ValueError, "at least one id other than -100"),
])
def test_arguments_that_do_not_fit_are_refused(
    function, true: list, probabilities: list, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        function(true, probabilities)


@pytest.mark.parametrize("temperature", [0, -1, np.inf, np.nan])
def test_a_temperature_is_checked(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be finite and above 0, got"):
        apply_temperature(np.array([[0.1, 0.9]]), temperature)


def test_bins_are_checked() -> None:
    with pytest.raises(ValueError, match="n_bins must be at least 1, got 0"):
        reliability([0], np.array([[0.1, 0.9]]), n_bins=0)
