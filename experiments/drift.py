"""What happens to a frozen head's task while the other task trains on: the study of drift.

    python -m experiments.drift [--part 1/2]

Both heads are trained; then one is frozen, and the other task goes on with 4,000 sentences that are
new to the model. Every 25 steps both tasks are scored on the same 500 test sentences. A run that
is recorded is skipped. The models to start from are kept in build/.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.compare_encoders import LABELS
from experiments.keepers import STRENGTH, l2_sp
from experiments.records import RESULTS, add_record, find_record
from experiments.studies import part_of, tuned_rate
from experiments.train import BATCH_SIZE, SENTENCES, Setting, splits, train, with_tasks
from mtl_helpers import (
    LabelledSentences,
    MultiTaskModel,
    SimilarityHead,
    TrainingConfig,
    evaluate,
    fit,
    freeze,
    resolve_dtype,
)

STEPS, EVERY, SCORED = 250, 25, 500
RATE, SMALL_RATE = 1e-4, 1e-5
REPLAYED = 0.1  # of the batches are of the old task, and so missing for the one that trains on
FOLDER = RESULTS.parent / "build" / "drift"


@dataclass(frozen=True)
class DriftSetting:
    """A run; its record is named REMEDY-TASK-SEED in those of drift."""
    remedy: str
    frozen: str  # the task whose head is frozen, unless the remedy is "-free"; the other trains on
    seed: int

    @property
    def name(self) -> str:
        return f"{self.remedy}-{self.frozen}-{self.seed}"

    @property
    def method(self) -> str:
        return self.remedy.removesuffix("-free")

    @property
    def trained(self) -> str:
        return next(task for task in LABELS if task != self.frozen)


REMEDIES = ("none", "encoder", "replay", "small-rate", "l2-sp", "distillation", "similarity")
FREE = ("replay-free", "distillation-free")  # with these the old task's head can go on learning


def jobs() -> Iterator[DriftSetting]:
    """All runs; seeds change fastest, so that two processes do not make the same first model."""
    for remedy in (*REMEDIES, *FREE):
        for frozen in LABELS:
            yield from (DriftSetting(remedy, frozen, seed) for seed in seeds(remedy))


def seeds(remedy: str) -> range:
    """More where nothing is done against drift: the question is if it is there at all."""
    return range(6 if remedy == "none" else 3)


def start(seed: int) -> MultiTaskModel:
    """The model that both tasks were trained on together: the joint arm of the first study."""
    rate = tuned_rate(Setting("arms", "joint"))
    assert rate, "the records of study arms are missing"
    folder = FOLDER / f"joint-{rate:g}-{seed}"
    if not folder.exists():
        setting = Setting("arms", "joint", encoder_lr=rate, seed=seed)
        model, _ = train(setting, progress=False)
        model.save_pretrained(folder)
    return MultiTaskModel.from_pretrained(folder)


def new_sentences(setting: DriftSetting) -> LabelledSentences:
    """Training sentences that `start` has not met, with labels of the task that trains on.

    For replay, as many of those that it has met, with labels of the frozen head's task, as make
    up their share of the batches.
    """
    data = splits()[0]
    rows = np.random.default_rng(0).choice(len(data), SENTENCES, replace=False)  # `start` had these
    known = {text.casefold() for text in data.select(rows).sentences}
    others = [row for row, text in enumerate(data.sentences) if text.casefold() not in known]
    new = data.select(np.random.default_rng(1).choice(others, SENTENCES, replace=False))
    labels = {setting.trained: new.labels[setting.trained]}
    if setting.method != "replay":
        return LabelledSentences(new.sentences, labels, new.groups)
    old = data.select(rows[: round(SENTENCES * REPLAYED / (1 - REPLAYED))])
    labels[setting.trained] = np.append(labels[setting.trained], np.full(len(old), -100))
    labels[setting.frozen] = np.append(np.full(len(new), -100), old.labels[setting.frozen])
    return LabelledSentences(new.sentences + old.sentences, labels)


def scored_sentences() -> LabelledSentences:
    """The test sentences that both tasks are scored on."""
    test = with_tasks(splits()[2], tuple(LABELS))
    return test.select(np.random.default_rng(2).choice(len(test), SCORED, replace=False))


def distillation(model: MultiTaskModel, task: str) -> Callable[[dict[str, Tensor]], None]:
    """Gradients of the loss and of what the frozen head says otherwise than it did at the start.

    Learning without forgetting (Li and Hoiem 2016): cross-entropy to the old probabilities.
    """
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    said: dict[str, Tensor] = {}

    def note(_: nn.Module, inputs: Any, logits: dict[str, Tensor]) -> None:
        if model.training:
            with torch.no_grad():
                said["old"] = teacher(*inputs)[task].float().softmax(dim=-1)  # (B, C)
            said["now"] = logits[task].float()

    model.register_forward_hook(note)

    def backward(losses: dict[str, Tensor]) -> None:
        kept = functional.cross_entropy(said["now"], said["old"])
        (sum(losses.values(), torch.zeros(())) + kept).backward()
    return backward


def say(model: MultiTaskModel, sentences: list[str]) -> dict[str, dict[str, str]]:
    """What each head says of the sentences: classes, and a hash of the probabilities' bits."""
    return {task: {"predicted": "".join(map(str, found.ids)),
                   "sha256": hashlib.sha256(found.probabilities.tobytes()).hexdigest()}
            for task, found in model.predict(sentences).items()}


