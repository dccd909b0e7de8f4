"""From records of runs to scores with intervals, and to differences between arms."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments.records import read_records
from experiments.studies import ARMS, tuned_rate
from experiments.train import splits
from mtl_helpers import GENRES
from mtl_helpers.evaluation import is_known, resampled_scores


class Estimate(NamedTuple):
    """A mean over seeds and half the width of its 95 % interval."""
    value: float
    margin: float
    seeds: int

    def __str__(self) -> str:
        return format(self, "")

    def __format__(self, sign: str) -> str:
        """In points of 100, as text that no line breaks; "+" shows the sign of a gain."""
        text = f"{100 * self.value:{sign}.1f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
        return text.replace("-", "\N{MINUS SIGN}") + f"{100 * self.margin:.1f}"


class PairedTest(NamedTuple):
    """Score of a second model minus a first one's, its 95 % interval, and McNemar's p-value."""
    difference: float
    low: float
    high: float
    p_value: float  # NaN where a model has several runs

    def __str__(self) -> str:
        shown = f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return shown if np.isnan(self.p_value) else f"{shown}, McNemar p = {self.p_value:.3g}"


def paired_test(true: np.ndarray, first: np.ndarray, second: np.ndarray,
                metric: str = "macro_f1", groups: Sequence[Any] | None = None) -> PairedTest:
    """Say how much higher a second model scores than a first one on the same sentences.

    Every draw of the bootstrap is the same for both models. Runs of a model are averaged within
    a draw: the interval is about the choice of test sentences, not about how much runs differ.
    The p-value is that of McNemar's exact test (1947) that both are right equally often; it
    takes sentences as independent.

    Args:
        true: (N,) ids, -100 for a sentence without label, which is skipped.
        first, second: (N,) predicted ids, or (S, N) for S runs.
        metric, groups: as in `bootstrap_interval`.

    Used in Task_4.ipynb, section 4.7.
    """
    true, first, second = np.asarray(true), np.atleast_2d(first), np.atleast_2d(second)
    draws = resampled_scores(true, [*first, *second], metric, groups)  # (1 + R, 2S)
    differences = draws[:, len(first):].mean(axis=1) - draws[:, : len(first)].mean(axis=1)
    low, high = np.quantile(differences[1:], [(1 - 0.95) / 2, (1 + 0.95) / 2])
    p_value = float("nan")
    if len(first) == len(second) == 1:
        known = is_known(true)
        was, now = ((run == true)[known] for run in (first[0], second[0]))  # (M,) who is right
        won, lost = (now > was).sum(), (was > now).sum()
        p_value = float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return PairedTest(float(differences[0]), float(low), float(high), p_value)


def runs(study: str, name: str) -> list[dict[str, Any]]:
    """The records of all seeds of an arm, at the rate chosen for it; [] until all are there.

    Of a study that has no rates to choose from (SetFit, similarity) those there are.
    """
    for setting, seeds, rate_of in ARMS:
        if (setting.study, setting.arm) == (study, name):
            rate = tuned_rate(setting, rate_of)
            if not rate:
                return []
            records = read_records(study)
            names = [replace(setting, encoder_lr=rate, seed=seed).name
                     for seed in range(seeds)]
            return [records[name] for name in names] if set(names) <= records.keys() else []
    found = [run for run in read_records(study).values() if run["config"].get("arm") == name]
    if not found:
        raise ValueError(f"no arm {name!r} in study {study!r}")
    return sorted(found, key=lambda run: run["config"]["seed"])


def predictions(records: list[dict[str, Any]], task: str, part: str = "test") -> np.ndarray:
    """Predicted classes of the sentences of a part of each record, (S, N)."""
    return np.array([[int(digit) for digit in record[part][task]["predicted"]]
                     for record in records])


@functools.cache
def score(study: str, name: str, task: str, metric: str = "macro_f1",
          genres: tuple[str, ...] = tuple(GENRES)) -> Estimate:
    """Mean score of an arm; the margin joins what seeds and what test sentences may change.

    `genres` are those whose test sentences count.
    """
    found = resampled((study, name), task, metric, genres)
    return estimate(found.mean(axis=1), seed_margin(found[0]), found.shape[1])


@functools.cache
def gain(task: str, first: tuple[str, str], second: tuple[str, str], metric: str = "macro_f1",
         genres: tuple[str, ...] = tuple(GENRES), by_seed: bool = False) -> Estimate:
    """How much higher the second arm scores than the first on the same sentences.

    `by_seed` compares the runs of each seed that both have: for arms whose seeds have other
    training sentences.
    """
    before, after = (resampled(arm, task, metric, genres) for arm in (first, second))
    if by_seed:
        shared = min(before.shape[1], after.shape[1])
        before, after = before[:, :shared], after[:, :shared]
        seeds = seed_margin(after[0] - before[0])
    else:
        seeds = float(np.hypot(seed_margin(before[0]), seed_margin(after[0])))
    difference = after.mean(axis=1) - before.mean(axis=1)
    return estimate(difference, seeds, min(before.shape[1], after.shape[1]))


@functools.cache
def resampled(arm: tuple[str, str], task: str, metric: str,
              genres: tuple[str, ...]) -> np.ndarray:
    """The scores of an arm's S runs on the test sentences and on draws of them, (1 + R, S)."""
    rows, true, documents = test_labels(task, genres)
    return scores_of_draws(true, predictions(runs(*arm), task)[:, rows], metric, documents)


