"""One training run on the corpus, recorded: the command that a machine, or a cluster, runs.

    python -m experiments.train --schedule joint --seed 0
    torchrun --nproc-per-node 4 -m experiments.train --schedule joint --processes 4

`experiments/studies.py` lists the runs that the documents rest on, and calls `run` for each.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from experiments import weightings
from experiments.compare_encoders import LABELS
from experiments.keepers import STRENGTH, BatchCosinesHead, l2_sp, published_vectors
from experiments.policies import (
    fit_stages,
    layer_features,
    linear_cka,
    policy_stages,
    pretrained_features,
)
from experiments.records import add_record, digits, find_record
from mtl_helpers import (
    GENRES,
    ClassificationHead,
    History,
    LabelledSentences,
    MultiTaskModel,
    RegressionHead,
    SentenceEncoder,
    SimilarityHead,
    TrainingConfig,
    fit,
    freeze,
    load_corpus,
    resolve_dtype,
    score_classification,
    score_regression,
    split_corpus,
)
from mtl_helpers.batching import SCHEDULES
from mtl_helpers.losses import WEIGHTINGS

BATCH_SIZE, SENTENCES, PASSES = 32, 4000, 12_000
FEATURE_SENTENCES = 500  # of the test split, drawn at random
VALIDATE_EVERY = 75  # steps
RATES = (3e-5, 1e-4, 3e-4)


@dataclass(frozen=True)
class Setting:
    """What makes one run; its record is named ARM-RATE-SEED in those of the study."""
    study: str
    arm: str
    tasks: tuple[str, ...] = ("genre", "sentiment")
    schedule: str = "joint"
    weighting: Any = "sum"  # as `fit` takes it, or "log_k": each loss over log K
    aggregator: str | None = None  # combines the tasks' gradients: "PCGrad" or "UPGrad"
    sentences: int | None = SENTENCES  # fixed training sentences; None: the whole training split
    sentiment_labels: int | None = None  # of those sentences, how many keep their sentiment
    passes: int = PASSES  # sentences through the encoder
    select: str | None = None  # keep the weights of the step that validation likes best
    encoder_lr: float = 1e-4  # with a frozen encoder the heads learn 100 times as fast as this
    policy: str = "full"  # of `policies.POLICIES`
    hidden_dim: int | None = None  # of the heads
    held_out: str | None = None  # a genre without training sentences
    features: bool = False  # whether the record has how far each layer's features moved
    probabilities: bool = False  # whether the record keeps those of the sentences
    similarity: float | None = None  # weight of a task more: stay near the vectors from before
    keeps: str | None = None  # "cosines", "l2-sp" or "average" in its place, or "unlabelled"
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.encoder_lr:g}-{self.seed}"


@functools.cache
def splits() -> list[LabelledSentences]:
    """Training, validation and test split with genre, sentiment and valence."""
    return split_corpus(load_corpus(["genre", "sentiment", "valence"]), seed=0)


def with_tasks(data: LabelledSentences, tasks: tuple[str, ...]) -> LabelledSentences:
    """The same sentences with the labels of these tasks alone."""
    return LabelledSentences(data.sentences, {t: data.labels[t] for t in tasks}, data.groups)


def training_data(setting: Setting) -> LabelledSentences:
    """The fixed training sentences of a run, with the labels that it may see."""
    train = splits()[0]
    if setting.held_out:
        train = train.select(train.labels["genre"] != GENRES.index(setting.held_out))
    if setting.sentences is not None:
        drawn = max(setting.sentences, SENTENCES)
        train = train.select(np.random.default_rng(0).choice(len(train), drawn, replace=False))
    if setting.sentences is not None and setting.sentences < SENTENCES:  # another few each seed
        chosen = np.random.default_rng([0, setting.seed]).permutation(SENTENCES)
        train = train.select(chosen[: setting.sentences])
    train = with_tasks(train, setting.tasks)
    if setting.sentiment_labels is not None:  # of other sentences each seed
        kept = np.random.default_rng([0, setting.seed]).permutation(len(train))
        kept = np.sort(kept[: setting.sentiment_labels], kind="stable")
        missing = np.setdiff1d(np.arange(len(train)), kept)
        train.labels["sentiment"][missing] = -100
        if setting.tasks == ("sentiment",):
            train = train.select(kept)
    if setting.keeps == "unlabelled":  # all but the usual sentences have that task alone
        drawn = np.random.default_rng(0).choice(len(train), SENTENCES, replace=False)
        for ids in train.labels.values():
            ids[np.setdiff1d(np.arange(len(train)), drawn)] = -100
    if setting.similarity is not None:
        train.labels["similarity"] = published_vectors(tuple(train.sentences))
    return train


def build(setting: Setting) -> MultiTaskModel:
    """all-MiniLM-L6-v2 with a new linear head for each task, the same for the same seed."""
    encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
    with torch.random.fork_rng():
        torch.manual_seed(setting.seed)
        dims = encoder.embedding_dim, setting.hidden_dim
        heads = {task: ClassificationHead(dims[0], LABELS[task], dims[1]) if task in LABELS
                 else RegressionHead(*dims) for task in setting.tasks}
    if setting.similarity is not None:
        kind = BatchCosinesHead if setting.keeps == "cosines" else SimilarityHead
        heads["similarity"] = kind(encoder.embedding_dim)
    return MultiTaskModel(encoder, heads)


def training_config(setting: Setting, **settings: Any) -> TrainingConfig:
    """The configuration of `fit` for a run."""
    weighting = setting.weighting
    if weighting == "log_k":
        weighting = weightings.log_k({task: len(LABELS.get(task, ())) for task in setting.tasks})
    if setting.similarity is not None:
        weighting = {**dict.fromkeys(setting.tasks, 1.0), "similarity": setting.similarity}
    return TrainingConfig(**{
        "epochs": 10**6, "max_steps": math.ceil(setting.passes / BATCH_SIZE),
        "batch_size": BATCH_SIZE, "encoder_lr": setting.encoder_lr, "schedule": setting.schedule,
        "weighting": weighting, "seed": setting.seed, "select": setting.select,
        "validate_every": VALIDATE_EVERY} | settings)


def stages(setting: Setting, **settings: Any) -> list[tuple[tuple[str, ...], TrainingConfig]]:
    """The frozen parts and the configuration of each stage of a run."""
    if setting.policy == "encoder":
        settings["head_lr"] = 100 * setting.encoder_lr
    plan = policy_stages(setting.policy, setting.passes, BATCH_SIZE)
    return [(parts, training_config(setting, **{"seed": setting.seed + 100 * i} | changes
                                    | settings))  # with one seed stages would meet the same batches
            for i, (parts, changes) in enumerate(plan)]


def scores(model: MultiTaskModel, dtype: torch.dtype,
           probabilities: bool = False) -> dict[str, dict[str, Any]]:
    """Validation scores, and test scores with the predictions that they follow from, by task."""
    _, validation, test = splits()
    found: dict[str, dict[str, Any]] = {"validation": {}, "test": {}}
    predicted = {"validation": model.predict(validation.sentences, dtype=dtype),
                 "test": model.predict(test.sentences, dtype=dtype)}
    for task in [task for task in model.heads if task in test.labels]:
        for name, data in (("validation", validation), ("test", test)):
            prediction, true = predicted[name][task], data.labels[task]
            if task in LABELS:
                report = score_classification(true, prediction.ids, LABELS[task])
                row = {"accuracy": report.accuracy, "macro_f1": report.macro_f1}
            else:
                row = {"pearson": score_regression(true, prediction.values).pearson}
            found[name][task] = {metric: round(value, 5) for metric, value in row.items()}
            if probabilities and task in LABELS:
                found[name][task]["probabilities"] = digits(prediction.probabilities)
        row, prediction = found["test"][task], predicted["test"][task]
        if task in LABELS:
            row["predicted"] = "".join(map(str, prediction.ids))
        else:
            row["predicted"] = [round(float(value), 2) for value in prediction.values]
    return found


def train(setting: Setting, **settings: Any) -> tuple[MultiTaskModel, list[History]]:
    """Build and train the model of a run; a history for each stage."""
    model, data = build(setting), training_data(setting)
    if torch.cuda.is_available():
        model.to(torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))))
    validation = None
    if setting.select:  # a part of the validation split: it is looked at several times
        validation = with_tasks(splits()[1], setting.tasks)
        validation = validation.select(np.arange(0, len(validation), 4))
    if setting.aggregator:
        backward = weightings.backward(model, setting.aggregator)
        config = training_config(setting, **settings)
        return model, [fit(model, data, validation, config, backward)]
    if setting.keeps == "l2-sp":
        config = training_config(setting, weight_decay=0.0, **settings)  # the pull is in its place
        return model, [fit(model, data, validation, config, l2_sp(model, STRENGTH))]
    if setting.policy == "everything":
        freeze(model, "all")
    return model, fit_stages(model, data, validation, stages(setting, **settings))


def run(setting: Setting, **settings: Any) -> dict[str, Any]:
    """Train, score and return the record of a run, short facts first."""
    start = time.perf_counter()
    model, histories = train(setting, progress=False, **settings)
    config = histories[-1].config if histories else asdict(training_config(setting))
    device = next(model.parameters()).device
    dtype = resolve_dtype(device, config["dtype"]) or torch.float32
    found = {
        "config": asdict(setting) | {"dtype": str(dtype).removeprefix("torch."),
                                     "head_lr": config["head_lr"]},
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        **course(setting, histories)}
    if setting.features:
        found["cka"] = moved(model)
    scored = scores(model, dtype, setting.probabilities)
    return found | {"seconds": round(time.perf_counter() - start, 1)} | scored


def moved(model: MultiTaskModel) -> list[float]:
    """CKA of the embeddings' and each layer's features with those of the published encoder."""
    test = splits()[2]
    rows = np.random.default_rng(2).choice(len(test), FEATURE_SENTENCES, replace=False)
    sentences = test.select(rows).sentences
    pairs = zip(pretrained_features("all-MiniLM-L6-v2", tuple(sentences)),
                layer_features(model.encoder, sentences), strict=True)
    return [round(linear_cka(*pair), 5) for pair in pairs]


def course(setting: Setting, histories: list[History]) -> dict[str, Any]:
    """What a run's stages came by; `passes` are those of an encoder that is trained."""
    rows = []
    for (parts, _), history in zip(stages(setting), histories, strict=True):
        seen = Counter[str]()
        for step in history.steps:
            seen.update(step["labels"])
        rows.append({"frozen": list(parts), "steps": len(history.steps),
                     "sentences": sum(step["sentences"] for step in history.steps),
                     "labels": dict(seen)})
    return {
        "passes": sum(row["sentences"] for row in rows if "encoder" not in row["frozen"]),
        "labels": {task: sum(row["labels"].get(task, 0) for row in rows) for task in setting.tasks},
        "stages": rows}


