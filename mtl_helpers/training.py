"""fit() trains one encoder and several heads, in one process or several; fit_stages() repeats it.

Goes with batching.py, cache.py, checkpoint.py, config.py, evaluation.py, freezing.py, history.py,
losses.py and run.py.
"""

import atexit
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from .cache import FrozenCache
from .config import TrainingConfig, resolve_dtype
from .freezing import freeze, frozen_depth, unfreeze
from .history import History
from .losses import TaskLoss, make_weighting, task_losses
from .run import Run


class Objective(nn.Module):
    """From a batch to the number that is minimised, and to each task's loss."""

    def __init__(self, model: nn.Module, weighting: nn.Module, dtype: torch.dtype | None,
                 cache: FrozenCache | None = None) -> None:
        super().__init__()
        self.model, self.weighting, self.dtype = model, weighting, dtype
        self.computed = (cache.top(model) if cache else model,)  # in a tuple: no second copy
        # Autocast takes longer than heads do, so those alone compute in their own type.
        self.autocast = None if cache and cache.depth == "encoder" else dtype

    def forward(self, inputs: Tensor, attention_mask: Tensor | None, labels: dict[str, Tensor],
                counts: dict[str, int]) -> tuple[Tensor, dict[str, TaskLoss]]:
        device = inputs.device.type
        with torch.autocast(device, self.autocast) if self.autocast else nullcontext():
            logits = self.computed[0](inputs, attention_mask)  # (B, T) -> {task: (B, C)}
        losses = task_losses(self.model.heads, logits, labels, counts)
        return self.weighting(losses), losses


def fit(model: Any, train: Any, validation: Any = None, config: TrainingConfig | None = None,
        backward: Callable[[dict[str, Tensor]], None] | None = None,
        cache: FrozenCache | None = None) -> History:
    """Train what is not frozen of a MultiTaskModel, and leave it in eval mode.

    Args:
        train, validation: LabelledSentences; validation is scored after each epoch.
        backward: fills the gradients from {task: mean loss}, in place of the weighted sum's
            `.backward()`; for methods that combine gradients, in one process.
        cache: of the training sentences, for a model whose lower part is frozen; same losses.

    Raises:
        ValueError: if labels do not fit the heads, nothing is trainable, or checkpoints or cache
            belong to another config, model or data.
        TrainingDiverged: if a loss is not finite.
        OSError: if a checkpoint cannot be written; earlier ones stay.

    Explained in Task_4.ipynb, "The loop".
    """
    config = config or TrainingConfig()
    if backward and (config.processes, config.accumulate, config.weighting) != (1, 1, "sum"):
        raise ValueError('backward needs processes=1, accumulate=1 and weighting="sum"')
    device = next(model.parameters()).device
    weighting = make_weighting(config.weighting, model.heads).to(device)
    objective: Any = Objective(model, weighting, resolve_dtype(device, config.dtype), cache)
    top = objective.computed[0]
    run = Run(objective, train, validation, config, backward, cache)
    rank, world = join_processes(config, device)
    with run.surroundings():
        run.resume()
        if cache:  # what came from a checkpoint must be what the cache was made of
            cache.find(model, train.sentences, objective.dtype)
        if rank == 0 and run.step == 0:
            run.save_if_due()  # what it starts from: a kill before the next save loses no weights
        run.optimizer.zero_grad()  # of what an interrupted run left
        if world > 1:
            objective = DistributedDataParallel(objective, find_unused_parameters=True)
        for batch in run.batches(rank):
            top.train()
            for inputs, last_part in run.parts(batch, rank, world):
                with nullcontext() if last_part or world == 1 else objective.no_sync():
                    loss, losses = objective(*inputs)
                    if backward is None:
                        (loss * world).backward()  # processes average their gradients
                    else:
                        backward({task: loss.mean for task, loss in losses.items()})
                run.note_losses(losses)
            norm = nn.utils.clip_grad_norm_(run.parameters, config.clip_norm)
            run.check_finite(norm)
            run.optimizer.step()
            run.optimizer.zero_grad()
            run.note_step(batch, norm)
            run.rates.step()
            if run.is_due(config.validate_every):
                run.note_epoch(rank)
            if rank == 0:
                run.save_if_due()
    return run.finish()


def fit_stages(model: Any, train: Any, validation: Any,
               stages: Sequence[tuple[Sequence[str], TrainingConfig]]) -> list[History]:
    """Train in stages, each with its frozen parts and its config, by a new optimizer.

    A probe and then fine-tuning (LP-FT, Kumar et al. 2022) are the stages
    [(["encoder"], probe), ([], tuning)]; gradual unfreezing (Howard and Ruder 2018) goes on from
    "encoder" to "layers:5", "layers:4" and so on. A stage that meets its sentences more than once
    computes frozen layers only once. A stage of less than an epoch needs a seed of its own, or it
    meets the sentences of the one before; each stage needs its own `checkpoint_dir`. Arguments and
    errors are those of `fit` and `freeze`.

    Explained in Task_3.md, "One stage after the other".
    """
    histories = []
    for frozen, config in stages:
        unfreeze(model, "all")
        freeze(model, *frozen)
        met = len(train) * config.epochs
        if config.max_steps:
            met = min(met, config.max_steps * config.batch_size)
        cache = None
        if met > len(train) and frozen_depth(model):  # at depth 0 there are only embeddings
            dtype = resolve_dtype(next(model.parameters()).device, config.dtype)
            cache = FrozenCache(model, train.sentences, dtype)
        histories.append(fit(model, train, validation, config, cache=cache))
    return histories


def join_processes(config: TrainingConfig, device: torch.device) -> tuple[int, int]:
    """Rank and number of the processes that train together; they stay joined until they end."""
    joined = distributed.is_available() and distributed.is_initialized()
    started = distributed.get_world_size() if joined else int(os.environ.get("WORLD_SIZE", 1))
    if started != config.processes:
        raise ValueError(f"processes is {config.processes}, but {started} were started; use "
                         f"torchrun --nproc-per-node and TrainingConfig(processes=...) alike")
    if started == 1:
        return 0, 1
    if not joined:  # torchrun's addresses serve once, so another fit uses the same group
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo",
                                       timeout=timedelta(hours=2))  # others wait for a validation
        atexit.register(distributed.destroy_process_group)
    return distributed.get_rank(), started
