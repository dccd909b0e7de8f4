"""From records of runs to scores with intervals, and to differences between arms."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments.studies import ARMS, tuned_rate
from experiments.train import splits
from mtl_helpers import paired_test


class Estimate(NamedTuple):
    """A mean over seeds and half the width of its 95 % interval."""
    value: float
    margin: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.margin:.3f}"


def runs(study: str, name: str) -> list[dict[str, Any]]:
    """The records of all seeds of an arm, at the rate chosen for it; [] until all are there."""
    for setting, seeds, rate_of in ARMS:
        if (setting.study, setting.arm) == (study, name):
            rate = tuned_rate(setting, rate_of)
            paths = [replace(setting, encoder_lr=rate, seed=seed).path
                     for seed in range(seeds if rate else 0)]
            complete = all(path.is_file() for path in paths)
            return [json.loads(path.read_text(encoding="utf-8")) for path in paths if complete]
    raise ValueError(f"no arm {name!r} in study {study!r}")


def predictions(records: list[dict[str, Any]], task: str) -> np.ndarray:
    """Predicted classes of the test sentences in each run, (S, N)."""
    return np.array([[int(digit) for digit in record["test"][task]["predicted"]]
                     for record in records])


@functools.cache
def score(study: str, name: str, task: str, metric: str = "macro_f1") -> Estimate:
    """Mean score of an arm; the margin joins what seeds and what test sentences may change."""
    found = runs(study, name)
    test = splits()[2]
    true = test.labels[task]
    # Against a perfect model the difference is the score less one.
    sentences = paired_test(true, true, predictions(found, task), metric, groups=test.groups)
    values = np.array([record["test"][task][metric] for record in found])
    margin = np.hypot((sentences.high - sentences.low) / 2, seed_margin(values))
    return Estimate(1 + sentences.difference, float(margin), len(found))


@functools.cache
def gain(task: str, first: tuple[str, str], second: tuple[str, str],
         metric: str = "macro_f1") -> Estimate:
    """How much higher the second arm scores than the first on the same sentences."""
    test = splits()[2]
    records = [runs(*first), runs(*second)]
    test_of = paired_test(test.labels[task], *(predictions(found, task) for found in records),
                          metric, groups=test.groups)
    seeds = [seed_margin(np.array([record["test"][task][metric] for record in found]))
             for found in records]
    margin = np.hypot((test_of.high - test_of.low) / 2, np.hypot(*seeds))
    return Estimate(test_of.difference, float(margin), min(map(len, records)))


def seed_margin(values: np.ndarray) -> float:
    """Half the width of Student's 95 % interval around the mean of S runs; 0 for one run."""
    if len(values) < 2:
        return 0.0
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)


def arm_names(study: str) -> list[str]:
    """The arms of a study."""
    return [setting.arm for setting, *_ in ARMS if setting.study == study]
