"""Two tasks from one shared model or from two separate ones: latency, throughput and memory.

    python -m benchmarks.sharing [--rounds 9]

Writes results/benchmarks/sharing.json. Each round runs every arm once; medians over the rounds are
compared. Memory is the peak of a fresh process for each arm. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

from experiments.compare_encoders import LABELS, fixed_sample
from experiments.records import RESULTS, write_record
from mtl_helpers import ClassificationHead, MultiTaskModel, SentenceEncoder

ARMS = {"one shared": [list(LABELS)], "two separate": [[task] for task in LABELS]}
LOADS = {"one sentence": 1, "200 sentences": 200}


def build(tasks: list[str]) -> MultiTaskModel:
    """all-MiniLM-L6-v2 with an untrained linear head for each task: speed is the same."""
    encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
    heads = {task: ClassificationHead(encoder.embedding_dim, LABELS[task]) for task in tasks}
    return MultiTaskModel(encoder, heads)


def answer(models: list[MultiTaskModel], sentences: list[str]) -> None:
    """Predict both tasks for all sentences."""
    for model in models:
        model.predict(sentences)


def peak_memory(arm: str) -> int:
    """Peak resident memory (bytes) of this process after it has answered as this arm.

    Each model is saved and loaded again, so that separate ones don't map the same file of weights.
    """
    import resource

    sentences = fixed_sample()[1].sentences[:200]
    with tempfile.TemporaryDirectory() as folder:
        for tasks in ARMS[arm]:
            build(tasks).save_pretrained(f"{folder}/{tasks[0]}")
        answer([MultiTaskModel.from_pretrained(f"{folder}/{tasks[0]}") for tasks in ARMS[arm]],
               sentences)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def measured_apart(arm: str) -> int:
    """`peak_memory` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.sharing", "--memory-of", arm]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory-of", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        return print(peak_memory(options.memory_of))
    # First, while this process is small: Linux lets a child begin at its parent's peak.
    memory = {arm: measured_apart(arm) for arm in ARMS}
    sentences = fixed_sample()[1].sentences
    models = {arm: [build(tasks) for tasks in split] for arm, split in ARMS.items()}
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(1 + options.rounds):
        for load, count in LOADS.items():
            for arm in ARMS:
                start = time.perf_counter()
                answer(models[arm], sentences[:count])
                seconds.setdefault((arm, load), []).append(time.perf_counter() - start)
    rows = {}
    for arm in ARMS:
        found = {load: seconds[arm, load][1:] for load in LOADS}  # the first round warms up
        rows[arm] = {"milliseconds": {load: round(1000 * statistics.median(taken), 1)
                                      for load, taken in found.items()},
                     "peak_bytes": memory[arm]}
    ratios = {load: [two / one for one, two in zip(seconds["one shared", load][1:],
                                                   seconds["two separate", load][1:], strict=True)]
              for load in LOADS}
    config = {"model": "all-MiniLM-L6-v2", "rounds": options.rounds, "loads": LOADS}
    record = {"config": config, "rows": rows,
              "ratios": {load: [round(ratio, 3) for ratio in sorted(found)]
                         for load, found in ratios.items()}}
    write_record(RESULTS / "benchmarks" / "sharing.json", record)
    for arm, row in rows.items():
        print(f"{arm:14} {row['milliseconds']} ms, {row['peak_bytes'] / 1e6:.0f} MB")
    for load, found in ratios.items():
        print(f"{load:14} two separate take {statistics.median(found):.2f} times as long")


if __name__ == "__main__":
    main()
