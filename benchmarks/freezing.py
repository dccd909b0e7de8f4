"""Time of an epoch with parts of the encoder frozen, computed each time or once, interleaved.

    python -m benchmarks.freezing [--rounds 3] [--sentences 320]

Writes results/benchmarks/freezing.json: for each policy the seconds of an epoch through all that it
computes, of one from a cache that is filled, and the time and memory of filling it. What
`fit` does once (planning, checking the cache) is not in an epoch: it is the difference between a
run of several epochs and a run of one. Run it on an idle machine.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.common import interleaved, keep, median, median_ratio, parser, seconds
from benchmarks.train import PRECISIONS, SETTING
from experiments.layer_cache import LayerCache
from experiments.policies import cached
from experiments.train import BATCH_SIZE, build, training_data
from mtl_helpers import FrozenCache, LabelledSentences, TrainingConfig, fit, freeze

POLICIES = {"full": (), "layers:2": ("layers:2",), "layers:4": ("layers:4",),
            "encoder": ("encoder",)}


def epoch_seconds(parts: tuple[str, ...], data: LabelledSentences, precision: str,
                  kept: bool) -> tuple[float, float, int]:
    """Seconds of an epoch; seconds to fill the cache and its bytes, 0 without one."""
    model = build(SETTING)
    freeze(model, *parts)
    config = TrainingConfig(dtype=precision, progress=False)
    start = time.perf_counter()
    cache = cached(model, data.sentences, config) if kept else None
    filling = time.perf_counter() - start
    more = 20 if kept and parts == ("encoder",) else 1  # epochs beyond the first
    once, often = (seconds(partial(fit, model, data, config=replace(config, epochs=epochs),
                                   cache=cache)) for epochs in (1, 1 + more))
    return (often - once) / more, filling * kept, cache_bytes(cache) if cache else 0


def cache_bytes(cache: FrozenCache) -> int:
    """The memory that a cache of embeddings or of hidden states takes."""
    tensors = cache.states if isinstance(cache, LayerCache) else [cache.values]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measure(data: LabelledSentences, rounds: int) -> dict[str, Any]:
    """The record: medians over the rounds, and ratios to full fine-tuning of the same round."""
    contestants = {}
    for precision in PRECISIONS:
        for name, parts in POLICIES.items():
            for kept in (False, True) if parts else (False,):
                contestants[precision, name, kept] = partial(
                    epoch_seconds, parts, data, precision, kept)
    found = interleaved(contestants, rounds, warm_up=0)
    epochs = {run: [each[0] for each in taken] for run, taken in found.items()}
    rows: dict[str, dict[str, Any]] = {precision: {} for precision in PRECISIONS}
    for (precision, name, kept), taken in found.items():
        own = epochs[precision, name, kept]
        row: dict[str, Any] = {"seconds": round(median(own), 4)}
        for other in ("full", name) if kept else ("full",):
            base = epochs[precision, other, False]
            row[f"faster than {other}"] = round(median_ratio(base, own), 2)
        if kept:
            row |= {"fill_seconds": round(median([each[1] for each in taken]), 2),
                    "bytes": taken[0][2]}
        rows[precision][f"{name}, kept" if kept else name] = row
    config = {"sentences": len(data), "batch_size": BATCH_SIZE, "rounds": rounds}
    return {"config": config, "rows": rows}


def main() -> None:
    options = parser(__doc__, rounds=3, sentences=320).parse_args()
    data = training_data(SETTING).select(np.arange(options.sentences))
    keep("freezing", measure(data, options.rounds))


if __name__ == "__main__":
    main()
