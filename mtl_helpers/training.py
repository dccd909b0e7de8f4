"""fit() trains one encoder and several heads, in one process or several.

Goes with batching.py, checkpoint.py, config.py, data.py, encoder.py, evaluation.py,
freezing.py, heads.py, losses.py and model.py.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from .batching import Batch, Tokens, count_labels, passes, plan_epoch, take_labels
from .checkpoint import load_checkpoint, save_checkpoint
from .config import Best, History, TrainingConfig, alike, fingerprint, resolve_dtype
from .data import LabelledSentences, is_known
from .encoder import advice_on_memory
from .evaluation import evaluate
from .freezing import FrozenCache, encoder_hash, parameter_groups
from .losses import Processes, TaskLoss, check_labels, make_weighting, masked_losses
from .model import MultiTaskModel

LEFT = "encoder.sha256"  # beside the checkpoints: a hash of what `fit` left in the model
logger = logging.getLogger(__name__)


class TrainingDiverged(ArithmeticError):
    """A loss or a gradient is not finite; the weights are those of before the step."""


class Objective(nn.Module):
    """From a batch to the number that is minimised, and to each task's loss."""

    def __init__(self, model: MultiTaskModel, weighting: nn.Module,
                 dtype: torch.dtype | None) -> None:
        super().__init__()
        self.model, self.weighting, self.dtype = model, weighting, dtype

    def forward(self, inputs: Tensor, attention_mask: Tensor | None, labels: dict[str, Tensor],
                counts: dict[str, int]) -> tuple[Tensor, dict[str, TaskLoss]]:
        with torch.autocast(inputs.device.type, self.dtype, enabled=self.dtype is not None):
            logits = self.model(inputs, attention_mask)  # (B, T) -> {task: (B, C)}
        losses = masked_losses(self.model.heads, logits, labels, counts)
        return self.weighting(losses), losses