def record(setting: Setting, **settings: Any) -> None:
    """Run and record, unless a record is there; a record of other settings is not taken for it."""
    if recorded := find_record(setting.study, setting.name):
        there = recorded["config"]
        wanted = json.loads(json.dumps(asdict(setting)))
        defaults = asdict(Setting(setting.study, setting.arm))  # of what has come since
        if wanted != {name: there.get(name, defaults[name]) for name in wanted}:
            raise ValueError(f"{setting.name} of {setting.study} has other settings: {there}; "
                             "name this run anew")
    else:
        found = run(setting, **settings)
        if int(os.environ.get("RANK", 0)):
            return  # one process of several writes the record
        add_record(setting.study, setting.name, found)
        shown = {task: row.get("macro_f1", row.get("pearson")) for task, row in
                 found["test"].items()}
        print(f"{setting.study} {setting.name}: {shown}, {found['seconds']} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", help="of the record; the schedule if none is given")
    parser.add_argument("--tasks", nargs="+", default=["genre", "sentiment"],
                        choices=[*LABELS, "valence"])
    parser.add_argument("--schedule", default="joint", choices=SCHEDULES)
    parser.add_argument("--weighting", default="sum", choices=[*WEIGHTINGS, "log_k"])
    parser.add_argument("--sentences", type=int, default=SENTENCES, help="0: all there are")
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--encoder-lr", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="that torchrun starts")
    parser.add_argument("--checkpoint-dir", help="to continue from after a stop")
    given = parser.parse_args()
    record(Setting("runs", given.name or given.schedule, tuple(given.tasks), given.schedule,
                   given.weighting, sentences=given.sentences or None, passes=given.passes,
                   encoder_lr=given.encoder_lr, seed=given.seed),
           processes=given.processes, checkpoint_dir=given.checkpoint_dir)


if __name__ == "__main__":
    main()
