"""What a task adds to the encoder: a head, the loss of its labels, and what it predicts.

A head turns sentence embeddings (B, D) into logits, (B, C) or (B,). A label that is -100 (a
class id) or NaN (a value, or all entries of a vector) is missing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a head says of N sentences: `values`, or for classification the rest."""

    labels: list[Any] | None = None  # N label names; lists of them, where a sentence has any
    ids: np.ndarray | None = None  # (N,) int64; (N, L) of 0 and 1, where it has any
    probabilities: np.ndarray | None = None  # (N, C) or (N, L) float32
    values: np.ndarray | None = None  # (N,) float32, on the scale of the labels, or (N, D)


class Head(nn.Module):
    """The contract of a head: a new kind sets `likelihood` and defines `loss` and `decode`.

    Its `config` holds the arguments that build it again.

    Args:
        embedding_dim: D of the encoder.
        hidden_dim: width of one hidden layer with GELU; None makes the head linear.
        dropout: probability that training drops an input of a linear layer.
        output_dim: C, or 1 for regression.

    Raises:
        ValueError: if a dimension is below 1, or dropout outside [0, 1].

    Explained in Task_2.ipynb, section 2.2.
    """
    # Of class ids, values, or vectors of 0 and 1; None of vectors to be near.
    likelihood: Literal["categorical", "gaussian", "bernoulli"] | None
    vectors = False  # whether a label is a row (L,)
    rule = "finite floats, or NaN"  # what labels it takes, for messages
    predicts = "real value"  # for the model card, where there are no label names

    def __init__(self, embedding_dim: int, hidden_dim: int | None = None, dropout: float = 0.1,
                 output_dim: int = 1) -> None:
        super().__init__()
        width = output_dim if hidden_dim is None else hidden_dim
        if embedding_dim < 1 or width < 1:
            raise ValueError("embedding_dim and hidden_dim must be at least 1, "
                             f"got {embedding_dim} and {hidden_dim}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
        self.embedding_dim, self.output_dim = embedding_dim, output_dim
        self.config: dict[str, Any] = {
            "embedding_dim": embedding_dim, "hidden_dim": hidden_dim, "dropout": dropout}
        self.network = nn.Sequential(nn.Dropout(dropout), nn.Linear(embedding_dim, width))
        if hidden_dim is not None:
            output = nn.Linear(hidden_dim, output_dim)
            self.network.extend([nn.GELU(), nn.Dropout(dropout), output])

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.network(embeddings)  # (B, D) -> (B, C)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each sentence (B,); missing labels are masked by `task_losses`."""
        raise NotImplementedError

    def decode(self, logits: Tensor) -> Prediction:
        """Prediction for the sentences of these logits, (N, C) or (N,): here, the values."""
        return Prediction(values=logits.float().cpu().numpy())

    def takes(self, labels: Tensor) -> Tensor:
        """Mask of the labels (N,) or (N, L), NaN where missing, from which it can learn."""
        return labels.isfinite()

    def take_labels(self, task: str, given: Any, size: int,
                    names: Sequence[str] | None = None) -> Tensor:
        """Labels of N sentences as `loss` takes them: ids int64, all else floating-point.

        Args:
            task, size: the head's name, for messages, and N.
            given: (N,) or, for vectors, (N, L); an array or a tensor.
            names: those of the ids, where labels came as names.

        Raises:
            ValueError: if this head cannot learn from them.
        """
        own = getattr(self, "labels", None)
        if names is not None and list(names) != own:
            mend = "this head takes numbers, not text"
            if own:
                mend = (f"make the data with names={{{task!r}: heads[{task!r}].labels}}, or "
                        f"the head with data.names[{task!r}]")
            raise ValueError(f"labels[{task!r}] are ids of {list(names)!r:.200}, and those of "
                             f"its head are {own!r:.200}: {mend}")
        shape = (size, self.output_dim) if self.vectors else (size,)
        valid = self.rule.format(self.output_dim)
        rule = f"labels[{task!r}] must be {shape} {valid} where the label is missing"
        try:
            values = torch.as_tensor(given, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:  # such as names of classes
            raise ValueError(f"{rule}, got {given!r:.60}") from error
        if values.shape != shape or values.dtype == torch.bool:
            raise ValueError(f"{rule}, got {tuple(values.shape)} {values.dtype}")
        real = values if values.is_floating_point() else values.float()
        if not values.is_floating_point() or self.likelihood == "categorical":
            real = real.masked_fill(values == -100, math.nan)  # whole reals are ids, too
        right = real.isnan() | self.takes(real)
        if not right.all():
            first = (~right).nonzero()[0, 0]  # a sentence
            raise ValueError(f"{rule}, got {values[first].tolist()!r:.60}")
        return real.nan_to_num(-100).long() if self.likelihood == "categorical" else real


class NamedHead(Head):
    """A head with an output for each of C or L names."""

    def __init__(self, embedding_dim: int, labels: Iterable[str],
                 hidden_dim: int | None = None, dropout: float = 0.1) -> None:
        plain = np.iterable(labels) and not isinstance(labels, str | Mapping)
        listed = list(labels) if plain else []
        texts = [str(name) for name in listed if isinstance(name, str)]
        if "" in texts or len(texts) < 2 or len(set(texts)) < len(listed):
            raise ValueError(f"labels must list two or more different names, got {labels!r}")
        super().__init__(embedding_dim, hidden_dim, dropout, output_dim=len(texts))
        self.labels = self.config["labels"] = texts


class ClassificationHead(NamedHead):
    """One of C labels, named in the order of their ids; trained with softmax cross-entropy.

    >>> head = ClassificationHead(384, ["negative", "neutral", "positive"])
    >>> head(torch.zeros(2, 384)).shape
    torch.Size([2, 3])
    """
    likelihood = "categorical"
    rule = "ids below {}, or -100"

    def takes(self, labels: Tensor) -> Tensor:
        return (labels >= 0) & (labels < self.output_dim) & (labels % 1 == 0)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels.long(), reduction="none")

    def decode(self, logits: Tensor) -> Prediction:
        probabilities = logits.float().softmax(dim=-1).cpu().numpy()  # (N, C)
        ids = probabilities.argmax(axis=1)
        return Prediction([self.labels[i] for i in ids], ids, probabilities)


class MultiLabelHead(NamedHead):
    """Any of L labels; trained with the binary cross-entropy of each, of those that are known.

    >>> head = MultiLabelHead(384, ["funny", "rude"])
    >>> head.loss(torch.zeros(1, 2), torch.tensor([[1.0, math.nan]])).round(decimals=4)
    tensor([0.6931])
    """
    likelihood = "bernoulli"
    vectors, rule = True, "0 and 1, or NaN"

    def takes(self, labels: Tensor) -> Tensor:
        return (labels == 0) | (labels == 1)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        known = ~labels.isnan()  # (B, L)
        each = functional.binary_cross_entropy_with_logits(
            logits, labels.nan_to_num().to(logits.dtype), reduction="none")
        return each.masked_fill(~known, 0).sum(dim=1) / known.sum(dim=1)  # (B, L) -> (B,)

    def decode(self, logits: Tensor) -> Prediction:
        probabilities = logits.float().sigmoid().cpu().numpy()  # (N, L)
        ids = (probabilities >= 0.5).astype(np.int64)
        names = [[self.labels[i] for i in np.flatnonzero(row)] for row in ids]
        return Prediction(names, ids, probabilities)


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


class SimilarityHead(Head):
    """Vectors to stay near, such as the encoder's own from before training; it has no weights.

    The loss is 1 - cosine to the label, (N, D), which keeps a trained encoder fit for search.

    >>> head = SimilarityHead(384)
    >>> head.loss(torch.ones(1, 384), torch.ones(1, 384)).round(decimals=4)
    tensor([0.])
    """
    likelihood = None
    vectors, rule, predicts = True, "rows of finite numbers, not all 0, or of NaN", "vector"

    def __init__(self, embedding_dim: int) -> None:
        nn.Module.__init__(self)  # without the layers of Head
        self.embedding_dim = self.output_dim = embedding_dim
        self.config = {"embedding_dim": embedding_dim}

    def forward(self, embeddings: Tensor) -> Tensor:
        return embeddings

    def takes(self, labels: Tensor) -> Tensor:
        whole = labels.isfinite().all(dim=1) & labels.any(dim=1)  # (N,)
        return whole[:, None].expand_as(labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return 1 - functional.cosine_similarity(logits, labels.to(logits.dtype), dim=-1)
