"""Time of a training step for each way to weigh or combine tasks, or with one more.

    python -m benchmarks.methods [--rounds 5] [--steps 16]

Writes results/benchmarks/methods.json: medians over the rounds, and the ratio to the plain sum.
Run it on an idle machine.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.common import interleaved, keep, median, median_ratio, parser, seconds
from experiments import weightings
from experiments.train import Setting, build, training_config, training_data
from mtl_helpers import fit

METHODS: dict[str, dict[str, Any]] = {
    "sum": {},
    "sentiment-x3": {"weighting": {"genre": 0.5, "sentiment": 1.5}},
    "log_k": {"weighting": "log_k"}, "uncertainty": {"weighting": "uncertainty"},
    "PCGrad": {"aggregator": "PCGrad"}, "UPGrad": {"aggregator": "UPGrad"},
    "similarity": {"similarity": 1.0}}


def step_seconds(method: str, steps: int) -> float:
    """Time of one step of a method, over `steps` batches that are the same for each."""
    setting = Setting("benchmark", method, sentences=32 * steps, passes=32 * steps,
                      **METHODS[method])
    model, data = build(setting), training_data(setting)
    backward = weightings.backward(model, setting.aggregator) if setting.aggregator else None
    config = training_config(setting, progress=False)
    return seconds(partial(fit, model, data, None, config, backward)) / steps


def main() -> None:
    options = parser(__doc__, rounds=5, steps=16).parse_args()
    contestants = {method: partial(step_seconds, method, options.steps) for method in METHODS}
    taken = interleaved(contestants, options.rounds)
    rows = {method: {"milliseconds": round(1000 * median(times), 1),
                     "ratio": round(median_ratio(times, taken["sum"]), 3)}
            for method, times in taken.items()}
    keep("methods", {"config": {"rounds": options.rounds, "steps": options.steps, "batch_size": 32,
                                "model": "all-MiniLM-L6-v2"}, "rows": rows})


if __name__ == "__main__":
    main()
