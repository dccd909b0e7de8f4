"""Other ways to keep an encoder's similarity while it learns classes, beside SimilarityHead.

Squared error on vectors needs no run: of vectors of length 1 it is twice SimilarityHead's loss.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtl_helpers import MultiTaskModel, SentenceEncoder, SimilarityHead

STRENGTH = 0.1  # of L2-SP's pull to where a weight started, for each unit of distance; not tuned


class BatchCosinesHead(SimilarityHead):
    """Keeps the cosines between the sentences of a batch, not the vectors themselves.

    The relational distance of Park et al. (2019), with cosines and squared error.
    """
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        now = functional.normalize(logits.float(), dim=-1)  # (B, D)
        before = functional.normalize(labels.float(), dim=-1)
        return (now @ now.T - before @ before.T).square().mean(dim=1)  # (B, B) -> (B,)


def l2_sp(model: MultiTaskModel, strength: float) -> Callable[[dict[str, Tensor]], None]:
    """Gradients of the loss and of strength / 2 times the squared distance from the start.

    L2-SP (Li et al. 2018) on what is trained of the encoder; for the `backward` of `fit`.
    """
    started = [(parameter, parameter.detach().clone()) for parameter in model.encoder.parameters()
               if parameter.requires_grad]

    def backward(losses: dict[str, Tensor]) -> None:
        sum(losses.values(), torch.zeros(())).backward()
        for parameter, first in started:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - first, alpha=strength)
    return backward


@functools.cache
def published_vectors(sentences: tuple[str, ...]) -> np.ndarray:
    """The sentences' vectors by the encoder as it came, (N, D)."""
    return SentenceEncoder.from_pretrained("all-MiniLM-L6-v2").encode(sentences)


@torch.no_grad()
def average_with(encoder: SentenceEncoder, published: SentenceEncoder) -> None:
    """Put the mean of its own and the published weights into an encoder (Wortsman et al. 2022)."""
    for own, other in zip(encoder.parameters(), published.parameters(), strict=True):
        own.lerp_(other, 0.5)
