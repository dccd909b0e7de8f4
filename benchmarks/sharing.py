"""Two tasks from one shared model or from two separate ones: latency, throughput and memory.

    python -m benchmarks.sharing [--rounds 9]

Writes results/benchmarks/sharing.json. Each round runs every arm once; medians over the rounds are
compared. Memory is the peak of a fresh process for each arm. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from typing import Any

import numpy as np

from benchmarks.common import interleaved, keep, median, parser, peak_memory, seconds
from experiments.compare_encoders import LABELS, fixed_sample
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


def answer_from_disk(arm: str) -> None:
    """Answer as an arm whose models were saved and loaded again.

    So separate models don't map the same file of weights.
    """
    sentences = fixed_sample()[1].sentences[:200]
    with tempfile.TemporaryDirectory() as folder:
        for tasks in ARMS[arm]:
            build(tasks).save_pretrained(f"{folder}/{tasks[0]}")
        answer([MultiTaskModel.from_pretrained(f"{folder}/{tasks[0]}") for tasks in ARMS[arm]],
               sentences)


def measure(rounds: int) -> dict[str, Any]:
    """The record: medians over the rounds, and the ratio of separate to shared in each."""
    memory = {arm: peak_memory("benchmarks.sharing", "--memory-of", arm) for arm in ARMS}  # first
    sentences = fixed_sample()[1].sentences
    models = {arm: [build(tasks) for tasks in split] for arm, split in ARMS.items()}
    contestants = {}
    for load, count in LOADS.items():
        for arm in ARMS:
            run = partial(answer, models[arm], sentences[:count])
            contestants[arm, load] = partial(seconds, run)
    taken = interleaved(contestants, rounds)
    rows, ratios = {}, {}
    for arm in ARMS:
        milliseconds = {load: round(1000 * median(taken[arm, load]), 1) for load in LOADS}
        rows[arm] = {"milliseconds": milliseconds, "peak_bytes": memory[arm]}
    for load in LOADS:
        found = np.divide(taken["two separate", load], taken["one shared", load])
        ratios[load] = [round(ratio, 3) for ratio in sorted(found.tolist())]
    config = {"model": "all-MiniLM-L6-v2", "rounds": rounds, "loads": LOADS}
    return {"config": config, "rows": rows, "ratios": ratios}


def main() -> None:
    arguments = parser(__doc__, rounds=9)
    arguments.add_argument("--memory-of", choices=ARMS, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.memory_of:
        answer_from_disk(options.memory_of)
    else:
        keep("sharing", measure(options.rounds))


if __name__ == "__main__":
    main()
