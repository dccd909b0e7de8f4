"""Policies: what each run of Task 3's studies freezes, in stages, and how far features move by it.

A stage is the parts that are frozen and what its TrainingConfig changes. Stages that train a part
of the encoder share the passes of the run, so that each policy trains it equally long; each of them
warms up and decays its rate. Heads that were probed go on at the rate of all heads.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from mtl_helpers import SentenceEncoder

Stage = tuple[tuple[str, ...], dict[str, Any]]
LAYERS = 6  # of all-MiniLM-L6-v2
PROBE: Stage = (("encoder",), {"max_steps": 2500, "validate_every": 250})  # 20 times 4,000 rows

POLICIES: dict[str, list[Stage]] = {
    "full": [((), {})],
    "everything": [],  # what is drawn stays as it is
    "encoder": [PROBE],
    "embeddings": [(("embeddings",), {})],
    **{f"layers-{k}": [((f"layers:{k}",), {})] for k in range(1, LAYERS)},
    **{f"{task}-head-random": [((f"head:{task}",), {})] for task in ("genre", "sentiment")},
    **{f"{task}-head-trained": [PROBE, ((f"head:{task}",), {})] for task in ("genre", "sentiment")},
    "lp-ft": [PROBE, ((), {})],
    "gradual": [PROBE, *(((f"layers:{k}",), {}) for k in range(LAYERS - 1, 0, -1)), ((), {})],
    **{f"decay-{name}": [((), {"layer_decay": factor})]
       for name, factor in (("0.9", 0.9), ("0.8", 0.8), ("2.6", 1 / 2.6))},
}


def policy_stages(policy: str, passes: int, batch_size: int) -> list[Stage]:
    """The stages of a policy with the steps of each; `passes` are those of the tuned encoder."""
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    plan = POLICIES[policy]
    tuning = sum(parts != ("encoder",) for parts, _ in plan)
    steps = -(-passes // (batch_size * max(1, tuning)))
    return [(parts, {"max_steps": steps} | changes) for parts, changes in plan]


@torch.no_grad()
def layer_features(encoder: SentenceEncoder, sentences: list[str]) -> list[np.ndarray]:
    """Mean over tokens of the embeddings' and each layer's output, (N, D) for each of them."""
    parts: list[list[np.ndarray]] = []
    token_ids, device = encoder.tokenize(sentences), next(encoder.parameters()).device
    was_training = encoder.training
    encoder.eval()
    for start in range(0, len(sentences), 50):
        batch = encoder.collate(token_ids[start : start + 50])
        input_ids, mask = (values.to(device) for values in batch)  # (B, T)
        states = encoder.backbone(input_ids, mask, output_hidden_states=True).hidden_states
        weights = mask[..., None] / mask.sum(dim=1)[:, None, None]  # (B, T, 1)
        parts.append([(state * weights).sum(dim=1).cpu().numpy() for state in states])  # (B, D)
    encoder.train(was_training)
    return [np.concatenate(found) for found in zip(*parts, strict=True)]


@functools.cache
def pretrained_features(name: str, sentences: tuple[str, ...]) -> list[np.ndarray]:
    """`layer_features` of an encoder as it was published."""
    return layer_features(SentenceEncoder.from_pretrained(name), list(sentences))


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Similarity of two sets of features (N, D): 1 where one is the other turned, scaled, shifted.

    Kornblith et al. (2019), with the estimator of Song et al. (2012), whose mean is 0 for features
    that have nothing in common, also where D is as large as N.
    """
    return shared(first, second) / np.sqrt(shared(first, first) * shared(second, second))


def shared(first: np.ndarray, second: np.ndarray) -> float:
    """The Hilbert-Schmidt independence criterion of two sets of features, but for a factor."""
    one, two = (values @ values.T for values in (first, second))  # (N, N)
    np.fill_diagonal(one, 0)
    np.fill_diagonal(two, 0)
    n = len(one)
    rows = one.sum(axis=0) @ two.sum(axis=0)
    return float((one * two).sum() + one.sum() * two.sum() / ((n - 1) * (n - 2))
                 - 2 * rows / (n - 2))
