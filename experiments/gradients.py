"""Gradients of several tasks in one model: which parts they reach, and how far they agree."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mtl_helpers import ClassificationHead, LabelledSentences, MultiTaskModel, task_losses
from mtl_helpers.freezing import layer_of

Gradients = dict[str, dict[str, Tensor | None]]  # {task: {part: (P,), None without a path}}


class Agreement(NamedTuple):
    """Cosines of the second task's gradient, in the parts of the encoder (K), with that of ..."""
    other_task: np.ndarray  # (R, K): the first task, on the same sentences
    other_sentences: np.ndarray  # (R - 1, K): itself, on the batch before
    copied: np.ndarray  # (K,): a copy of its head, which must give 1
    negated: np.ndarray  # (K,): a copy with the opposite loss, which must give -1


class NegatedHead(ClassificationHead):
    """A head whose loss has the opposite sign."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return -super().loss(logits, labels)


def part_of(name: str) -> str:
    """The part of a model that a parameter belongs to: embeddings, layer 1 ..., head:TASK."""
    if name.startswith("heads."):
        return f"head:{name.split('.')[1]}"
    layer = layer_of(name)
    return f"layer {layer}" if layer else "embeddings"


def parts(model: MultiTaskModel) -> dict[str, list[torch.nn.Parameter]]:
    """The trainable parameters of each part, from the embeddings to the heads."""
    found: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found.setdefault(part_of(name), []).append(parameter)
    return found


def in_encoder(model: MultiTaskModel, loss: Tensor) -> Tensor:
    """The gradient of a loss in the P trainable weights of the encoder, as one vector (P,)."""
    weights = [weight for weight in model.encoder.parameters() if weight.requires_grad]
    found = torch.autograd.grad(loss, weights, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in found])


def gradients(model: MultiTaskModel, batch: LabelledSentences) -> Gradients:
    """The gradient of each task's mean loss over a batch, in each part of the model."""
    device = next(model.parameters()).device
    inputs = model.encoder.collate(model.encoder.tokenize(batch.sentences))
    logits = model(*(tensor.to(device) for tensor in inputs))
    labels = {task: batch.labels[task] for task in model.heads}
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found: Gradients = {}
    for task, loss in task_losses(model.heads, logits, labels).items():
        each = torch.autograd.grad(loss.mean, weights, retain_graph=True, allow_unused=True)
        pieces: dict[str, list[Tensor]] = {part: [] for part in parts(model)}
        for name, gradient in zip(names, each, strict=True):
            if gradient is not None:
                pieces[part_of(name)].append(gradient.flatten())
        found[task] = {part: torch.cat(some) if some else None for part, some in pieces.items()}
    return found


def norms(model: MultiTaskModel, batch: LabelledSentences) -> np.ndarray:
    """Norms (parts, tasks) of the gradients of a batch; NaN where no path leads to a part."""
    found = gradients(model, batch)
    lengths = np.full((len(parts(model)), len(found)), np.nan)
    for column, of_task in enumerate(found.values()):
        for row, gradient in enumerate(of_task.values()):
            if gradient is not None:
                lengths[row, column] = gradient.norm().item()
    return lengths


def agreement(model: MultiTaskModel, data: LabelledSentences, batches: int = 10,
                     size: int = 24) -> Agreement:
    """How far the gradients of two tasks agree in each part of the encoder.

    Args:
        model: with two heads, in eval mode, so that no dropout adds noise.
        data: labelled for both; batch after batch is taken from its start.
        batches: R.
        size: sentences in a batch.
    """
    first, second = model.heads
    across, again, before = [], [], None
    for start in range(0, batches * size, size):
        found = gradients(model, data.select(range(start, start + size)))
        across.append(cosines(found[first], found[second]))
        if before is not None:
            again.append(cosines(before, found[second]))
        before = found[second]
    copied, negated = controls(model, second, data.select(range(size)))
    return Agreement(np.array(across), np.array(again), copied, negated)


def controls(model: MultiTaskModel, task: str, batch: LabelledSentences) -> list[np.ndarray]:
    """Cosines of a task's gradient with a copy's and a negated copy's: 1 and -1, if all is well."""
    head = model.heads[task]
    negated = NegatedHead(**head.config).to(next(head.parameters()).device)
    negated.load_state_dict(head.state_dict())
    heads = {"itself": head, "copied": copy.deepcopy(head), "negated": negated.eval()}
    labels = dict.fromkeys(heads, batch.labels[task])
    found = gradients(MultiTaskModel(model.encoder, heads).eval(),
                      LabelledSentences(batch.sentences, labels))
    return [cosines(found["itself"], found[name]) for name in ("copied", "negated")]


def cosines(one: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> np.ndarray:
    """Cosine of two tasks' gradients in each part of the encoder (K,), which both reach."""
    found = []
    for part, gradient in one.items():
        beside = other.get(part)
        if gradient is not None and beside is not None and not part.startswith("head:"):
            found.append(cosine_similarity(gradient, beside, dim=0).item())
    return np.array(found)