@advice_on_memory("batch_size, or the encoder's max_length")
def fit(model: MultiTaskModel, train: LabelledSentences,
        validation: LabelledSentences | None = None, config: TrainingConfig | None = None,
        backward: Callable[[dict[str, Tensor]], None] | None = None,
        cache: FrozenCache | None = None) -> History:
    """Train what is not frozen of a model, and leave it in eval mode.

    Args:
        train, validation: validation is scored after each epoch.
        backward: fills the gradients from {task: mean loss}, in place of the weighted sum's
            `.backward()`; for methods that combine gradients, in one process.
        cache: of the training sentences, for a model whose encoder is frozen; same losses.

    Raises:
        ValueError: if labels do not fit the heads, nothing is trainable, or checkpoints or
            cache belong to another config, model or data.
        TrainingDiverged: if a loss is not finite.
        OSError: if a checkpoint cannot be written; earlier ones stay.

    These, a KeyboardInterrupt and whatever else ends the loop have the `history` so far, and
    the model keeps the selected weights, or those of the last whole step.
    Explained in Task_4.ipynb, section 4.2.
    """
    # Check
    config = config or TrainingConfig()
    labels = check(model, train, validation, config, backward)
    train = replace(train, labels=labels)
    device = next(model.parameters()).device
    dtype = resolve_dtype(device, config.dtype)
    team = Processes(config.processes, device)

    # Build: what is fed, what is trained, and how fast
    inputs = cache.inputs(train.sentences) if cache else Tokens(model.encoder, train.sentences)
    trained = cache.top(model) if cache else model  # its parameters are those of the model
    weighting = make_weighting(config.weighting, model.heads).to(device)
    objective: Any = Objective(trained, weighting, cache.autocast if cache else dtype)
    groups = parameter_groups(model, config.encoder_lr, config.head_lr, config.weight_decay,
                              config.layer_decay)
    for parameter in weighting.parameters():
        groups.append({"params": [parameter], "lr": config.head_lr, "weight_decay": 0.0})
    parameters = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.AdamW(groups, fused=True)
    plan = partial(plan_epoch, train.labels, config.schedule, config.batch_size, config.seed,
                   lengths=inputs.lengths, temperature=config.temperature)
    per_epoch = len(plan(epoch=0))
    log_repeats(model, train.labels, plan(epoch=0))
    last = min(config.epochs * per_epoch, config.max_steps or config.epochs * per_epoch)
    warmup = math.ceil(config.warmup * last)
    rates = LambdaLR(optimizer, partial(rate, warmup=warmup, last=last))
    scored = validation if team.rank == 0 else None  # the first process scores for all
    checkpoint_every = config.checkpoint_every or per_epoch

    # Resume: what happened so far, here or in the run that is continued
    history, best = History(asdict(config)), Best(config.select, config.patience)
    parts = {"model": model, "weighting": weighting, "optimizer": optimizer, "rates": rates,
             "history": history, "best": best}
    kind = fingerprint(model, train, validation, config, dtype, backward)
    done = resume(config.checkpoint_dir, parts, kind)
    if team.agree(done) != done:
        raise ValueError("checkpoint_dir must be a folder that all processes see")
    if cache:  # what came from a checkpoint must be what the cache was made of
        cache.check(model, dtype)
    saves = config.checkpoint_dir if team.rank == 0 else None
    if saves and not done:
        save(saves, 0, parts, kind)  # a kill before the next save loses no weights
    if best.stopped or done == last:
        logger.warning("%s holds a finished run: nothing is left to train", saves)
    optimizer.zero_grad()  # of what an interrupted run left
    if team.number > 1:
        objective = DistributedDataParallel(objective, find_unused_parameters=True)

    # Loop
    gpus = [device] if device.type == "cuda" else []  # whose random state is put back, too
    shown = config.progress and team.rank == 0
    steps = tqdm(batches(plan, per_epoch, done, last, best), total=last, initial=done,
                 unit="step", leave=False, disable=None if shown else True)
    try:
        with model.encoder.eager_attention(inputs.lengths), torch.random.fork_rng(gpus), steps:
            for epoch, step, batch in steps:
                trained.train()
                seed_dropout(device, config.seed, step, team.rank)  # of a resumed step, alike
                rows, counts = team.rows(batch.rows), count_labels(train.labels, batch)
                ids, mask = inputs.collate(rows, device)  # (B, T), (B, T)
                labels = take_labels(train.labels, counts, rows, device)
                loss, losses = objective(ids, mask, labels, counts)
                share = team.share(batch.rows)  # as processes average their gradients; one: 1
                if backward:
                    backward({task: one.mean for task, one in losses.items()})
                else:
                    (loss * share).backward()
                norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm)
                means = team.mean_losses(losses, share)
                check_finite(step, means, norm)
                optimizer.step()
                optimizer.zero_grad()
                history.add_step(epoch, step, len(batch.rows), counts, means, norm.item(),
                                 float(rates.get_last_lr()[0]))
                rates.step()
                if is_due(step, last, config.validate_every or per_epoch):
                    reports = evaluate(model, scored, dtype or torch.float32) if scored else {}
                    score = team.agree(best.judge(reports, train.labels))
                    best.update(step, score, model)
                    history.add_epoch(reports, score)
                    if shown:
                        tqdm.write(history.epoch_line())  # above a bar that may be there
                if saves and (best.stopped or is_due(step, last, checkpoint_every)):
                    save(saves, step, parts, kind)
    except BaseException as stopped:
        vars(stopped)["history"] = history
        raise

    # Finish
    finally:
        model.load_state_dict(best.weights, strict=False)  # none without select
        history.best_step = best.step
        model.eval()
        if saves:
            Path(saves, LEFT).write_text(encoder_hash(dict(model.named_parameters())))
    return history


def check(model: MultiTaskModel, train: LabelledSentences,
          validation: LabelledSentences | None, config: TrainingConfig,
          backward: Callable[..., None] | None) -> dict[str, Any]:
    """Refuse what cannot be trained, before any change; return the labels to train on.

    A head that has no weights rests while the encoder is frozen: its labels are left out.
    """
    if backward and (config.processes > 1 or config.weighting != "sum"):
        raise ValueError('backward needs processes=1 and weighting="sum"')
    labels = check_labels(model.heads, train.labels, len(train), train.names)
    valid: list[str | None] = [None]  # of select
    if validation is not None:
        check_labels(model.heads, validation.labels, len(validation), validation.names)
        for task in train.labels.keys() & validation.labels.keys():
            if is_known(validation.labels[task]).any():
                valid += [task, "mean"] if model.heads[task].likelihood else [task]
    if config.select not in valid:
        raise ValueError(f"select must be a task, or the mean of those, with labels in train "
                         f"and validation: one of {set(valid)}, got {config.select!r}")
    for task in train.labels:
        learners = nn.ModuleList([model.encoder, model.heads[task]]).parameters()
        if any(parameter.requires_grad for parameter in learners):
            continue
        if len(labels) > 1 and not list(model.heads[task].parameters()):
            logger.warning("%s rests: it has no weights and the encoder is frozen", task)
            del labels[task]
        else:
            raise ValueError(f"train.labels[{task!r}] has nothing to train: encoder and head "
                             "are frozen; leave the task out or unfreeze one of them")
    return labels