def scores_of_draws(true: np.ndarray, predicted: np.ndarray, metric: str,
                    documents: Sequence[Any]) -> np.ndarray:
    """What `resampled_scores` gives for (S, N) predictions, (1 + R, S); quick for many arms.

    All have the same draws, and what is counted is counted once in each document.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(documents))}
    document = [numbers[name] for name in documents]  # (N,)
    classes = np.eye(1 + max(true.max(), predicted.max()))  # (K, K)
    right = np.zeros((len(numbers), *predicted.shape[:1], len(classes)))  # (D, S, K)
    seen = np.zeros_like(right)
    for run, guesses in enumerate(predicted):
        np.add.at(right[:, run], document, classes[true] * classes[guesses])
        np.add.at(seen[:, run], document, classes[true] + classes[guesses])
    times = draws(len(numbers))
    right, seen = (np.tensordot(times, counts, axes=1) for counts in (right, seen))  # (1 + R, S, K)
    if metric == "accuracy":
        return 2 * right.sum(axis=2) / seen.sum(axis=2)
    return np.average(2 * right / np.maximum(seen, 1), axis=2, weights=seen > 0)


@functools.cache
def draws(documents: int) -> np.ndarray:
    """How often each of D documents counts: once, then in R draws of as many, (1 + R, D)."""
    random = np.random.default_rng(0)
    drawn = random.multinomial(documents, np.full(documents, 1 / documents), 1000)
    return np.vstack([np.ones(documents), drawn])


def estimate(values: np.ndarray, margin: float, seeds: int) -> Estimate:
    """A value on all sentences, then on draws of them, (1 + R,), and the margin over seeds."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Estimate(float(values[0]), float(np.hypot((high - low) / 2, margin)), seeds)


@functools.cache
def test_labels(task: str, genres: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """The test sentences of some genres: where they are, their labels and their documents."""
    test = splits()[2]
    rows = np.flatnonzero(np.isin(test.labels["genre"], [GENRES.index(name) for name in genres]))
    return rows, test.labels[task][rows], list(test.select(rows).groups)


def mean(estimates: list[Estimate], independent: bool) -> Estimate:
    """The mean of estimates, and its margin, or a bound on it where they share test sentences."""
    margins = [estimate.margin for estimate in estimates]
    margin = np.hypot.reduce(margins) / len(margins) if independent else np.mean(margins)
    value = np.mean([estimate.value for estimate in estimates])
    return Estimate(float(value), float(margin), min(estimate.seeds for estimate in estimates))


def seed_margin(values: np.ndarray) -> float:
    """Half the width of Student's 95 % interval around the mean of S runs; 0 for one run."""
    if len(values) < 2:
        return 0.0
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)


def arm_names(study: str) -> list[str]:
    """The arms of a study."""
    return [setting.arm for setting, *_ in ARMS if setting.study == study]
