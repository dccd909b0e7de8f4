"""Tiny models and data to train in tests, and training in processes of its own: killed, or two."""

import json
import os
import random
import select
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from mtl_helpers.batching import SCHEDULES
from mtl_helpers.checkpoint import load_checkpoint
from mtl_helpers.config import TrainingConfig
from mtl_helpers.data import LabelledSentences
from mtl_helpers.encoder import SentenceEncoder
from mtl_helpers.freezing import freeze
from mtl_helpers.heads import ClassificationHead, RegressionHead
from mtl_helpers.model import MultiTaskModel
from mtl_helpers.run import Run
from mtl_helpers.training import fit

WORDS = "the a film phone senator is was very not good bad plain loved hated saw it".split()
TASKS = ("genre", "sentiment", "valence")


def make_encoder(kind="bert", dropout=0.1):
    """One or two layers of 16 dimensions with random weights; a tokenizer that knows 17 words."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, "poison"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=24)
    shared = {"vocab_size": len(tokens), "max_position_embeddings": 32, "pad_token_id": 0}
    if kind == "distilbert":
        backbone = DistilBertModel(DistilBertConfig(
            dim=16, n_layers=2, n_heads=2, hidden_dim=24, dropout=dropout,
            attention_dropout=dropout, **shared))
        return SentenceEncoder(backbone, wrapped)
    config, kind_of_model = {"bert": (BertConfig, BertModel), "mpnet": (MPNetConfig, MPNetModel),
                             "roberta": (RobertaConfig, RobertaModel)}[kind]
    settings = config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, **shared)
    return SentenceEncoder(kind_of_model(settings), wrapped)


def make_model(kind="bert", seed=0, dropout=0.1, dtype=torch.float32):
    """A model with heads for three tasks, and one for a task that no data here has."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = {"genre": ClassificationHead(16, ["review", "news", "tweet"], 8, dropout),
                 "sentiment": ClassificationHead(16, ["negative", "positive"], dropout=dropout),
                 "valence": RegressionHead(16, dropout=dropout),
                 "unused": ClassificationHead(16, ["no", "yes"], dropout=dropout)}
        return MultiTaskModel(make_encoder(kind, dropout), heads).eval().to(dtype)


def make_data(n=37, seed=0):
    """Sentences of 1 to 15 words: genre for all, sentiment for a third, valence for a fifth."""
    rng = np.random.default_rng(seed)
    sentences = [" ".join(rng.choice(WORDS, size=rng.integers(1, 16))) for _ in range(n)]
    labels = {"genre": rng.permutation(np.arange(n) % 3), "sentiment": np.full(n, -100),
              "valence": np.full(n, np.nan)}
    labels["sentiment"][::3] = np.arange(len(labels["sentiment"][::3])) % 2
    labels["valence"][1::5] = rng.normal(size=len(labels["valence"][1::5]))
    return LabelledSentences(sentences, labels)


