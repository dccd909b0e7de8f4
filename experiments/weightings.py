"""Ways to weigh or combine tasks that the weighting study tried: log K, PCGrad and UPGrad.

PCGrad is of Yu et al. (2020), UPGrad of Quinton and Rey (2024); both fill the `backward` of `fit`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

AGGREGATORS = ("PCGrad", "UPGrad")


def log_k(classes: Mapping[str, int]) -> dict[str, float]:
    """{task: 1 / log K}, by which a uniform guess among K classes costs 1; 1.0 where K is 0."""
    return {task: 1 / math.log(k) if k else 1.0 for task, k in classes.items()}


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
