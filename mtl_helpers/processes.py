"""The processes that train as one, started by torchrun, or one alone; imports no sibling."""

import atexit
import os
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import distributed

if TYPE_CHECKING:
    from .losses import TaskLoss


class Processes:
    """A process and those that train with it; they stay joined until they end.

    Args:
        expected: how many there should be.
        device: where this one computes.

    Raises:
        ValueError: if torchrun started another number of them.
    """

    def __init__(self, expected: int, device: torch.device) -> None:
        joined = distributed.is_available() and distributed.is_initialized()
        if joined:
            started = distributed.get_world_size()
        else:
            torchrun = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
            started = int(os.environ["WORLD_SIZE"]) if torchrun else 1
        if started != expected:
            raise ValueError(f"processes is {expected}, but {started} were started; use "
                             "torchrun --nproc-per-node N and TrainingConfig(processes=N)")
        if started > 1 and not joined:  # torchrun's addresses serve only once
            join(device)
        self.number, self.device = started, device
        self.rank = distributed.get_rank() if started > 1 else 0

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """The rows of a batch that this process computes: a part, or all of a tiny one."""
        return rows[self.rank :: self.number] if len(rows) >= self.number else rows

    def share(self, rows: np.ndarray) -> float:
        """The factor of a process's loss with which the mean over processes is the batch's."""
        return self.number if len(rows) >= self.number else 1

    def mean_losses(self, losses: dict[str, "TaskLoss"], share: float) -> dict[str, float]:
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
    """Meet the other processes, once in the life of this one."""
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "nccl"
    distributed.init_process_group(backend, timeout=timedelta(hours=2))  # others may validate
    atexit.register(distributed.destroy_process_group)
