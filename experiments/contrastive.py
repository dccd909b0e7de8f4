"""Does a contrastive loss teach an encoder what a negation does? Trained on eight sentences.

    python -m experiments.contrastive

Records every run that has no record yet, in the study contrastive. The sixteen sentences of
`experiments/sentence_pairs.json` are halved at random, otherwise for each seed. Eight train; the
other eight are scored. Explained in Task_1.ipynb, whose last exercise trains such a run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments.compare_encoders import PAIRS, cosines
from experiments.records import add_record, find_record, read_records
from mtl_helpers import SentenceEncoder

MODEL = "all-MiniLM-L6-v2"
SEEDS = 6
STEPS = 30
LEARNING_RATE = 3e-5  # of AdamW; not tuned
SCALE = 20  # sharpens the cosines, which lie between -1 and 1
# What a sentence has to tell its paraphrase from: the paraphrases of the others, or also negations.
ARMS = ("paraphrases", "negations")


def halves(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which sentences train and which are held out, (8,) and (8,)."""
    order = np.random.default_rng(seed).permutation(len(PAIRS["paraphrase"]))
    return order[: len(order) // 2], order[len(order) // 2 :]


def batch(encoder: SentenceEncoder, kind: str, rows: np.ndarray,
          side: int = 1) -> tuple[Tensor, Tensor]:
    """Token ids and mask of the first or second sentences of some pairs, (B, T) each."""
    return encoder.collate(encoder.tokenize([PAIRS[kind][row][side] for row in rows]))


def contrastive_loss(first: Tensor, second: Tensor) -> Tensor:
    """How badly each vector picks out its partner: vectors (B, D), candidates (C, D), C >= B.

    The partner of row i is candidate i. All vectors have length 1.
    """
    scores = SCALE * first @ second.T  # (B, D) @ (D, C) -> (B, C)
    return cross_entropy(scores, torch.arange(len(first)))


def train(encoder: SentenceEncoder, arm: str, rows: np.ndarray, seed: int) -> None:
    """Train all weights on the sentences of some rows, in one batch, STEPS times."""
    torch.manual_seed(seed)  # of dropout
    anchors = batch(encoder, "paraphrase", rows, side=0)
    candidates = [batch(encoder, "paraphrase", rows)]
    if arm == "negations":
        candidates.append(batch(encoder, "negated", rows))
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=LEARNING_RATE)
    encoder.train()
    for _ in range(STEPS):
        second = torch.cat([encoder(*part) for part in candidates])  # (8, D) or (16, D)
        loss = contrastive_loss(encoder(*anchors), second)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder.eval()


def held_out(encoder: SentenceEncoder, rows: np.ndarray) -> dict[str, list[float]]:
    """The cosines of the pairs of some sentences, by kind of pair."""
    found = cosines(encoder, [])
    return {kind: [values[row] for row in rows] for kind, values in found.items()}


def measure(arm: str, seed: int) -> dict[str, Any]:
    """The record of a run: cosines of the held-out sentences before and after training."""
    encoder = SentenceEncoder.from_pretrained(MODEL)
    training, rest = halves(seed)
    before = held_out(encoder, rest)
    train(encoder, arm, training, seed)
    return {
        "config": {"arm": arm, "seed": seed, "model": MODEL, "encoder_lr": LEARNING_RATE,
                   "steps": STEPS, "scale": SCALE, "sentences": len(training)},
        "held_out": rest.tolist(),
        "cosine_before": before,
        "cosine_after": held_out(encoder, rest),
    }


def outcomes(arm: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Recorded cosines of the held-out sentences before and after, {kind of pair: (S, 8)} each."""
    records = read_records("contrastive")
    found = [records[f"{arm}-{seed}"] for seed in range(SEEDS)]
    before, after = {}, {}
    for kind in PAIRS:
        before[kind] = np.array([record["cosine_before"][kind] for record in found])
        after[kind] = np.array([record["cosine_after"][kind] for record in found])
    return before, after


def main() -> None:
    for seed in range(SEEDS):
        for arm in ARMS:
            name = f"{arm}-{seed}"
            if not find_record("contrastive", name):
                add_record("contrastive", name, measure(arm, seed))
                print(f"{name}: recorded", flush=True)


if __name__ == "__main__":
    main()
