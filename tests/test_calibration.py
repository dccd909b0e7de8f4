"""Calibration: by hand, against scikit-learn, and brought back by a temperature."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from experiments.calibration import apply_temperature, brier_score, fit_temperature, reliability
from experiments.calibration import expected_calibration_error as gap


def drawn(n=5000, k=4):
    """Logits (N, K), and labels (N,) drawn from their softmax: calibrated by construction."""
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(n, k))
    cumulative = softmax(logits, axis=1).cumsum(axis=1)
    return logits, (random.random((n, 1)) > cumulative[:, :-1]).sum(axis=1)


def test_a_small_example_of_calibration_worked_by_hand():
    probabilities = np.array([[0.55, 0.45], [0.42, 0.58], [0.95, 0.05], [1, 0], [0.5, 0.5]])
    bins = reliability([1, 1, 0, 0, 0], probabilities)
    assert bins.counts.tolist() == [0, 0, 0, 0, 1, 2, 0, 0, 0, 2]  # 0.5 is in the bin below it
    assert bins.confidence[[4, 5, 9]] == pytest.approx([0.5, 0.565, 0.975])
    assert bins.accuracy[[4, 5, 9]] == pytest.approx([1, 0.5, 1])
    empty = bins.counts == 0
    assert np.isnan([bins.accuracy[empty], bins.confidence[empty]]).all() and len(bins.edges) == 11
    error = gap([1, 1, 0, 0, 0], probabilities)
    assert error == pytest.approx((1 * 0.5 + 2 * 0.065 + 2 * 0.025) / 5)
    for edge in (0.5, 0.6, 0.7, 0.8, 0.9):  # a last digit moves no sentence into another bin
        near = edge + np.array([-2, -1, 0, 1, 2]) * np.spacing(edge)
        counts = reliability([0] * 5, np.stack([near, 1 - near], axis=1)).counts
        assert counts[round(10 * edge) - 1] == 5, edge


def test_the_brier_score_is_scikit_learns_and_goes_from_0_to_2():
    logits, true = drawn(n=300, k=2)
    probabilities = softmax(logits, axis=1)
    binary = metrics.brier_score_loss(true, probabilities[:, 1])
    assert brier_score(true, probabilities) == pytest.approx(2 * binary)
    assert brier_score([0, 2], np.eye(3)[[0, 2]]) == 0
    assert brier_score([0, 2], np.eye(3)[[1, 0]]) == 2


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_logits_that_were_scaled_are_brought_back(factor):
    logits, true = drawn(n=20_000)
    scaled = softmax(factor * logits, axis=1).astype(np.float32)
    temperature = fit_temperature(true, scaled)
    assert temperature == pytest.approx(factor, rel=0.03)
    back = apply_temperature(scaled, temperature)
    np.testing.assert_allclose(back, softmax(logits * factor / temperature, axis=1), atol=1e-5)
    assert gap(true, back) < 0.015
    losses = [metrics.log_loss(true, apply_temperature(scaled, temperature * near))
              for near in (0.99, 1, 1.01)]
    assert min(losses) == losses[1]


def test_a_temperature_of_one_changes_nothing_and_zeros_are_bounded():
    probabilities = np.array([[1, 0, 0], [0.2, 0.3, 0.5]], dtype=np.float32)
    np.testing.assert_allclose(apply_temperature(probabilities, 1), probabilities, atol=1e-7)
    np.testing.assert_allclose(apply_temperature(probabilities, 1e9), 1 / 3, atol=1e-6)
    assert 1 < fit_temperature([1, 2], probabilities) < np.exp(5)
    assert 0 < fit_temperature([0, 2], probabilities) < 1


def test_missing_labels_are_skipped_and_a_class_may_never_occur():
    logits, true = drawn(n=400)
    probabilities = softmax(2 * logits, axis=1)
    masked = np.where((true == 3) | (np.arange(400) < 50), -100, true)
    kept = masked != -100
    for function in (reliability, gap, brier_score, fit_temperature):
        alone = function(true[kept].tolist(), probabilities[kept])
        np.testing.assert_equal(function(masked, probabilities), alone)