def train_on(setting: DriftSetting, model: MultiTaskModel, data: LabelledSentences,
             scored: LabelledSentences, **settings: Any) -> dict[str, Any]:
    """Train one task on from `model`, and return the record."""
    if setting.remedy not in FREE:
        freeze(model, f"head:{setting.frozen}")
    if setting.method == "encoder":
        freeze(model, "encoder")
    config = TrainingConfig(**{
        "weight_decay": 0 if setting.method == "l2-sp" else 0.01,  # the pull is in its place
        "epochs": 1000, "max_steps": STEPS, "batch_size": BATCH_SIZE, "seed": setting.seed,
        "encoder_lr": SMALL_RATE if setting.method == "small-rate" else RATE,
        "schedule": "proportional" if setting.method == "replay" else "joint",
        "validate_every": EVERY, "progress": False} | settings)
    backward = None
    if setting.method == "l2-sp":
        backward = l2_sp(model, STRENGTH)
    elif setting.method == "distillation":
        backward = distillation(model, setting.frozen)
    learner = model
    if setting.method == "similarity":  # the vectors from before are labels of a task more
        data.labels["similarity"] = model.encoder.encode(data.sentences)
        near = SimilarityHead(model.encoder.embedding_dim)
        learner = MultiTaskModel(model.encoder, {**model.heads, "similarity": near})
    dtype = resolve_dtype(next(model.parameters()).device, config.dtype) or torch.float32
    before, reports = say(model, scored.sentences), evaluate(model, scored, dtype)
    history = fit(learner, data, scored, config, backward)
    scores = [(0, {task: report.macro_f1 for task, report in reports.items()})]
    scores += [(row["step"], {task: found["macro_f1"] for task, found in row["validation"].items()})
               for row in history.epochs]
    return {
        "config": asdict(setting) | {"trained": setting.trained, "encoder_lr": config.encoder_lr,
                                     "dtype": str(dtype).removeprefix("torch.")},
        "labels": {task: sum(step["labels"].get(task, 0) for step in history.steps)
                   for task in LABELS if task in data.labels},
        "macro_f1": [{"step": step} | {task: round(value, 5) for task, value in found.items()}
                     for step, found in scores],
        "before": before, "after": say(model, scored.sentences)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", default="1/1", type=part_of,
                        help="I/N: the I-th of N machines or processes")
    own, parts = parser.parse_args().part
    scored = scored_sentences()
    for setting in list(jobs())[own - 1 :: parts]:
        if not find_record("drift", setting.name):
            data = new_sentences(setting)
            record = train_on(setting, start(setting.seed), data, scored)
            add_record("drift", setting.name, record)
            print(setting.name, record["macro_f1"][0], record["macro_f1"][-1], flush=True)


if __name__ == "__main__":
    main()
