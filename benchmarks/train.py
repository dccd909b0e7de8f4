"""Sentences trained on per second: `fit` beside the Trainer of Hugging Face, in one process.

    python -m benchmarks.train [--steps 40] [--rounds 3]      speed and memory -> train.json
    python -m benchmarks.train --scores                       3 seeds an arm   -> train_scores.json

A round trains every arm for one whole epoch, as Trainer's length grouping puts the longest first.
Weights, sentences, batch size, dropout, optimizer and rates are the same; Trainer's sentences are
tokenized before its time starts, those of `fit` within it. Memory is the peak of a fresh process.
Run it on an idle machine; `--scores` continues where it was stopped.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common import interleaved, keep, median, parser, peak_memory, seconds
from benchmarks.encode import flop_per_token, gemm_rate
from experiments.records import RESULTS
from experiments.train import BATCH_SIZE, LABELS, Setting, build, splits, training_data
from mtl_helpers import LabelledSentences, MultiTaskModel, TrainingConfig, evaluate, fit, freeze
from mtl_helpers.config import resolve_dtype
from mtl_helpers.freezing import parameter_groups

DEFAULTS, GROUPED, OURS = "Trainer", "Trainer, length-grouped", "ours, equal setting"
ARMS = (DEFAULTS, GROUPED, OURS, "ours, embeddings frozen",
        "ours, embeddings frozen, no attention dropout")
SETTING = Setting("benchmarks", "train")
PRECISIONS = ["float32", "bfloat16"] if resolve_dtype(torch.device("cpu"), "auto") else ["float32"]


class WithLoss(nn.Module):
    """The model in the form that Trainer takes: its forward returns the loss."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, genre: Tensor,
                sentiment: Tensor) -> dict[str, Tensor]:
        logits = self.model(input_ids, attention_mask)  # (B, T) -> {task: (B, C)}
        return {"loss": nn.functional.cross_entropy(logits["genre"].float(), genre)
                + nn.functional.cross_entropy(logits["sentiment"].float(), sentiment)}


def build_arm(arm: str, seed: int = 0) -> MultiTaskModel:
    """The model before training, alike in all arms but for what an arm freezes or leaves out."""
    model = build(replace(SETTING, seed=seed))
    if "frozen" in arm:
        freeze(model, "embeddings")
    if "no attention dropout" in arm:
        for layer in model.encoder.backbone.encoder.layer:
            layer.attention.self.dropout.p = 0.0
    return model


