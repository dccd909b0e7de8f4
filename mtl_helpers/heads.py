"""What a task adds to the encoder: a head, its loss where there are labels, and their sum.

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

Heads = Mapping[str, Any] | nn.ModuleDict  # {task: Head}, such as `model.heads`
Labels = Mapping[str, Tensor | np.ndarray]
WEIGHTINGS = ("sum", "uncertainty")
VALID = {"categorical": "ids below {}, or -100", "gaussian": "finite floats, or NaN",
         "bernoulli": "0 and 1, or NaN", None: "rows of finite floats, not all 0, or NaN"}


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

    Explained in Task_2.ipynb, "Heads".
    """
    # Of ids, values, vectors of 0 and 1; None: of vectors that have none.
    likelihood: Literal["categorical", "gaussian", "bernoulli"] | None
    predicts = "real value"  # what the model card says where there are no label names

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
            raise ValueError(f"labels[{task!r}] are ids of {list(names)!r:.200}, and those of its "
                             f"head are {own!r:.200}: {mend}")
        single = self.likelihood in ("categorical", "gaussian")
        shape = (size,) if single else (size, self.output_dim)
        valid = VALID[self.likelihood].format(self.output_dim)
        rule = f"labels[{task!r}] must be {shape} {valid} where the label is missing"
        try:
            values = torch.as_tensor(given)
        except (TypeError, ValueError, RuntimeError) as error:  # such as names of classes
            raise ValueError(f"{rule}, got {given!r:.60}") from error
        if values.shape != shape or (single and values.dtype == torch.bool):
            raise ValueError(f"{rule}, got {tuple(values.shape)} {values.dtype}")
        values = values if values.is_floating_point() else values.long()
        if self.likelihood == "categorical":  # whole reals are ids, too
            taken = values.masked_fill(values.isnan(), -100)
            inside = (taken >= 0) & (taken < self.output_dim) & (taken % 1 == 0)
            right, taken = inside | (taken == -100), taken.long()
        else:  # ids are values, too
            values = values if values.is_floating_point() else values.float().masked_fill(
                values == -100, math.nan)
            taken, right = values, values.isfinite() | values.isnan()
        if self.likelihood == "bernoulli":
            right = taken.isnan() | (taken == 0) | (taken == 1)
        elif self.likelihood is None:  # known as a whole, or missing as a whole
            whole = taken.isfinite() & taken.any(dim=1, keepdim=True)
            right = whole | ~has_label(taken)[:, None]
        if not right.all():
            raise ValueError(f"{rule}, got {values[~right][0].item()}")
        return taken


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

    def decode(self, logits: Tensor) -> Prediction:
        return Prediction(values=logits.float().cpu().numpy())


class SimilarityHead(Head):
    """Vectors to stay near, such as the encoder's own from before training; it has no weights.

    The loss is 1 - cosine to the label, (N, D), which keeps a trained encoder fit for search.

    >>> head = SimilarityHead(384)
    >>> head.loss(torch.ones(1, 384), torch.ones(1, 384)).round(decimals=4)
    tensor([0.])
    """
    likelihood = None
    predicts = "vector"

    def __init__(self, embedding_dim: int) -> None:
        nn.Module.__init__(self)  # without the layers of Head
        self.embedding_dim = self.output_dim = embedding_dim
        self.config = {"embedding_dim": embedding_dim}

    def forward(self, embeddings: Tensor) -> Tensor:
        return embeddings

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return 1 - functional.cosine_similarity(logits, labels.to(logits.dtype), dim=-1)

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
    """Mask (B,) of the sentences that have a label, of (B,) or any entry of (B, L)."""
    known = ~labels.isnan() if labels.is_floating_point() else labels != -100
    return known.any(dim=1) if labels.ndim == 2 else known


def check_labels(heads: Heads, labels: Labels, size: int,
                 names: Mapping[str, Sequence[str]] | None = None) -> dict[str, Tensor]:
    """Return labels as the heads take them, or refuse those they cannot learn from.

    Args:
        heads: {task: head}, such as `model.heads`.
        labels: {task: (N,) or (N, L) array or tensor}, for some or all of the tasks.
        size: N, the number of sentences.
        names: {task: the names of its ids}, such as `data.names`.

    Raises:
        ValueError: if a task is unknown, or labels do not fit its head or the sentences.
    """
    if not labels or not set(labels) <= set(heads):
        raise ValueError(f"labels has the tasks {list(labels)}; valid are {list(heads)}")
    taken = {}
    for task, given in labels.items():
        head: Any = heads[task]
        taken[task] = head.take_labels(task, given, size, (names or {}).get(task))
    return taken


def task_losses(heads: Heads, logits: Mapping[str, Tensor],
                labels: Labels) -> dict[str, TaskLoss]:
    """Check the labels, and return each task's loss over the sentences that have its label.

    Args:
        heads: {task: head}, such as `model.heads`.
        logits: {task: (B, C) or (B,)} from the model.
        labels: {task: (B,) or (B, L)}; a task left out here is left out of the result.

    Raises:
        ValueError: as `check_labels`.

    Explained in Task_2.ipynb, "Losses".
    """
    taken = check_labels(heads, labels, len(next(iter(logits.values()))))
    return masked_losses(heads, logits, taken)


def masked_losses(heads: Heads, logits: Mapping[str, Tensor], labels: Labels,
                  batch_counts: Mapping[str, int] | None = None) -> dict[str, TaskLoss]:
    """`task_losses` of labels that are known to fit, as in each step of `fit`.

    `batch_counts` are the labels in the whole batch, {task: n}, where this is one part of a
    batch that is split over processes: the means of the parts then add up to the batch's.
    """
    losses = {}
    for task, given in labels.items():
        outputs = logits[task].to(torch.promote_types(logits[task].dtype, torch.float32))
        values = torch.as_tensor(given).to(outputs.device)
        missing = ~has_label(values)  # (B,)
        rows = missing if values.ndim == 1 else missing[:, None]
        head: Any = heads[task]
        each = head.loss(outputs, values.masked_fill(rows, 0))  # (B,)
        count = (~missing).sum()
        whole = count if batch_counts is None else torch.as_tensor(batch_counts[task])
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
    regression exp(-s) L/2 + s/2. A task without labels adds neither term. One whose loss has
    no likelihood, such as similarity, adds L; one of L labels is a classification.
    """

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.weights = {task: 0.5 if head.likelihood == "gaussian" else 1.0
                        for task, head in heads.items() if head.likelihood}
        # s, in the order of the heads; apart, so that an absent task's has no gradient at all.
        self.log_variances = nn.ParameterList(nn.Parameter(torch.zeros(()))
                                              for _ in self.weights)

    def forward(self, losses: Mapping[str, TaskLoss]) -> Tensor:
        """{task: loss} -> scalar."""
        variances = dict(zip(self.weights, self.log_variances, strict=True))
        terms = []
        for task, loss in losses.items():
            if task not in variances:
                terms.append(loss.mean)
                continue
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
