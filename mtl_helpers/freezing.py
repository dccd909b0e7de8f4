"""What is trained and how fast: freezing by name, parameter groups, cached embeddings.

Goes with batching.py, data.py and encoder.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .batching import Tokens
from .encoder import tokenizer_state

if TYPE_CHECKING:
    from .model import MultiTaskModel

PARTS = "all, encoder, embeddings, layers:K (embeddings and the first K layers), head:TASK"
UNUSED, TOP = "encoder.backbone.pooler.", ".final_norm."  # takes no part; is above all layers
WRAPPERS = re.compile(r"(?<!heads\.)\b(_orig_mod|module|_\w+_wrapped_module)\.")


def freeze(model: MultiTaskModel, *parts: str) -> None:
    """Take parts of a model out of training: no gradient, no decay, no dropout.

    Args:
        parts: "all", "encoder", "embeddings", "layers:K" (the embeddings and the first K
            layers), or "head:TASK".

    Raises:
        ValueError: if a part is unknown or K is out of range.

    Explained in Task_3.md, section 3.1.
    """
    _set_requires_grad(model, parts, False)


def unfreeze(model: MultiTaskModel, *parts: str) -> None:
    """Train parts of a model again; parts and errors as in `freeze`."""
    _set_requires_grad(model, parts, True)


def _set_requires_grad(model: MultiTaskModel, parts: tuple[str, ...], value: bool) -> None:
    parameters = named(model)
    chosen: set[str] = set()  # all are found before the first is changed
    for part in parts:
        chosen.update(part_names(model, part))
    for name in chosen:
        parameters[name].requires_grad_(value)
    model.train(model.training)  # what is frozen goes to eval mode, the rest follows the model


def part_names(model: MultiTaskModel, part: str) -> list[str]:
    """The names of the parameters of one part; a ValueError if there is no such part."""
    names = [name for name in named(model) if not name.startswith(UNUSED)]
    kind, _, value = part.partition(":")
    starts = {"all": "", "encoder": "encoder.", "embeddings": "encoder.backbone.embeddings",
              "layers:0": "encoder.backbone.embeddings"}
    for task in model.heads:
        starts[f"head:{task}"] = f"heads.{task}."
    found = [name for name in names if name.startswith(starts.get(part, "-"))]
    if found or part.startswith("head:") and part in starts:
        return found
    layers = layer_count(model)
    if layers and kind == "layers" and value.isdecimal() and int(value) <= layers:
        return [name for name in names if name.startswith("encoder.") and TOP not in name
                and layer_of(name) <= int(value)]
    raise ValueError(f"part must be one of {PARTS}, with K from 0 to {layers} and TASK one of "
                     f"{', '.join(model.heads)}; got {part!r}")


def plain_name(name: str) -> str:
    """A parameter's name without what torch.compile, DataParallel and their like add."""
    plain = WRAPPERS.sub("", name)
    if not plain.startswith(("encoder.", "heads.")):
        raise ValueError(f"model has the parameter {name}, which is in neither encoder nor "
                         "heads: give the MultiTaskModel itself")
    return plain


def named(model: MultiTaskModel) -> dict[str, nn.Parameter]:
    """The parameters of a model by their plain names."""
    return {plain_name(name): parameter for name, parameter in model.named_parameters()}


def layer_of(name: str) -> int:
    """The layer of a parameter, from 1; 0 for embeddings, and for what all layers use."""
    found = re.search(r"^encoder\.backbone\.(?:.*\.)?layers?\.(\d+)\.", name)
    return int(found[1]) + 1 if found else 0


def layer_count(model: MultiTaskModel) -> int:
    """How many layers the backbone has; 0 if they have no numbers, or all share one."""
    return max(layer_of(name) for name in named(model))


def encoder_is_frozen(model: MultiTaskModel) -> bool:
    """Whether no parameter of the encoder is trained."""
    return not any(parameter.requires_grad for parameter in model.encoder.parameters())


