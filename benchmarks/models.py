"""Sentences encoded per second by each model of Task 1 that is at hand, interleaved, in fp32.

    python -m benchmarks.models [--sentences 400] [--rounds 5]

Writes results/benchmarks/models.json. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import time

from experiments.compare_encoders import MODELS, fixed_sample, load
from experiments.records import RESULTS, write_record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=400, help="of the fixed training sample")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sentences = fixed_sample()[0].sentences[: options.sentences]
    encoders = {}
    for name in MODELS:
        try:
            encoders[name] = load(name)
        except OSError:
            print(f"{name}: not at hand")
    seconds: dict[str, list[float]] = {name: [] for name, encoder in encoders.items() if encoder}
    for _ in range(1 + options.rounds):
        for name, taken in seconds.items():
            start = time.perf_counter()
            encoders[name].encode(sentences)
            taken.append(time.perf_counter() - start)
    rows = {name: round(len(sentences) / statistics.median(taken[1:]), 1)  # the first warms up
            for name, taken in seconds.items()}
    config = {"sentences": len(sentences), "rounds": options.rounds, "dtype": "float32"}
    write_record(RESULTS / "benchmarks" / "models.json", {"config": config, "rows": rows})
    for name, rate in rows.items():
        print(f"{name:28} {rate:6.1f} sentences a second")


if __name__ == "__main__":
    main()