def make_config(**settings):
    plain = {"epochs": 2, "batch_size": 8, "dtype": "float32", "encoder_lr": 1e-3,
             "progress": False}
    return TrainingConfig(**plain | settings)


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def same(first, second):
    """Whether two dicts of tensors are equal to the bit."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name].view(torch.uint8), second[name].view(torch.uint8))
        for name in first)


# Killed processes


def train_and_tell(schedule, folder, file, pipe):
    """Train with a checkpoint a step, say each step into the pipe, and save the final weights."""
    note_step, fsync = Run.note_step, os.fsync

    def tell(run, *arguments):
        note_step(run, *arguments)
        os.write(pipe, b"%d\n" % run.step)

    def slow(descriptor):
        time.sleep(0.02)
        return os.fstat(descriptor)

    Run.note_step, os.fsync = tell, slow
    try:
        model = make_model()
        fit(model, make_data(), make_data(20, seed=1), make_config(
            schedule=schedule, weighting="uncertainty", select="mean", max_steps=8,
            validate_every=3, checkpoint_dir=str(folder), checkpoint_every=1))
        save_file(weights(model), file)
    finally:
        Run.note_step, os.fsync = note_step, fsync


def unfinished(folder):
    """What killed saves left behind."""
    return {path.name for path in folder.glob(".*")} if folder.exists() else set()


def start_and_kill(schedule, folder, file, delay):
    """One life of a training process: None if it finished, else what was there after the kill.

    Args:
        delay: seconds from the first step to the kill; None: it is not killed.
    """
    left = unfinished(folder)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            train_and_tell(schedule, folder, file, writer)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os.close(writer)
    if delay is not None and select.select([reader], [], [], 60)[0]:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader) as lines:
        steps = [int(line) for line in lines.read().split()]
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "training failed"
        return None
    found = load_checkpoint(folder)
    return {"schedule": schedule, "told": steps[-1], "found": found[0] if found else 0,
            "inside": bool(unfinished(folder) - left)}


def kill_often(folder, kills, inside, schedules):
    """Kill runs of each schedule until there were enough kills, also inside saves; a report."""
    chance = random.Random(0)
    report = {"kills": [], "runs": []}
    for schedule in schedules:
        whole, mine = folder / f"{schedule}.safetensors", []
        start_and_kill(schedule, folder / schedule, whole, None)
        expected = load_file(whole)
        while len(mine) < kills or sum(kill["inside"] for kill in mine) < inside:
            run = folder / f"{schedule}-{len(report['runs'])}"
            final = run.with_suffix(".safetensors")
            while kill := start_and_kill(schedule, run, final, chance.uniform(0, 0.3)):
                mine.append(kill)
            report["runs"].append({"schedule": schedule, "same": same(expected, load_file(final))})
        report["kills"] += mine
    return report


# Two processes


def train_together(schedule, processes, seed=0, **settings):
    """Train in float64 without dropout: final weights, and what the history says of the steps.

    One head is frozen, one has no labels, and the last batch has one sentence.
    """
    model = make_model(seed=seed, dropout=0.0, dtype=torch.float64)
    freeze(model, "head:sentiment")
    history = fit(model, make_data(13), make_data(20, seed=1), make_config(
        schedule=schedule, processes=processes, batch_size=4, weight_decay=0.1, select="worst",
        patience=1, accumulate=2 if schedule == "joint" else 1, **settings))
    return weights(model), history


def continue_together(schedule, folder):
    """Stop two processes after their fifth step; they go on with a model of other weights."""
    note_step, settings = Run.note_step, {"checkpoint_dir": str(folder), "checkpoint_every": 2}

    def stop(run, *arguments):
        note_step(run, *arguments)
        if run.step == 5:
            raise KeyboardInterrupt

    Run.note_step = stop
    try:
        train_together(schedule, 2, **settings)
    except KeyboardInterrupt:
        pass
    finally:
        Run.note_step = note_step
    return train_together(schedule, 2, seed=1, **settings)[0]


def refusal(processes):
    try:
        fit(make_model(), make_data(), config=make_config(processes=processes))
    except ValueError as error:
        return str(error)


def main(task, folder, *arguments):
    folder = Path(folder)
    if task == "kill":
        kills, inside, *schedules = arguments
        report = kill_often(folder, int(kills), int(inside), schedules)
        (folder / "report.json").write_text(json.dumps(report))
        return
    rank = int(os.environ["RANK"])
    (folder / f"refusal-{rank}.json").write_text(json.dumps(refusal(1)))
    for schedule in SCHEDULES:
        final, history = train_together(schedule, 2)
        save_file(final, folder / f"{schedule}-{rank}.safetensors")
        (folder / f"{schedule}-{rank}.json").write_text(json.dumps(asdict(history)))
    save_file(continue_together("alternating", folder / "run"), folder / f"continued-{rank}")


if __name__ == "__main__":
    main(*sys.argv[1:])
