"""Losses of several tasks over B sentences; a label that is -100 (an id) or NaN is missing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

WEIGHTINGS = ("sum", "log_k", "uncertainty")


@dataclass(frozen=True, eq=False)
class TaskLoss:
    """Loss of one task over a batch, or over one part of a batch that is split."""
    sum: Tensor  # over the labelled sentences here, a scalar with gradient; 0 without any
    count: Tensor  # labelled sentences here
    batch_count: Tensor  # labelled sentences in the whole batch; equal to count if it is not split

    @property
    def mean(self) -> Tensor:
        """What this part adds to the mean by example over the whole batch."""
        return self.sum / self.batch_count.clamp(min=1)


def has_label(labels: Tensor) -> Tensor:
    """Mask of the labels that are not missing, (B,) -> (B,) bool."""
    return ~labels.isnan() if labels.is_floating_point() else labels != -100


def check_labels(heads: Any, labels: Mapping[str, Any], size: int) -> None:
    """Refuse labels that the heads cannot learn from.

    Args:
        heads: {task: head}, such as `model.heads`.
        labels: {task: (N,) array or tensor}, for some or all of the tasks.
        size: N, the number of sentences.

    Raises:
        TypeError: if classification labels are not integers or regression labels not floats.
        ValueError: if a task is unknown, a length is not N, or a label is out of range.
    """
    if not labels or not all(task in heads for task in labels):
        raise ValueError(f"labels has the tasks {list(labels)}; valid are {list(heads)}")
    for task, given in labels.items():
        name, top = f"labels[{task!r}]", heads[task].output_dim - 1
        ids = heads[task].likelihood == "categorical"
        rule = f"integers 0 to {top}, or -100" if ids else "finite floats, or NaN"
        rule = f"{name} must be {rule} where the label is missing"
        try:
            values = torch.as_tensor(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{rule}, got {given!r}") from error
        if values.dtype == torch.bool or values.is_floating_point() == ids:
            raise TypeError(f"{rule}, got {values.dtype}")
        if values.shape != (size,):
            raise ValueError(f"{name} must hold one label for each of the {size} sentences, "
                             f"got shape {tuple(values.shape)}")
        if values.is_cpu:  # elsewhere, looking at the values would wait for the forward pass
            valid = (values >= 0) & (values <= top) if ids else values.isfinite()  # (N,)
            wrong = values[has_label(values) & ~valid]
            if len(wrong):
                raise ValueError(f"{rule}, got {wrong[0].item()}")


def task_losses(heads: Any, logits: Mapping[str, Tensor], labels: Mapping[str, Any],
                batch_counts: Mapping[str, Any] | None = None) -> dict[str, TaskLoss]:
    """Loss of each task over the sentences that have its label.

    Args:
        heads: {task: head}, such as `model.heads`.
        logits: {task: (B, C) or (B,)} from the model.
        labels: {task: (B,)}; a task left out here is left out of the result.
        batch_counts: {task: labels in the whole batch} where this is one part of a batch, split
            over processes or accumulated; the means of the parts then add up to the batch's.

    Raises:
        TypeError, ValueError: as `check_labels`.

    Explained in Task_2.ipynb, "Losses".
    """
    check_labels(heads, labels, len(next(iter(logits.values()))))
    losses = {}
    for task, given in labels.items():
        outputs = logits[task].to(torch.promote_types(logits[task].dtype, torch.float32))
        values = torch.as_tensor(given).to(outputs.device)
        missing = ~has_label(values)  # (B,)
        each = heads[task].loss(outputs, values.masked_fill(missing, 0))  # (B,)
        count = (~missing).sum()
        whole = count if batch_counts is None else torch.as_tensor(batch_counts[task])
        losses[task] = TaskLoss(each.masked_fill(missing, 0).sum(), count, whole)
    return losses


class StaticWeighting(nn.Module):
    """Sum of the mean losses, each times a fixed weight.

    Args:
        weights: {task: weight}, such as `log_k_weights(heads)`.

    Raises:
        ValueError: if a weight is negative or not finite, or a loss has no weight.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        if not all(0 <= weight < math.inf for weight in weights.values()):
            raise ValueError(f"weights must be finite and not negative, got {dict(weights)}")
        self.weights = dict(weights)

    def forward(self, losses: Mapping[str, TaskLoss]) -> Tensor:
        """{task: loss} -> scalar."""
        if not losses or not all(task in self.weights for task in losses):
            raise ValueError(f"losses has the tasks {list(losses)}; valid are {list(self.weights)}")
        return torch.stack([self.term(task, loss) for task, loss in losses.items()]).sum()

    def term(self, task: str, loss: TaskLoss) -> Tensor:
        """What one task adds to the sum."""
        return self.weights[task] * loss.mean


def log_k_weights(heads: Any) -> dict[str, float]:
    """Weights 1 / log K, with which a uniform guess costs 1 in every K-class task; else 1."""
    return {task: 1 / math.log(head.output_dim) if head.likelihood == "categorical" else 1.0
            for task, head in heads.items()}


class UncertaintyWeighting(StaticWeighting):
    """Learns a log variance s for each task (Kendall, Gal and Cipolla, CVPR 2018).

    With L the mean cross-entropy or squared error, a classification adds exp(-s) L + s/2 and a
    regression exp(-s) L/2 + s/2. A task without labels adds neither term.
    """

    def __init__(self, heads: Any) -> None:
        super().__init__({task: 1.0 if head.likelihood == "categorical" else 0.5
                          for task, head in heads.items()})
        # s, in the order of the heads; apart, so that an absent task's has no gradient at all.
        self.log_variances = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in heads)

    def term(self, task: str, loss: TaskLoss) -> Tensor:
        s = self.log_variances[list(self.weights).index(task)]
        penalty = s / 2 * loss.count / loss.batch_count.clamp(min=1)  # 0 without labels
        return torch.exp(-s) * super().term(task, loss) + penalty


def make_weighting(weighting: str | Mapping[str, float], heads: Any) -> nn.Module:
    """Build a weighting by name, one of WEIGHTINGS, or from a weight for each head's task."""
    if isinstance(weighting, Mapping):
        if set(weighting) != set(heads):
            raise ValueError(f"weighting must have a weight for each of {list(heads)}, "
                             f"got {dict(weighting)}")
        return StaticWeighting(weighting)
    if weighting == "uncertainty":
        return UncertaintyWeighting(heads)
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
    return StaticWeighting(log_k_weights(heads) if weighting == "log_k"
                           else dict.fromkeys(heads, 1.0))
