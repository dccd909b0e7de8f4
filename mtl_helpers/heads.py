"""Task heads: each turns sentence embeddings (B, D) into one task's logits, (B, C) or (B,)."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a head says about N sentences: regression fills `values`, classification the rest."""
    labels: list[str] | None = None  # N label names
    ids: np.ndarray | None = None  # (N,) int64
    probabilities: np.ndarray | None = None  # (N, C) float32
    values: np.ndarray | None = None  # (N,) float32, on the scale of the labels


class Head(nn.Module):
    """The contract of a head: a new kind sets `likelihood` and defines `loss` and `decode`.

    Its `config` holds the arguments that build it again.

    Args:
        embedding_dim: D of the encoder.
        hidden_dim: width of one hidden layer with GELU; None makes the head linear.
        dropout: probability in [0, 1) that training drops an input of a linear layer.
        output_dim: C, or 1 for regression.

    Raises:
        ValueError: if a dimension is not a positive int or dropout is outside [0, 1).

    Explained in Task_2.ipynb, "Heads".
    """
    likelihood: Literal["categorical", "gaussian"]  # labels are ids 0..C-1, or real values

    def __init__(self, embedding_dim: int, hidden_dim: int | None = None, dropout: float = 0.1,
                 output_dim: int = 1) -> None:
        super().__init__()
        dims = [embedding_dim, *([] if hidden_dim is None else [hidden_dim]), output_dim]
        if any(type(dim) is not int or dim < 1 for dim in dims):
            raise ValueError(f"embedding_dim and hidden_dim must be positive ints, got {dims[:-1]}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
        self.embedding_dim, self.output_dim = embedding_dim, output_dim
        self.config: dict[str, Any] = {
            "embedding_dim": embedding_dim, "hidden_dim": hidden_dim, "dropout": dropout}
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(dims):
            layers += [nn.GELU(), nn.Dropout(dropout), nn.Linear(inputs, outputs)]
        self.network = nn.Sequential(*layers[1:])

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.network(embeddings)  # (B, D) -> (B, C)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each sentence (B,); `task_losses` masks those whose label is missing."""
        raise NotImplementedError

    def decode(self, logits: Tensor) -> Prediction:
        """Prediction for the sentences of these logits, (N, C) or (N,)."""
        raise NotImplementedError


class ClassificationHead(Head):
    """One of C labels, named in the order of their ids; trained with softmax cross-entropy."""
    likelihood = "categorical"

    def __init__(self, embedding_dim: int, labels: list[str], hidden_dim: int | None = None,
                 dropout: float = 0.1) -> None:
        listed = isinstance(labels, list | tuple) and all(isinstance(name, str) for name in labels)
        if not listed or "" in labels or not 2 <= len(set(labels)) == len(labels):
            raise ValueError(f"labels must list two or more different names, got {labels!r}")
        super().__init__(embedding_dim, hidden_dim, dropout, output_dim=len(labels))
        self.labels = self.config["labels"] = list(labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels.long(), reduction="none")

    def decode(self, logits: Tensor) -> Prediction:
        probabilities = logits.float().softmax(dim=-1).cpu().numpy()  # (N, C)
        ids = probabilities.argmax(axis=1)
        return Prediction([self.labels[i] for i in ids], ids, probabilities)


class RegressionHead(Head):
    """One real value; trained with squared error."""
    likelihood = "gaussian"

    def __init__(self, embedding_dim: int, hidden_dim: int | None = None,
                 dropout: float = 0.1) -> None:
        super().__init__(embedding_dim, hidden_dim, dropout)

    def forward(self, embeddings: Tensor) -> Tensor:
        return super().forward(embeddings).squeeze(-1)  # (B, D) -> (B, 1) -> (B,)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return (logits - labels.to(logits.dtype)) ** 2

    def decode(self, logits: Tensor) -> Prediction:
        return Prediction(values=logits.float().cpu().numpy())
