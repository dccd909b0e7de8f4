"""What a task adds to the encoder: a head, its loss where there are labels, and their sum.

A head turns sentence embeddings (B, D) into logits, (B, C) or (B,). A label that is -100 (a
class id) or NaN (a value) is missing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Heads = Mapping[str, Any] | nn.ModuleDict  # {task: Head}, such as `model.heads`
Labels = Mapping[str, Tensor | np.ndarray]
WEIGHTINGS = ("sum", "uncertainty")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a head says of N sentences: regression fills `values`, classification the rest."""

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
        dropout: probability that training drops an input of a linear layer.
        output_dim: C, or 1 for regression.

    Raises:
        ValueError: if a dimension is below 1, or dropout outside [0, 1].

    Explained in Task_2.ipynb, "Heads".
    """
    likelihood: Literal["categorical", "gaussian"]  # labels are ids 0..C-1, or real values

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
        """Prediction for the sentences of these logits, (N, C) or (N,)."""
        raise NotImplementedError


class ClassificationHead(Head):
    """One of C labels, named in the order of their ids; trained with softmax cross-entropy.

    >>> head = ClassificationHead(384, ["negative", "neutral", "positive"])
    >>> head(torch.zeros(2, 384)).shape
    torch.Size([2, 3])
    """
    likelihood = "categorical"

    def __init__(self, embedding_dim: int, labels: list[str], hidden_dim: int | None = None,
                 dropout: float = 0.1) -> None:
        listed = isinstance(labels, list | tuple) and all(isinstance(k, str) for k in labels)
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


@dataclass(frozen=True, eq=False)
class TaskLoss:
    """Loss of one task over a batch, or over one process's part of it."""
    sum: Tensor  # over the labelled sentences here, a scalar with gradient; 0 without any
    count: Tensor  # labelled sentences here
    batch_count: Tensor  # labelled sentences in the whole batch, of which this may be a part

    @property
    def mean(self) -> Tensor:
        """What this part adds to the mean by example over the whole batch."""
        return self.sum / self.batch_count.clamp(min=1)


def has_label(labels: Tensor) -> Tensor:
    """Mask of the labels that are not missing, (B,) -> (B,) bool."""
    return ~labels.isnan() if labels.is_floating_point() else labels != -100


def check_labels(heads: Heads, labels: Labels, size: int) -> None:
    """Refuse labels that the heads cannot learn from.

    Args:
        heads: {task: head}, such as `model.heads`.
        labels: {task: (N,) array or tensor}, for some or all of the tasks.
        size: N, the number of sentences.

    Raises:
        ValueError: if a task is unknown, or labels do not fit its head or the sentences.
    """
    if not labels or not set(labels) <= set(heads):
        raise ValueError(f"labels has the tasks {list(labels)}; valid are {list(heads)}")
    for task, given in labels.items():
        head: Any = heads[task]
        ids = head.likelihood == "categorical"
        valid = f"ids below {head.output_dim}, or -100" if ids else "finite floats, or NaN"
        rule = f"labels[{task!r}] must be ({size},) {valid} where the label is missing"
        try:
            values = torch.as_tensor(given, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:  # such as names of classes
            raise ValueError(f"{rule}, got {given!r:.60}") from error
        wrong_kind = values.dtype == torch.bool or values.is_floating_point() == ids
        if values.shape != (size,) or wrong_kind:
            raise ValueError(f"{rule}, got {tuple(values.shape)} {values.dtype}")
        known = values[has_label(values)]
        right = (known >= 0) & (known < head.output_dim) if ids else known.isfinite()
        if not right.all():
            raise ValueError(f"{rule}, got {known[~right][0].item()}")


def task_losses(heads: Heads, logits: Mapping[str, Tensor],
                labels: Labels) -> dict[str, TaskLoss]:
    """Check the labels, and return each task's loss over the sentences that have its label.

    Args:
        heads: {task: head}, such as `model.heads`.
        logits: {task: (B, C) or (B,)} from the model.
        labels: {task: (B,)}; a task left out here is left out of the result.

    Raises:
        ValueError: as `check_labels`.

    Explained in Task_2.ipynb, "Losses".
    """
    check_labels(heads, labels, len(next(iter(logits.values()))))
    return masked_losses(heads, logits, labels)


def masked_losses(heads: Heads, logits: Mapping[str, Tensor], labels: Labels,
                  batch_counts: Mapping[str, int] | None = None) -> dict[str, TaskLoss]:
    """`task_losses` of labels that are known to fit, as in each step of `fit`.

    `batch_counts` are the labels in the whole batch, {task: n}, where this is one part of a
    batch that is split over processes: the means of the parts then add up to the batch's.
    """
    losses = {}
    for task, given in labels.items():
        outputs = logits[task].to(torch.promote_types(logits[task].dtype, torch.float32))
        values = torch.as_tensor(given, device=outputs.device)
        missing = ~has_label(values)  # (B,)
        head: Any = heads[task]
        each = head.loss(outputs, values.masked_fill(missing, 0))  # (B,)
        count = (~missing).sum()
        whole = count if batch_counts is None else count.new_tensor(batch_counts[task])
        losses[task] = TaskLoss(each.masked_fill(missing, 0).sum(), count, whole)
    return losses


class StaticWeighting(nn.Module):
    """Sum of the mean losses, each times a fixed weight.

    Args:
        weights: {task: weight}.

    Raises:
        ValueError: if a weight is negative or not finite.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        if not all(0 <= weight < math.inf for weight in weights.values()):
            raise ValueError(f"weights must be finite and not negative, got {dict(weights)}")
        self.weights = dict(weights)

    def forward(self, losses: Mapping[str, TaskLoss]) -> Tensor:
        """{task: loss} -> scalar."""
        terms = [self.weights[task] * loss.mean for task, loss in losses.items()]
        return torch.stack(terms).sum()


class UncertaintyWeighting(nn.Module):
    """Learns a log variance s for each task (Kendall, Gal and Cipolla, CVPR 2018).

    With L the mean cross-entropy or squared error, a classification adds exp(-s) L + s/2 and a
    regression exp(-s) L/2 + s/2. A task without labels adds neither term.
    """

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.weights = {task: 1.0 if head.likelihood == "categorical" else 0.5
                        for task, head in heads.items()}
        # s, in the order of the heads; apart, so that an absent task's has no gradient at all.
        zero = torch.zeros((), dtype=torch.float32, device="cpu")
        self.log_variances = nn.ParameterList(nn.Parameter(zero.clone()) for _ in heads)

    def forward(self, losses: Mapping[str, TaskLoss]) -> Tensor:
        """{task: loss} -> scalar."""
        variances = dict(zip(self.weights, self.log_variances, strict=True))
        terms = []
        for task, loss in losses.items():
            s = variances[task]
            penalty = s / 2 * loss.count / loss.batch_count.clamp(min=1)  # 0 without labels
            terms.append(torch.exp(-s) * (self.weights[task] * loss.mean) + penalty)
        return torch.stack(terms).sum()


def make_weighting(weighting: str | Mapping[str, float], heads: Heads) -> nn.Module:
    """Build a weighting by name, one of WEIGHTINGS, or from a weight for each head's task."""
    if isinstance(weighting, Mapping):
        if set(weighting) != set(heads):
            raise ValueError(f"weighting must have a weight for each of {list(heads)}, "
                             f"got {dict(weighting)}")
        return StaticWeighting(weighting)
    if weighting == "uncertainty":
        return UncertaintyWeighting(heads)
    return StaticWeighting(dict.fromkeys(heads, 1.0))