def log_repeats(model: MultiTaskModel, labels: Mapping[str, Any], plan: list[Batch]) -> None:
    """Say where sentences for similarity make a schedule repeat other tasks' labels."""
    largest = max(labels, key=lambda task: is_known(labels[task]).sum())
    if model.heads[largest].likelihood is None:
        for task, times in passes(labels, plan).items():
            if times >= 2:
                logger.warning("an epoch uses each label of %s %.1f times; schedule='joint' "
                               "uses it once", task, times)


def batches(plan: Callable[..., list[Batch]], per_epoch: int, done: int, last: int,
            best: Best) -> Iterator[tuple[int, int, Batch]]:
    """Epoch, step and batch of what comes after `done` steps, up to `last` or `best` stops."""
    for epoch in count(done // per_epoch):
        for step, batch in enumerate(plan(epoch=epoch), start=1 + epoch * per_epoch):
            if step > last or best.stopped:
                return
            if step > done:
                yield epoch + 1, step, batch


def rate(step: int, warmup: int, last: int) -> float:
    """Share of the full learning rate: up over the warm-up, then down to 0, linearly."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (last - step) / max(1, last - warmup)


def is_due(step: int, last: int, every: int) -> bool:
    """Whether what happens every so many steps happens now; after the last step it does."""
    return step % every == 0 or step == last


def check_finite(step: int, losses: dict[str, float], norm: Tensor) -> None:
    """Raise a TrainingDiverged that says which loss or gradient is not finite."""
    wrong = [task for task, loss in losses.items() if not math.isfinite(loss)]
    if wrong:
        raise TrainingDiverged(f"step {step}: the loss of {', '.join(wrong)} is not finite")
    if not math.isfinite(norm):
        raise TrainingDiverged(f"step {step}: the gradient of {[*losses]} is not finite")


# Stopping and going on


def save(folder: str | Path, step: int, parts: dict[str, Any], kind: dict[str, Any]) -> None:
    """Write a checkpoint of all parts of a run."""
    state = {name: part.state_dict() for name, part in parts.items()}
    save_checkpoint(folder, step, {"kind": kind, **state})


def resume(folder: str | Path | None, parts: dict[str, Any], kind: dict[str, Any]) -> int:
    """Put the newest checkpoint into the parts of a run: the steps it has made, 0 without one.

    An encoder may go on if its weights are those that the run began with, those of its newest
    checkpoint, or those that `fit` left in the model, at the end or when it was interrupted.

    Raises:
        ValueError: if the checkpoint is of another run; names what differs.
    """
    if not folder:
        return 0
    kind["encoder"] = encoder_hash(dict(parts["model"].named_parameters()))
    step, state = load_checkpoint(folder) or (0, {})
    if not state:
        return 0
    if not {"kind", *parts} <= state.keys():
        raise ValueError(f"checkpoint_dir {folder} holds a checkpoint that fit did not write")
    old, left = state["kind"], Path(folder, LEFT)
    ended = left.is_file() and left.read_text(errors="replace")
    if kind["encoder"] in (encoder_hash(state["model"]), ended):
        kind["encoder"] = old["encoder"]  # of the weights that the run began with
    for name in {**old, **kind}:
        if not alike(old.get(name), kind.get(name)):
            raise ValueError(f"checkpoint_dir {folder} holds a run with another {name}: "
                             f"{old.get(name)!r:.200} there, {kind.get(name)!r:.200} here; "
                             "give this run its own folder")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return step


def seed_dropout(device: torch.device, seed: int, step: int, rank: int) -> None:
    """Seed what dropout draws from, by seed, step and process alone."""
    drawn = int(np.random.SeedSequence([seed, step - 1, rank]).generate_state(1)[0])
    torch.default_generator.manual_seed(drawn)  # torch.manual_seed takes long, for all devices
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(drawn)
    elif device.type != "cpu":
        torch.get_device_module(device).manual_seed(drawn)
