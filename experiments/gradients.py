"""PCGrad (Yu et al. 2020) and UPGrad (Quinton and Rey 2024) for the `backward` of `fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

AGGREGATORS = ("PCGrad", "UPGrad")


def backward(model: Any, name: str) -> Callable[[dict[str, Tensor]], None]:
    """What fills the gradients: each head's from its own loss, the encoder's by an aggregator.

    Both aggregators give the sum of the gradients where these do not conflict.
    """
    from torchjd.aggregation import PCGrad, UPGrad
    from torchjd.autojac import jac_to_grad, mtl_backward

    if name not in AGGREGATORS:
        raise ValueError(f"name must be one of {', '.join(AGGREGATORS)}, got {name!r}")
    aggregator = PCGrad() if name == "PCGrad" else UPGrad(pref_vector=torch.ones(len(model.heads)))
    shared = [p for p in model.encoder.parameters() if p.requires_grad]
    embeddings: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        embeddings[:] = [output]

    def fill(losses: dict[str, Tensor]) -> None:
        mtl_backward(list(losses.values()), features=embeddings.pop(), shared_params=shared,
                     parallel_chunk_size=1)
        jac_to_grad(shared, aggregator)

    model.encoder.register_forward_hook(keep)
    fill.__name__ = name  # a checkpoint of another aggregator is refused by it
    return fill
