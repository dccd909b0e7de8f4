"""The losses of a batch by task, how they are summed, and the processes that share a batch.

Imports no sibling. A label that is -100 (a class id) or NaN (a value, or all entries of a
vector) is missing.
"""

import atexit
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

Heads = Mapping[str, Any] | nn.ModuleDict  # {task: Head}, such as `model.heads`
Labels = Mapping[str, Tensor | np.ndarray]
WEIGHTINGS = ("sum", "uncertainty")


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

    Explained in Task_2.ipynb, section 2.3.
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
        values = torch.as_tensor(given, device=outputs.device)
        missing = ~has_label(values)  # (B,)
        rows = missing if values.ndim == 1 else missing[:, None]
        head: Any = heads[task]
        each = head.loss(outputs, values.masked_fill(rows, 0))  # (B,)
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
    regression exp(-s) L/2 + s/2. A task without labels adds neither term. One whose loss has
    no likelihood, such as similarity, adds L; one of L labels is a classification.
    """

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.weights = {task: 0.5 if head.likelihood == "gaussian" else 1.0
                        for task, head in heads.items() if head.likelihood}
        # s, in the order of the heads; apart, so that an absent task's has no gradient at all.
        zero = torch.zeros((), dtype=torch.float32, device="cpu")
        self.log_variances = nn.ParameterList(
            nn.Parameter(zero.clone()) for _ in self.weights)

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
    if weighting == "uncertainty":
        return UncertaintyWeighting(heads)
    weights = weighting if isinstance(weighting, Mapping) else dict.fromkeys(heads, 1.0)
    if set(weights) != set(heads):
        raise ValueError(f"weighting must have a weight for each of {list(heads)}, "
                         f"got {dict(weights)}")
    return StaticWeighting(weights)


# Several processes


class Processes:
    """A process and those that train with it; they stay joined until they end.

    Args:
        expected: how many there should be.
        device: where this one computes.

    Raises:
        ValueError: if torchrun started another number of them.
    """

    def __init__(self, expected: int, device: torch.device) -> None:
        torchrun = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
        started = int(os.environ["WORLD_SIZE"]) if torchrun else 1
        if started != expected:
            raise ValueError(f"processes is {expected}, but {started} were started; use "
                             "torchrun --nproc-per-node N and TrainingConfig(processes=N)")
        self.number, self.device, self.rank = started, device, 0
        if started > 1:
            join(device)
            self.rank = distributed.get_rank()

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """The rows of a batch that this process computes: a part, or all of a tiny one."""
        return rows[self.rank :: self.number] if len(rows) >= self.number else rows

    def share(self, rows: np.ndarray) -> float:
        """The factor of a process's loss with which the mean over processes is the batch's."""
        return self.number if len(rows) >= self.number else 1

    def mean_losses(self, losses: dict[str, TaskLoss], share: float) -> dict[str, float]:
        """The mean loss of each task over a whole batch, of which each process has a part."""
        means = {task: loss.mean.item() for task, loss in losses.items()}
        if self.number == 1:
            return means
        parts = torch.tensor([*means.values()], dtype=torch.float64, device=self.device)
        distributed.all_reduce(parts)
        return dict(zip(means, (parts * share / self.number).tolist(), strict=True))

    def agree(self, value: float | None) -> float | None:
        """The first process's value, in every process."""
        if self.number == 1 or value is None:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, src=0)
        return shared.item()


def join(device: torch.device) -> None:
    """Meet the other processes, once in the life of this one: addresses serve only once."""
    if not distributed.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group(timeout=timedelta(hours=2))  # others may validate
        atexit.register(distributed.destroy_process_group)
