"""What Task_2.ipynb needs beside the package: tables' rows, tags of words, heads on vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from experiments.analysis import paired_test
from mtl_helpers import (
    GENRES,
    SENTIMENTS,
    ClassificationHead,
    LabelledSentences,
    SentenceEncoder,
    score_classification,
    task_losses,
)
from mtl_helpers.losses import TaskLoss
from mtl_helpers.synthetic import CUES

IGNORED = -100  # which PyTorch's cross-entropy leaves out


def count(module: torch.nn.Module) -> int:
    """How many weights a module has."""
    return sum(parameter.numel() for parameter in module.parameters())


def f1(true: np.ndarray, ids: np.ndarray, labels: list[str]) -> float:
    """Macro-F1 in points of 100."""
    return 100 * score_classification(true, ids, labels).macro_f1


def comparison(train: LabelledSentences, test: LabelledSentences, task: str, labels: list[str],
               probe: np.ndarray, trained: np.ndarray) -> list[float | str]:
    """Macro-F1 of the commonest class, a probe and a trained model, and the gain's interval.

    `probe` and `trained` are the predicted ids of the N test sentences.
    """
    true = test.labels[task]
    commonest = np.full(len(test), np.bincount(train.labels[task]).argmax())
    found: list[float | str] = [f1(true, ids, labels) for ids in (commonest, probe, trained)]
    gain = paired_test(true, probe, trained, groups=test.groups)
    ends = f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
    return [*found, ends.replace("-", "\N{MINUS SIGN}").replace(" ", "\N{NO-BREAK SPACE}")]


def train_heads(vectors: np.ndarray, labels: Mapping[str, np.ndarray],
                hidden: int | None = None, seed: int = 0) -> torch.nn.ModuleDict:
    """Heads of genre and sentiment after 100 steps on the frozen vectors (N, D)."""
    torch.manual_seed(seed)
    width = vectors.shape[1]
    heads = torch.nn.ModuleDict({"genre": ClassificationHead(width, GENRES, hidden),
                                 "sentiment": ClassificationHead(width, SENTIMENTS, hidden)})
    known = {task: labels[task] for task in heads}
    optimizer = torch.optim.AdamW(heads.parameters(), lr=1e-2)
    for _ in range(100):
        logits = {task: head(torch.from_numpy(vectors)) for task, head in heads.items()}
        losses = task_losses(heads, logits, known)
        optimizer.zero_grad()
        (losses["genre"].mean + losses["sentiment"].mean).backward()
        optimizer.step()
    return heads.eval()


def head_scores(heads: torch.nn.ModuleDict, vectors: np.ndarray,
                labels: Mapping[str, np.ndarray]) -> list[float]:
    """Macro-F1 of each head on vectors (N, D), in points of 100."""
    scores = []
    for task, head in heads.items():
        with torch.no_grad():
            ids = head.decode(head(torch.from_numpy(vectors))).ids
        scores.append(f1(labels[task], ids, head.labels))
    return scores


def held_fixed(losses: Mapping[str, TaskLoss]) -> dict[str, TaskLoss]:
    """Losses without their graph."""
    return {task: replace(loss, sum=loss.sum.detach()) for task, loss in losses.items()}


def cue(task: str, sentence: str) -> tuple[int, int]:
    """Where the cue of a task stands in a synthetic sentence: its first character, its end."""
    for row in CUES[task]:
        for words in product(*[part.split(", ") for part in row.split("; ")]):
            phrase = " ".join(words)
            if phrase in sentence:
                start = sentence.index(phrase)
                return start, start + len(phrase)
    raise ValueError(f"sentence must have a cue of {task}, got {sentence!r}")


def word_tags(encoder: SentenceEncoder, sentences: list[str]) -> Tensor:
    """The tag of each token of synthetic sentences, (B, T) as `encoder.collate` pads them.

    0 is a word of no cue, 1 one of the topic's, 2 one of the sentiment's. [CLS], [SEP] and
    padding have no tag, which is -100.
    """
    encoded = encoder.tokenizer(sentences, padding=True, return_offsets_mapping=True)
    starts, ends = torch.tensor(encoded["offset_mapping"]).unbind(dim=-1)  # (B, T) characters
    tags = torch.where(ends > starts, 0, IGNORED)
    for row, sentence in enumerate(sentences):
        for tag, task in ((1, "topic"), (2, "sentiment")):
            first, end = cue(task, sentence)
            tags[row, (starts[row] >= first) & (ends[row] <= end) & (tags[row] == 0)] = tag
    return tags
