"""Time of a training step for each way to weigh or combine the tasks, interleaved.

    python -m benchmarks.methods [--rounds 5] [--steps 16]

Writes results/benchmarks/methods.json: medians over the rounds, and the ratio to the plain sum.
Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from experiments import gradients
from experiments.records import RESULTS, write_record
from experiments.train import Setting, build, training_config, training_data
from mtl_helpers import fit

METHODS: dict[str, dict[str, Any]] = {
    "sum": {},
    "sentiment-x3": {"weighting": {"genre": 0.5, "sentiment": 1.5}},
    "log_k": {"weighting": "log_k"}, "uncertainty": {"weighting": "uncertainty"},
    "PCGrad": {"aggregator": "PCGrad"}, "UPGrad": {"aggregator": "UPGrad"}}


def seconds(method: str, steps: int) -> float:
    """Time of one step of a method, over `steps` batches that are the same for each."""
    setting = Setting("benchmark", method, sentences=32 * steps, passes=32 * steps,
                      **METHODS[method])
    model, data = build(setting), training_data(setting)
    backward = gradients.backward(model, setting.aggregator) if setting.aggregator else None
    config = training_config(setting, progress=False)
    start = time.perf_counter()
    fit(model, data, None, config, backward)
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16)
    given = parser.parse_args()
    taken: dict[str, list[float]] = {method: [] for method in METHODS}
    for _ in range(1 + given.rounds):
        for method, times in taken.items():
            times.append(seconds(method, given.steps))
    rows = {}
    for method, times in taken.items():
        ratios = [own / plain for own, plain in zip(times[1:], taken["sum"][1:], strict=True)]
        rows[method] = {"milliseconds": round(1000 * statistics.median(times[1:]), 1),
                        "ratio": round(statistics.median(ratios), 3)}  # the first round warms up
        print(f"{method:14} {rows[method]}")
    write_record(RESULTS / "benchmarks" / "methods.json",
                 {"config": {"rounds": given.rounds, "steps": given.steps, "batch_size": 32,
                             "model": "all-MiniLM-L6-v2"}, "rows": rows})


if __name__ == "__main__":
    main()
