"""FrozenCache: what the frozen bottom of a model makes of sentences, computed once and kept.

Goes with freezing.py.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .freezing import frozen_depth


class FrozenCache:
    """The outputs of a MultiTaskModel's frozen bottom for N different sentences.

    With the whole encoder frozen these are the embeddings, (N, D). With the embedding layer and the
    first K layers frozen they are the hidden states after layer K, a row for each token and none
    for padding: (sum of lengths, D). Frozen parts have no dropout, so that these stay the same
    until something that they depend on changes; `key` is a hash of all that.

    Args:
        model: a MultiTaskModel of which at least the embedding layer is frozen.
        sentences: strings; equal ones are computed once.
        dtype: what autocast computes in; None for the type of the parameters.

    Raises:
        ValueError: if the embedding layer is not frozen.

    Explained in Task_3.md, "What is frozen is computed once".
    """

    def __init__(self, model: Any, sentences: Sequence[str],
                 dtype: torch.dtype | None = None) -> None:
        self.depth, self.dtype = frozen_depth(model), dtype
        if self.depth is None:
            raise ValueError("model must have frozen embeddings, or there is nothing to keep")
        self.key = self._key(model)
        self.rows = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
        token_ids = model.encoder.tokenize(list(self.rows))
        self.lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)  # (N,) tokens
        self.values = self._compute(model, token_ids)

    def find(self, model: Any, sentences: Sequence[str], dtype: torch.dtype | None) -> np.ndarray:
        """Rows (N,) of the sentences, for a model whose frozen bottom is that of the cache.

        Raises:
            ValueError: if the model's weights, tokenizer, settings or frozen parts, or dtype, are
                not those of the cache, or a sentence is not in it.
        """
        if dtype != self.dtype or self._key(model) != self.key:
            raise ValueError("cache was made with other frozen weights, another tokenizer, depth, "
                             f"length or dtype ({self.dtype}, here {dtype}); make it anew")
        missing = [sentence for sentence in sentences if sentence not in self.rows]
        if missing:
            raise ValueError(f"cache lacks {len(missing)} of the sentences, such as {missing[0]!r}")
        return np.array([self.rows[sentence] for sentence in sentences])

    def collate(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """What is kept for B rows, (B, D) or padded (B, T, D), and a mask (B, T)."""
        lengths = torch.from_numpy(self.lengths[rows])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]  # (B, T)
        if self.depth == "encoder":
            return self.values[rows], mask[:, :1]
        states = [self.values[self._starts[row] : self._starts[row + 1]] for row in rows]
        return nn.utils.rnn.pad_sequence(states, batch_first=True), mask.long()  # (B, T, D)

    def top(self, model: Any) -> nn.Module:
        """The model from there on, with its own parameters: takes what `collate` returns."""
        encoder: Any = _Given()
        if self.depth != "encoder":
            encoder = _sharing(model.encoder)
            layers = encoder.backbone.encoder.layer
            encoder.backbone.encoder.layer = layers[self.depth :]
            encoder.backbone.embeddings = _Given()
        encoder.embedding_dim = model.encoder.embedding_dim
        return type(model)(encoder, dict(model.heads.items()))

    @torch.no_grad()
    def _compute(self, model: Any, token_ids: list[np.ndarray]) -> Tensor:
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)])  # (N + 1,)
        bottom = _sharing(model.encoder).eval()
        device = next(model.parameters()).device
        if self.depth != "encoder":
            bottom = bottom.backbone
            bottom.encoder.layer = bottom.encoder.layer[: self.depth]
        parts: list[Tensor] = [torch.empty(0)] * len(token_ids)
        order = np.argsort(-self.lengths, kind="stable")  # like lengths meet
        for rows in np.split(order, range(32, len(order), 32)) if len(order) else []:
            input_ids, mask = model.encoder.collate([token_ids[row] for row in rows])
            with torch.autocast(device.type, self.dtype) if self.dtype else nullcontext():
                found = bottom(input_ids.to(device), None if mask.all() else mask.to(device))
            found = getattr(found, "last_hidden_state", found).cpu()  # (B, D) or (B, T, D)
            if self.depth == "encoder":
                found = found.to(next(model.heads.parameters()).dtype)
            for row, values in zip(rows, found, strict=True):
                parts[row] = (values[None] if self.depth == "encoder"
                              else values[: self.lengths[row]])
        return torch.cat(parts) if parts else torch.empty(0)

    def _key(self, model: Any) -> str:
        encoder = model.encoder
        settings = (frozen_depth(model), encoder.max_length, encoder.pooling, encoder.normalize,
                    encoder.backbone.config.to_json_string(), str(self.dtype))
        known = hashlib.sha256(repr((settings, tokenizer_state(encoder))).encode())
        for name, parameter in encoder.named_parameters():
            if not parameter.requires_grad:
                known.update(name.encode())
                known.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy())
        return known.hexdigest()


def tokenizer_state(encoder: Any) -> dict[str, Any]:
    """All that a tokenizer's ids depend on, but for the length at which it cuts."""
    state = json.loads(encoder.tokenizer.backend_tokenizer.to_str())
    return {name: value for name, value in state.items() if name not in ("truncation", "padding")}


def inputs_of(model: Any, sentences: list[str], dtype: torch.dtype | None,
              cache: FrozenCache | None = None) -> tuple[Callable[[Any], Any], np.ndarray]:
    """How to collate rows of the sentences, from a cache if there is one; their lengths (N,)."""
    if cache:
        kept = cache.find(model, sentences, dtype)
        return lambda rows: cache.collate(kept[rows]), cache.lengths[kept]
    token_ids = model.encoder.tokenize(sentences)
    return (lambda rows: model.encoder.collate([token_ids[row] for row in rows]),
            np.array([len(ids) for ids in token_ids]))


class _Given(nn.Module):
    """Stands where the frozen bottom was, and passes on what that had computed."""

    def forward(self, input_ids: Tensor, *_: Any, **__: Any) -> Tensor:
        return input_ids


def _sharing(module: Any) -> Any:
    """A copy of a module whose parameters, buffers and settings are those of the original."""
    shared = [*module.parameters(), *module.buffers(), module.tokenizer, module.backbone.config]
    return copy.deepcopy(module, {id(item): item for item in shared})
