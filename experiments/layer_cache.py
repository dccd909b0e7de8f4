"""Hidden states of a model whose lower layers are frozen, computed once: for backbones like BERT.

Where the whole encoder is frozen, `mtl_helpers.FrozenCache` caches its embeddings.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtl_helpers import FrozenCache, MultiTaskModel, SentenceEncoder
from mtl_helpers.batching import Tokens
from mtl_helpers.freezing import layer_of

CHECKED = ("BertModel", "MPNetModel", "RobertaModel")  # laid out alike: embeddings, encoder.layer


def frozen_layers(model: MultiTaskModel) -> int:
    """How many of the lowest layers are frozen, with the embeddings and what all layers use."""
    if type(model.encoder.backbone).__name__ not in CHECKED:
        return 0
    trained = [layer_of(name) for name, parameter in model.encoder.named_parameters("encoder")
               if parameter.requires_grad]
    return max(0, min(trained, default=0) - 1)  # 0 of an encoder that is frozen as a whole


class LayerCache(FrozenCache):
    """What the first frozen layers make of N sentences: a row for each token, none for padding.

    Args:
        model: a MultiTaskModel of which at least one layer is frozen.
        sentences: strings; equal ones are computed once.
        dtype: what autocast computes in; None for the type of the parameters.
    """

    def __init__(self, model: MultiTaskModel, sentences: Sequence[str],
                 dtype: torch.dtype | None = None) -> None:
        self.depth, self.autocast = frozen_layers(model), dtype
        if not self.depth:
            raise ValueError("model must have a frozen layer, of one of " + ", ".join(CHECKED))
        self.dtype, self.key = dtype, self._key(model, dtype)
        self.rows = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
        tokens = Tokens(model.encoder, list(self.rows))
        self.lengths = tokens.lengths  # (N,)
        self.states = self._states(model, tokens)  # N times (T, D)

    def inputs(self, sentences: Sequence[str]) -> HiddenStates:
        """What takes the place of the tokens of some sentences."""
        rows = [self.rows[sentence] for sentence in sentences]
        return HiddenStates([self.states[row] for row in rows], self.lengths[rows])

    def top(self, model: MultiTaskModel) -> MultiTaskModel:
        """The model from there on, with its own parameters: takes hidden states, not token ids."""
        encoder = sharing(model.encoder)
        encoder.backbone.encoder.layer = encoder.backbone.encoder.layer[self.depth :]
        encoder.backbone.embeddings = Given()
        heads: Any = dict(model.heads.items())
        return type(model)(encoder, heads)

    @torch.no_grad()
    def _states(self, model: MultiTaskModel, tokens: Tokens) -> list[Tensor]:
        bottom = sharing(model.encoder).eval().backbone
        bottom.encoder.layer = bottom.encoder.layer[: self.depth]
        device = next(model.parameters()).device
        states = [torch.empty(0)] * len(self.rows)
        order = np.argsort(-self.lengths, kind="stable")  # like lengths meet
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            with torch.autocast(device.type, self.dtype, enabled=bool(self.dtype)):
                found = bottom(*tokens.collate(rows, device)).last_hidden_state  # (B, T, D)
            for row, values in zip(rows, found.cpu(), strict=True):
                states[row] = values[: self.lengths[row]].clone()
        return states


class HiddenStates:
    """The hidden states of N sentences, (T, D) each: `fit` can be fed these."""

    def __init__(self, states: list[Tensor], lengths: np.ndarray) -> None:
        self.states, self.lengths = states, lengths

    def collate(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Those of B rows (B, T, D), and their mask (B, T): None where nothing is padded."""
        lengths = torch.from_numpy(self.lengths[rows])
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()  # (B, T)
        padded = nn.utils.rnn.pad_sequence([self.states[row] for row in rows], batch_first=True)
        return padded.to(device), None if mask.all() else mask.to(device)


class Given(nn.Module):
    """Stands where the embeddings were, and passes on what the frozen layers had computed."""

    def forward(self, input_ids: Tensor, *_: Any, **__: Any) -> Tensor:
        return input_ids


def sharing(encoder: SentenceEncoder) -> Any:
    """A copy of an encoder whose parameters, buffers and settings are those of the original."""
    shared = [*encoder.parameters(), *encoder.buffers(), encoder.tokenizer, encoder.backbone.config]
    return copy.deepcopy(encoder, {id(item): item for item in shared})
