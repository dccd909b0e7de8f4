"""Two models on the same sentences: plain resampling, a fair coin, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from experiments.analysis import paired_test, scores_of_draws
from mtl_helpers.evaluation import resampled_scores


def three(n: int = 240, runs: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True ids (N,), and those of a weaker and a better model (S, N) that err together."""
    random = np.random.default_rng(5)
    true = random.choice(3, size=n, p=[0.4, 0.1, 0.5])
    weak = np.where(random.random(n) < 0.7, true, random.integers(0, 3, n))
    first = np.where(random.random((runs, n)) < 0.1, true, weak)
    return true, first, np.where(random.random((runs, n)) < 0.3, true, first)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_counting_once_in_each_document_gives_the_same_scores_of_the_same_draws(metric) -> None:
    true, first, _ = three(runs=3)
    documents = [f"document {i * i % 37}" for i in range(240)]
    found = scores_of_draws(true, first, metric, documents)
    assert np.array_equal(found, resampled_scores(true, first, metric, documents))


@pytest.mark.parametrize(("runs", "by_document"), [(1, False), (2, True)])
def test_a_paired_interval_is_that_of_plain_resampling(runs: int, by_document: bool) -> None:
    true, first, second = three(runs=runs)
    documents = np.arange(240) // 8 if by_document else np.arange(240)
    random, differences = np.random.default_rng(1), []
    for _ in range(300):
        chosen = random.integers(0, documents[-1] + 1, documents[-1] + 1)
        rows = np.concatenate([np.flatnonzero(documents == one) for one in chosen])
        scores = [np.mean([f1_score(true[rows], run[rows], average="macro") for run in model])
                  for model in (first, second)]
        differences.append(scores[1] - scores[0])
    result = paired_test(true, first, second, groups=documents if by_document else None)
    ends = np.quantile(differences, [0.025, 0.975])
    assert result[1:3] == pytest.approx(ends, abs=0.2 * (ends[1] - ends[0]))
    each = [paired_test(true, *pair) for pair in zip(first, second, strict=True)]
    assert result.difference == pytest.approx(np.mean([one.difference for one in each]))
    assert math.isnan(result.p_value) == (runs > 1) == ("McNemar" not in str(result))
    back = paired_test(true, second, first, groups=documents)
    assert back[:2] == pytest.approx((-result.difference, -paired_test(
        true, first, second, groups=documents).high), abs=1e-12)


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 1), (2, 9), (7, 7), (30, 12)])
def test_the_p_value_is_that_of_a_fair_coin_where_one_is_right(lost: int, won: int) -> None:
    first, second, true = (np.repeat(ids, [lost, won, 20, 10, 5]) for ids in (
        [1, 0, 1, 0, 1], [0, 1, 1, 0, -100], [1, 1, 1, 1, -100]))
    coin = sum(math.comb(lost + won, i) for i in range(min(lost, won) + 1)) / 2 ** (lost + won)
    result = paired_test(true, first, second, "accuracy")
    assert result.p_value == pytest.approx(min(1, 2 * coin))
    assert result.difference == pytest.approx((won - lost) / (lost + won + 30))
    assert str(result).endswith(f"], McNemar p = {result.p_value:.3g}")
