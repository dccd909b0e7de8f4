"""Policies: what each run of Task 3's studies freezes, in stages, and how far features move by it.

A stage is the parts that are frozen and what its TrainingConfig changes. Stages that train a part
of the encoder share the passes of the run, so that each policy trains it equally long; each of them
warms up and decays its rate. Heads that were probed go on at the rate of all heads.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from experiments.layer_cache import LayerCache, frozen_layers
from experiments.page import table
from mtl_helpers import (
    FrozenCache,
    History,
    LabelledSentences,
    MultiTaskModel,
    SentenceEncoder,
    TrainingConfig,
    fit,
    freeze,
    resolve_dtype,
    unfreeze,
)
from mtl_helpers.freezing import encoder_is_frozen, layer_count, layer_of

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


def fit_stages(model: MultiTaskModel, train: LabelledSentences,
               validation: LabelledSentences | None,
               stages: Sequence[tuple[Sequence[str], TrainingConfig]]) -> list[History]:
    """Train in stages, each with its frozen parts, its config and a new optimizer.

    A stage that meets its sentences more than once computes frozen layers only once. A stage of
    less than an epoch needs a seed of its own, or it meets the sentences of the one before.
    """
    histories = []
    for frozen, config in stages:
        unfreeze(model, "all")
        freeze(model, *frozen)
        met = len(train) * config.epochs
        if config.max_steps:
            met = min(met, config.max_steps * config.batch_size)
        cache = cached(model, train.sentences, config) if met > len(train) else None
        histories.append(fit(model, train, validation, config, cache=cache))
    return histories


def cached(model: MultiTaskModel, sentences: list[str],
           config: TrainingConfig) -> FrozenCache | None:
    """A cache of what the frozen part of a model makes of sentences, if that is worth it."""
    dtype = resolve_dtype(next(model.parameters()).device, config.dtype)
    if encoder_is_frozen(model):
        return FrozenCache(model, sentences, dtype)
    return LayerCache(model, sentences, dtype) if frozen_layers(model) else None


def trainable_table(model: MultiTaskModel) -> str:
    """A Markdown table of the model's parts: their parameters, and how many are trainable."""
    parts: dict[str, list[torch.nn.Parameter]] = {"embeddings": []}
    parts |= {f"layer {number}": [] for number in range(1, layer_count(model) + 1)}
    parts |= {f"head:{task}": [] for task in model.heads} | {"rest of the encoder": [], "all": []}
    for name, parameter in model.named_parameters():
        parts[part_name(name)].append(parameter)
        parts["all"].append(parameter)
    rows = []
    for part, found in parts.items():
        trainable = [p for p in found if p.requires_grad]
        if found:
            rows.append((part, f"{count(found):,}", f"{count(trainable):,}"))
    return table(("part", "parameters", "trainable"), rows)


def part_name(name: str) -> str:
    """The part of a model that a parameter of this name belongs to."""
    if name.startswith("heads."):
        return f"head:{name.split('.')[1]}"
    if layer_of(name):
        return f"layer {layer_of(name)}"
    return "embeddings" if ".embeddings." in name else "rest of the encoder"


def count(parameters: list[torch.nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


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
