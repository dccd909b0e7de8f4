"""Time of an epoch with parts of the encoder frozen, computed each time or once, interleaved.

    python -m benchmarks.freezing [--rounds 3] [--sentences 320]

Writes results/benchmarks/freezing.json: for each policy the seconds of an epoch through all that it
computes, of one from a `FrozenCache` that is filled, and the time and memory of filling it. What
`fit` does once (planning, checking the cache) is not in an epoch: it is the difference between a
run of several epochs and a run of one. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np

from benchmarks.train import PRECISIONS, SETTING
from experiments.records import RESULTS, write_record
from experiments.train import BATCH_SIZE, build, training_data
from mtl_helpers import FrozenCache, LabelledSentences, TrainingConfig, fit, freeze, resolve_dtype

POLICIES = {"full": (), "layers:2": ("layers:2",), "layers:4": ("layers:4",),
            "encoder": ("encoder",)}


def epoch_seconds(parts: tuple[str, ...], data: LabelledSentences, precision: str,
                  kept: bool) -> tuple[float, float, int]:
    """Seconds of an epoch; seconds to fill the cache and its bytes, 0 without one."""
    model = build(SETTING)
    freeze(model, *parts)
    dtype = resolve_dtype(next(model.parameters()).device, precision)
    start = time.perf_counter()
    cache = FrozenCache(model, data.sentences, dtype) if kept else None
    filling = time.perf_counter() - start
    more = 20 if kept and parts == ("encoder",) else 1  # epochs beyond the first
    taken = []
    for epochs in (1, 1 + more):
        config = TrainingConfig(epochs=epochs, dtype=precision, progress=False)
        start = time.perf_counter()
        fit(model, data, config=config, cache=cache)
        taken.append(time.perf_counter() - start)
    size = cache.values.numel() * cache.values.element_size() if cache else 0
    return (taken[1] - taken[0]) / more, filling * kept, size


def measure(data: LabelledSentences, rounds: int) -> dict[str, Any]:
    """The record: medians over the rounds, and ratios to full fine-tuning of the same round."""
    runs = [(name, precision, kept) for precision in PRECISIONS for name in POLICIES
            for kept in (False, True) if name != "full" or not kept]
    found: dict[tuple[str, str, bool], list[tuple[float, float, int]]] = {run: [] for run in runs}
    for _ in range(rounds):
        for name, precision, kept in runs:
            found[name, precision, kept].append(
                epoch_seconds(POLICIES[name], data, precision, kept))
    rows: dict[str, dict[str, Any]] = {precision: {} for precision in PRECISIONS}
    for (name, precision, kept), taken in found.items():
        seconds = [row[0] for row in taken]
        row: dict[str, Any] = {"seconds": round(statistics.median(seconds), 4)}
        for other in {("full", False), (name, False)} if kept else {("full", False)}:
            base = [run[0] for run in found[other[0], precision, other[1]]]
            row[f"faster than {other[0]}"] = round(
                statistics.median(np.divide(base, seconds).tolist()), 2)
        if kept:
            row |= {"fill_seconds": round(statistics.median(run[1] for run in taken), 2),
                    "bytes": taken[0][2]}
        rows[precision][f"{name}, kept" if kept else name] = row
    config = {"sentences": len(data), "batch_size": BATCH_SIZE, "rounds": rounds}
    return {"config": config, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=320)
    given = parser.parse_args()
    record = measure(training_data(SETTING).select(np.arange(given.sentences)), given.rounds)
    write_record(RESULTS / "benchmarks" / "freezing.json", record)
    print(json.dumps(record["rows"], indent=1))


if __name__ == "__main__":
    main()