def parameter_groups(model: MultiTaskModel, encoder_lr: float, head_lr: float,
                     weight_decay: float = 0.01,
                     layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Group what is trainable for AdamW: a rate for each layer and the heads, decay or none.

    Norms and biases, all that has one dimension, get no weight decay.

    Args:
        model: every parameter that requires a gradient is in exactly one group.
        encoder_lr, head_lr: learning rates of the top layer and of the heads.
        layer_decay: factor from each layer to the one below it (Howard and Ruder 2018), the
            embeddings being the lowest; 1 gives all the same rate.

    Raises:
        ValueError: if nothing is trainable, there are no layers whose rates could decay, or a
            wrapper gives parameters names that are neither the encoder's nor the heads'.

    Explained in Task_3.md, section 3.6.
    """
    layers = layer_count(model)
    if layer_decay != 1 and not layers:
        raise ValueError(f"layer_decay is {layer_decay}, and the layers have no numbers")
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in named(model).items():
        if parameter.requires_grad:
            rate = head_lr
            if name.startswith("encoder."):
                depth = layers if TOP in name else layer_of(name)
                rate = encoder_lr * layer_decay ** (layers - depth)
            decay = weight_decay if parameter.ndim > 1 else 0.0
            empty = {"params": [], "lr": rate, "weight_decay": decay}
            groups.setdefault((rate, decay), empty)["params"].append(parameter)
    if not groups:
        raise ValueError("model must have a trainable parameter, and every one is frozen")
    return list(groups.values())


class Embeddings:
    """The embeddings (N, D) of N sentences of `lengths` tokens: `fit` can be fed these."""

    def __init__(self, values: Tensor, lengths: np.ndarray) -> None:
        self.values, self.lengths = values, lengths

    def collate(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, None]:
        """Those of B rows, (B, D); nothing is padded."""
        return self.values[rows].to(device), None


class Given(nn.Module):
    """Stands where a frozen encoder was, and passes on what that had computed."""

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim

    def forward(self, embeddings: Tensor, attention_mask: None = None) -> Tensor:
        return embeddings


def encoder_hash(weights: Mapping[str, Tensor]) -> str:
    """A hash of a model's encoder by its named weights, without an unused pooler."""
    known = hashlib.sha256()
    for name in sorted(weights, key=plain_name):
        plain = plain_name(name)
        if plain.startswith("encoder.") and not plain.startswith(UNUSED):
            tensor = weights[name].detach().cpu().contiguous()
            known.update(plain.encode())
            known.update(tensor.view(torch.uint8).numpy().data)
    return known.hexdigest()


class FrozenCache:
    """The embeddings that a model's frozen encoder gives N different sentences, computed once.

    Frozen parts have no dropout, so that these stay the same until something that they depend
    on changes; `key` is a hash of all that.

    Args:
        model: a MultiTaskModel whose encoder is frozen.
        sentences: strings; equal ones are computed once.
        dtype: what autocast computes in; None for the type of the parameters.

    Raises:
        ValueError: if the encoder is not frozen.

    Explained in Task_3.md, section 3.4.
    """
    autocast: torch.dtype | None = None  # of what is above: heads alone are faster without

    def __init__(self, model: MultiTaskModel, sentences: Sequence[str],
                 dtype: torch.dtype | None = None) -> None:
        if not encoder_is_frozen(model):
            raise ValueError("model must have a frozen encoder, or its embeddings will change")
        self.dtype, self.key = dtype, self._key(model, dtype)
        self.rows = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
        tokens = Tokens(model.encoder, list(self.rows))
        self.lengths = tokens.lengths  # (N,)
        self.values = self._compute(model, tokens)  # (N, D)

    def check(self, model: MultiTaskModel, dtype: torch.dtype | None) -> None:
        """Raise a ValueError where the model would not give these embeddings now."""
        if dtype != self.dtype or self._key(model, dtype) != self.key:
            raise ValueError("cache was made with other frozen weights, another tokenizer, "
                             f"length or dtype ({self.dtype}, here {dtype}); make it anew")

    def inputs(self, sentences: Sequence[str]) -> Embeddings:
        """What takes the place of the tokens of some sentences; a ValueError if one is new."""
        missing = [sentence for sentence in sentences if sentence not in self.rows]
        if missing:
            raise ValueError(f"cache lacks {len(missing)} of the sentences, such as "
                             f"{missing[0]!r}")
        rows = np.array([self.rows[sentence] for sentence in sentences])
        return Embeddings(self.values[rows], self.lengths[rows])

    def top(self, model: MultiTaskModel) -> MultiTaskModel:
        """The model from there on: its own heads, on embeddings instead of token ids."""
        given: Any = Given(model.encoder.embedding_dim)
        heads: Any = dict(model.heads.items())
        return type(model)(given, heads)

    @torch.no_grad()
    def _compute(self, model: MultiTaskModel, tokens: Tokens) -> Tensor:
        *_, parameter = model.parameters()  # of a head, if one has any
        size = len(self.rows), model.encoder.embedding_dim
        values = torch.empty(size, dtype=parameter.dtype, device="cpu")
        model.train(model.training)  # so that what is frozen has no dropout
        order = np.argsort(-self.lengths, kind="stable")  # like lengths meet
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            ids, mask = tokens.collate(rows, parameter.device)
            with torch.autocast(parameter.device.type, self.dtype, enabled=bool(self.dtype)):
                found = model.encoder(ids, mask)  # (B, T) -> (B, D)
            values[rows] = found.to("cpu", parameter.dtype)
        return values

    def _key(self, model: MultiTaskModel, dtype: torch.dtype | None) -> str:
        encoder = model.encoder
        frozen = {name: weights for name, weights in model.named_parameters()
                  if not weights.requires_grad}
        known = (encoder.max_length, encoder.pooling, encoder.normalize, dtype,
                 tokenizer_state(encoder), encoder.backbone.config.to_json_string(),
                 encoder_hash(frozen))
        return hashlib.sha256(repr(known).encode()).hexdigest()
