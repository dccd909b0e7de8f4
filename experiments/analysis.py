"""From records of runs to scores with intervals, and to differences between arms."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments.records import read_records
from experiments.studies import ARMS, tuned_rate
from experiments.train import LABELS, splits
from mtl_helpers import GENRES, paired_test, score_classification


class Estimate(NamedTuple):
    """A mean over seeds and half the width of its 95 % interval."""
    value: float
    margin: float
    seeds: int

    def __str__(self) -> str:
        return format(self, "")

    def __format__(self, sign: str) -> str:
        """As text; "+" shows the sign of a gain."""
        return f"{self.value:{sign}.3f} ± {self.margin:.3f}"


def runs(study: str, name: str) -> list[dict[str, Any]]:
    """The records of all seeds of an arm, at the rate chosen for it; [] until all are there."""
    for setting, seeds, rate_of in ARMS:
        if (setting.study, setting.arm) == (study, name):
            rate = tuned_rate(setting, rate_of)
            if not rate:
                return []
            records = read_records(study)
            names = [replace(setting, encoder_lr=rate, seed=seed).name
                     for seed in range(seeds)]
            return [records[name] for name in names] if set(names) <= records.keys() else []
    raise ValueError(f"no arm {name!r} in study {study!r}")


def predictions(records: list[dict[str, Any]], task: str) -> np.ndarray:
    """Predicted classes of the test sentences in each run, (S, N)."""
    return np.array([[int(digit) for digit in record["test"][task]["predicted"]]
                     for record in records])


@functools.cache
def score(study: str, name: str, task: str, metric: str = "macro_f1",
          genres: tuple[str, ...] = tuple(GENRES)) -> Estimate:
    """Mean score of an arm; the margin joins what seeds and what test sentences may change.

    `genres` are those whose test sentences count.
    """
    rows, true, groups = test_labels(task, genres)
    predicted = predictions(runs(study, name), task)[:, rows]
    # Against a perfect model the difference is the score less one.
    sentences = paired_test(true, true, predicted, metric, groups=groups)
    margin = np.hypot((sentences.high - sentences.low) / 2,
                      seed_margin(scores(true, predicted, task, metric)))
    return Estimate(1 + sentences.difference, float(margin), len(predicted))


@functools.cache
def gain(task: str, first: tuple[str, str], second: tuple[str, str], metric: str = "macro_f1",
         genres: tuple[str, ...] = tuple(GENRES), by_seed: bool = False) -> Estimate:
    """How much higher the second arm scores than the first on the same sentences.

    `by_seed` compares the runs of each seed: for arms whose seeds have other training sentences.
    """
    rows, true, groups = test_labels(task, genres)
    both = [predictions(runs(*arm), task)[:, rows] for arm in (first, second)]
    test_of = paired_test(true, *both, metric, groups=groups)
    each = [scores(true, predicted, task, metric) for predicted in both]
    seeds = seed_margin(each[1] - each[0]) if by_seed else np.hypot(*map(seed_margin, each))
    margin = np.hypot((test_of.high - test_of.low) / 2, seeds)
    return Estimate(test_of.difference, float(margin), min(map(len, both)))


@functools.cache
def test_labels(task: str, genres: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """The test sentences of some genres: where they are, their labels and their documents."""
    test = splits()[2]
    rows = np.flatnonzero(np.isin(test.labels["genre"], [GENRES.index(name) for name in genres]))
    return rows, test.labels[task][rows], list(test.select(rows).groups)


def scores(true: np.ndarray, predicted: np.ndarray, task: str, metric: str) -> np.ndarray:
    """The score of each of S runs."""
    return np.array([getattr(score_classification(true, run, LABELS[task]), metric)
                     for run in predicted])


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