def make_trainer(arm: str, model: MultiTaskModel, data: LabelledSentences, config: TrainingConfig,
                 folder: str) -> Any:
    """Trainer with its defaults but for what makes the training equal to that of `fit`."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=folder, use_cpu=True, bf16=config.dtype == "bfloat16", seed=config.seed,
        per_device_train_batch_size=config.batch_size, num_train_epochs=config.epochs,
        train_sampling_strategy="group_by_length" if arm == GROUPED else "random",
        warmup_steps=config.warmup, max_grad_norm=config.clip_norm, label_names=list(LABELS),
        logging_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True)
    groups = parameter_groups(model, config.encoder_lr, config.head_lr, config.weight_decay)
    rows = [{"input_ids": ids.tolist(), "attention_mask": [1] * len(ids),
             **{task: int(data.labels[task][row]) for task in LABELS}}
            for row, ids in enumerate(model.encoder.tokenize(data.sentences))]
    trainer = Trainer(  # a tokenizer makes it pad each batch to its longest sentence
        WithLoss(model), arguments, train_dataset=rows, processing_class=model.encoder.tokenizer,
        optimizers=(torch.optim.AdamW(groups, fused=True), None))
    trainer.remove_callback(PrinterCallback)
    return trainer


def train_once(arm: str, precision: str, data: LabelledSentences, epochs: int = 1, seed: int = 0,
               around: Any = None) -> tuple[MultiTaskModel, float, int]:
    """Train as an arm: the model, the seconds it took, and how many token slots it computed."""
    model, slots = build_arm(arm, seed), []
    hook = model.encoder.register_forward_pre_hook(lambda _, args: slots.append(args[0].numel()))
    config = TrainingConfig(epochs=epochs, dtype=precision, seed=seed, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        train = (partial(fit, model, data, config=config) if arm.startswith("ours")
                 else make_trainer(arm, model, data, config, folder).train)
        gc.collect()
        with around or nullcontext():
            taken = seconds(train)
    hook.remove()
    assert len(slots) == epochs * -(-len(data) // BATCH_SIZE), f"{arm} made {len(slots)} steps"
    return model.eval(), taken, sum(slots)


def training_flop_per_token(arm: str) -> int:
    """Linear layers forward, and the gradients of their weights and of their inputs."""
    encoder = build_arm(arm).encoder
    first = encoder.backbone.encoder.layer[0].attention.self  # no gradient to frozen embeddings
    unneeded = (first.query, first.key, first.value) if "frozen" in arm else ()
    return 3 * flop_per_token(encoder) - sum(2 * linear.weight.numel() for linear in unneeded)


def costs(precision: str, data: LabelledSentences) -> dict[str, float]:
    """The eight operations that take most of `fit` at the equal setting: their shares of time."""
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    train_once(OURS, precision, data, around=profiler)
    spent = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    largest = sorted(spent, key=spent.__getitem__, reverse=True)[:8]
    return {name: round(spent[name] / sum(spent.values()), 3) for name in largest}


def timed(arm: str, precision: str, data: LabelledSentences) -> tuple[float, int]:
    """The seconds and the token slots of `train_once`."""
    _, taken, slots = train_once(arm, precision, data)
    return taken, slots


def measure_speed(data: LabelledSentences, rounds: int) -> dict[str, Any]:
    """The record of speed and memory."""
    steps, runs = len(data) // BATCH_SIZE, list(itertools.product(ARMS, PRECISIONS))
    memory = {run: peak_memory("benchmarks.train", "--steps", str(steps), "--memory-of", *run)
              for run in runs}  # first
    some = data.select(np.linspace(0, len(data) - 1, min(steps, 10) * BATCH_SIZE, dtype=int))
    interleaved({run: partial(timed, *run, some) for run in runs}, rounds=0)  # warms up
    contestants: dict[Any, Any] = {run: partial(timed, *run, data) for run in runs}
    contestants |= {precision: partial(gemm_rate, getattr(torch, precision))
                    for precision in PRECISIONS}
    found = interleaved(contestants, rounds, warm_up=0)
    tokens = sum(map(len, build_arm(OURS).encoder.tokenize(data.sentences)))
    rows: dict[str, dict[str, Any]] = {precision: {} for precision in PRECISIONS}
    spent = {run: [taken for taken, _ in found[run]] for run in runs}
    for arm, precision in runs:
        taken = spent[arm, precision]
        limit = median(found[precision]) / training_flop_per_token(arm)  # tokens, without padding
        rows[precision][arm] = {
            "sentences_per_second": round(len(data) / median(taken), 1),
            "limit": round(limit * len(data) / tokens, 1),
            "ratios": {other: np.divide(spent[other, precision], taken).round(3).tolist()
                       for other in (DEFAULTS, GROUPED)},  # one a round
            "padding_share": round(1 - tokens / found[arm, precision][-1][1], 4),
            "peak_bytes": memory[arm, precision]}
    config = {"steps": steps, "batch_size": BATCH_SIZE, "rounds": rounds, "tokens": tokens}
    return {"config": config, "rows": rows, "costs": {p: costs(p, some) for p in PRECISIONS},
            "gemm_gflops": {p: round(median(found[p]) / 1e9) for p in PRECISIONS}}


def measure_scores(data: LabelledSentences) -> None:
    """Test macro-F1 of each arm but Trainer's defaults, 3 seeds, one epoch; keeps every run."""
    path = RESULTS / "benchmarks" / "train_scores.json"
    config: Any = {"sentences": len(data), "epochs": 1, "seeds": 3, "dtype": PRECISIONS[-1]}
    saved = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"config": config}
    if saved["config"] != config:
        raise ValueError(f"{path} holds runs with {saved['config']}, these have {config}")
    rows = saved.get("rows", {arm: {} for arm in ARMS[1:]})
    for seed, arm in itertools.product(range(config["seeds"]), rows):
        if str(seed) not in rows[arm]:
            model, *_ = train_once(arm, config["dtype"], data, config["epochs"], seed)
            reports = evaluate(model, splits()[2], dtype=getattr(torch, config["dtype"]))
            rows[arm][str(seed)] = {task: round(reports[task].macro_f1, 5) for task in LABELS}
            summary = {name: compare(rows[GROUPED], found) for name, found in rows.items()
                       if len(found) == config["seeds"]}
            keep("train_scores", {"config": config, "rows": rows, "summary": summary})


def compare(reference: dict[str, Any], rows: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Mean over the seeds and its difference from the reference, with standard errors, by task."""
    found = {}
    for task in LABELS:
        scores = np.array([[row[task] for row in runs.values()] for runs in (reference, rows)])
        means = scores.mean(axis=1)  # (2, S) -> (2,): the reference, these
        errors = scores.std(axis=1, ddof=1) / scores.shape[1] ** 0.5
        values = {"mean": means[1], "standard_error": errors[1],
                  "difference": means[1] - means[0], "error_of_difference": np.hypot(*errors)}
        found[task] = {name: round(float(value), 5) for name, value in values.items()}
    return found


def main() -> None:
    arguments = parser(__doc__, steps=40, rounds=3)  # an epoch has 125 steps at most
    arguments.add_argument("--scores", action="store_true", help="train and score 3 seeds an arm")
    arguments.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    data = training_data(SETTING).select(np.arange(options.steps * BATCH_SIZE))
    if options.memory_of:
        train_once(*options.memory_of, data)
    elif options.scores:
        measure_scores(data)
    else:
        keep("train", measure_speed(data, options.rounds))


if __name__ == "__main__":
    main()
