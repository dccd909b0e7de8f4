"""A small training run that Task 4 kills and continues.

    python -m experiments.killed FOLDER
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import torch

from experiments.records import RESULTS
from mtl_helpers import (
    SENTIMENTS,
    TOPICS,
    ClassificationHead,
    LabelledSentences,
    MultiTaskModel,
    SentenceEncoder,
    TrainingConfig,
    fit,
    freeze,
    make_sentences,
)

EVERY = 5  # steps from a checkpoint to the next


def train(folder: str | None = None) -> str:
    """Train 20 steps, with checkpoints in a folder if one is given: a hash of all weights."""
    torch.manual_seed(0)
    encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
    heads = {"topic": ClassificationHead(384, TOPICS),
             "sentiment": ClassificationHead(384, SENTIMENTS)}
    model = MultiTaskModel(encoder, heads)
    freeze(model, "layers:5")
    config = TrainingConfig(epochs=1, batch_size=8, schedule="joint", progress=False,
                            checkpoint_dir=folder, checkpoint_every=EVERY)
    fit(model, LabelledSentences(*make_sentences(160)), config=config)
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


def start(folder: str) -> subprocess.Popen[str]:
    """Begin or continue the run in a process of its own."""
    command = [sys.executable, "-m", "experiments.killed", folder]
    return subprocess.Popen(command, cwd=RESULTS.parent, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)


def kill_after_step(step: int, folder: str) -> int:
    """Kill the run without warning once it has saved the checkpoint of a step: its exit code."""
    process = start(folder)
    while process.poll() is None and not Path(folder, f"step-{step:08}").exists():
        time.sleep(0.01)
    process.kill()
    return process.wait()


def train_in_a_process(folder: str) -> str:
    """Run to the end, from the newest checkpoint in the folder: a hash of all weights."""
    return start(folder).communicate()[0].strip()


if __name__ == "__main__":
    print(train(sys.argv[1]))
