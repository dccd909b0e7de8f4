"""Run: what a training run carries from step to step, and how it is stopped and continued.

Goes with batching.py, cache.py, checkpoint.py, config.py, evaluation.py, freezing.py, history.py
and losses.py.
"""

import hashlib
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from .batching import Batch, plan_epoch, split_rows
from .cache import FrozenCache, inputs_of, tokenizer_state
from .checkpoint import load_checkpoint, save_checkpoint
from .config import TrainingConfig, seed_device
from .evaluation import evaluate
from .freezing import parameter_groups
from .history import History, epoch_line
from .losses import TaskLoss, check_labels, has_label

MAY_CHANGE = ("checkpoint_dir", "checkpoint_every", "progress")  # when a run is continued


class TrainingDiverged(ArithmeticError):
    """A loss or a gradient is not finite; weights and checkpoints are those of before the step."""


class Run:
    """What a run carries from step to step."""

    def __init__(self, objective: Any, train: Any, validation: Any, config: TrainingConfig,
                 backward: Any = None, cache: FrozenCache | None = None) -> None:
        model = objective.model
        self.objective, self.model, self.validation, self.config = (
            objective, model, validation, config)
        self.labels = checked_labels(model, train, validation, config)
        self.device = next(model.parameters()).device
        self.collate, self.lengths = inputs_of(model, train.sentences, objective.dtype, cache)
        groups = parameter_groups(model, config.encoder_lr, config.head_lr, config.weight_decay,
                                  config.layer_decay)
        groups += [{"params": [parameter], "lr": config.head_lr, "weight_decay": 0.0}
                   for parameter in objective.weighting.parameters()]
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = torch.optim.AdamW(groups, fused=True)
        self.per_epoch = len(self.plan(0))
        self.last = min(config.epochs * self.per_epoch, config.max_steps or sys.maxsize)
        self.rates = LambdaLR(self.optimizer, self.rate)
        self.inputs = fingerprint(model, train, validation, config, objective.dtype, backward)
        self.history = History(asdict(config))
        self.step, self.waited, self.stopped = 0, 0, False
        self.losses: dict[str, float] = {}  # of the step under way
        self.best: dict[str, Any] = {"score": -math.inf, "step": None, "weights": {}}

    def plan(self, epoch: int) -> list[Batch]:
        config = self.config
        return plan_epoch(self.labels, config.schedule, config.batch_size, config.seed, epoch,
                          self.lengths if config.group_by_length else None, config.temperature)

    def rate(self, step: int) -> float:
        """Share of the full learning rate: up over the warm-up, then down to 0, linearly."""
        warmup = math.ceil(self.config.warmup * self.last)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return (self.last - step) / max(1, self.last - warmup)

    def batches(self, rank: int) -> Iterator[Batch]:
        """The batches that are still to come."""
        shown = self.config.progress and rank == 0
        with tqdm(total=self.last, initial=self.step, unit="step", leave=False,
                  disable=None if shown else True) as bar:
            while self.step < self.last and not self.stopped:
                epoch, done = divmod(self.step, self.per_epoch)
                for batch in self.plan(epoch)[done : done + self.last - self.step]:
                    # Dropout depends on seed, step and process alone, so a resumed run repeats it.
                    seeds = np.random.SeedSequence([self.config.seed, self.step, rank])
                    seed_device(self.device, int(seeds.generate_state(1)[0]))
                    self.losses = {}
                    yield batch
                    bar.update()
                    if self.stopped:
                        break

    def parts(self, batch: Batch, rank: int,
              world: int) -> Iterator[tuple[tuple[Any, ...], bool]]:
        """What this process computes of a batch: the arguments of the objective, and if it ends."""
        labels = {task: torch.from_numpy(self.labels[task][batch.rows]) for task in batch.tasks}
        counts = {task: int(has_label(values).sum()) for task, values in labels.items()}
        for i in range(self.config.accumulate):
            rows, counted = split_rows(batch.rows, rank + world * i, world * self.config.accumulate)
            some = {task: torch.from_numpy(self.labels[task][rows])
                    for task, count in counts.items() if count}  # a head without labels rests
            if not counted:
                some = {task: torch.full_like(values, math.nan if values.is_floating_point()
                                              else -100) for task, values in some.items()}
            inputs, mask = self.collate(rows)  # (B, T) ids, or what a cache has; (B, T)
            padded = None if mask.all() else mask.to(self.device)
            some = {task: values.to(self.device) for task, values in some.items()}
            yield (inputs.to(self.device), padded, some, counts), i + 1 == self.config.accumulate

    def note_losses(self, losses: Mapping[str, TaskLoss]) -> None:
        for task, loss in losses.items():
            self.losses[task] = self.losses.get(task, 0.0) + loss.mean.item()

    def check_finite(self, norm: Tensor) -> None:
        if self.config.processes > 1:  # each has the losses of its part of the batch
            shares = torch.tensor([*self.losses.values()], dtype=torch.float64, device=self.device)
            distributed.all_reduce(shares)
            self.losses = dict(zip(self.losses, shares.tolist(), strict=True))
        if not math.isfinite(norm) or not all(map(math.isfinite, self.losses.values())):
            wrong = [task for task, loss in self.losses.items() if not math.isfinite(loss)]
            raise TrainingDiverged(
                f"step {self.step + 1}: the loss of {', '.join(wrong)} is not finite" if wrong else
                f"step {self.step + 1}: the gradient of {', '.join(self.losses)} is not finite")

    def note_step(self, batch: Batch, norm: Tensor) -> None:
        epoch, rate = 1 + self.step // self.per_epoch, self.optimizer.param_groups[0]["lr"]
        self.step += 1
        labels = {task: int((has_label(torch.from_numpy(self.labels[task][batch.rows]))).sum())
                  for task in self.losses}
        self.history.steps.append({
            "step": self.step, "epoch": epoch, "sentences": len(batch.rows), "labels": labels,
            "loss": self.losses, "gradient_norm": norm.item(), "rate": rate})

    def is_due(self, every: int | None) -> bool:
        """Whether what happens every so many steps, or each epoch, happens after this step."""
        return self.step % (every or self.per_epoch) == 0 or self.step == self.last

    def note_epoch(self, rank: int) -> None:
        """Score the validation data, keep the best weights, and see if training should stop."""
        epoch = self.history.steps[-1]["epoch"]
        row: dict[str, Any] = {"epoch": epoch, "step": self.step, "validation": {}, "score": None,
                               "loss": self.history.mean_losses()}
        if self.validation is not None:
            if rank == 0:
                dtype = self.objective.dtype or torch.float32
                reports = evaluate(self.model, self.validation, dtype=dtype)
                row["validation"] = {task: _metrics(report) for task, report in reports.items()}
            if self.config.select:
                learned = {t: row["validation"][t] for t in self.labels if t in row["validation"]}
                row["score"] = self.agree(_score(learned, self.config.select))
                self.select(row["score"])
        self.history.epochs.append(row)
        if self.config.progress and rank == 0:
            tqdm.write(epoch_line(row))  # above a bar that may be there

    def select(self, score: float) -> None:
        if score > self.best["score"]:
            weights = {name: parameter.detach().clone() for name, parameter
                       in self.model.named_parameters() if parameter.requires_grad}
            self.best = {"score": score, "step": self.step, "weights": weights}
            self.waited = 0
        else:
            self.waited += 1
            self.stopped = self.waited == self.config.patience

    def agree(self, value: float) -> float:
        """The first process's value, in every process."""
        if self.config.processes == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, src=0)
        return shared.item()

    def save_if_due(self) -> None:
        folder = self.config.checkpoint_dir
        due = self.step == 0 or self.is_due(self.config.checkpoint_every) or self.stopped
        if folder and due:
            save_checkpoint(folder, self.step, {
                "inputs": self.inputs, "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(), "rates": self.rates.state_dict(),
                "history": asdict(self.history), "best": self.best, "waited": self.waited,
                "stopped": self.stopped})

    def resume(self) -> None:
        """Continue from the newest good checkpoint, if there is one."""
        found = load_checkpoint(self.config.checkpoint_dir) if self.config.checkpoint_dir else None
        if found:
            self.step, state = found
            saved = state["inputs"]
            for name in {**saved, **self.inputs}:
                there, here = saved.get(name), self.inputs.get(name)
                if there != here:
                    raise ValueError(
                        f"checkpoint_dir {self.config.checkpoint_dir} holds a run with another "
                        f"{name}: {there!r} there, {here!r} here; give this run its own folder")
            self.objective.load_state_dict(state["objective"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.rates.load_state_dict(state["rates"])
            self.history = History(**state["history"])
            self.best, self.waited = state["best"], state["waited"]
            self.stopped = state["stopped"]
        if self.agree(self.step) != self.step:
            raise ValueError("checkpoint_dir must be a folder that all processes see")

    def finish(self) -> History:
        """Put the selected weights into the model."""
        if self.best["weights"]:
            self.model.load_state_dict(self.best["weights"], strict=False)
        self.history.best_step = self.best["step"]
        self.model.eval()
        return self.history

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """Change torch's random state and the kind of attention only for the time of the run."""
        backbone = self.model.encoder.backbone
        attention = backbone.config._attn_implementation
        if self.device.type == "cpu":
            backbone.set_attn_implementation("eager")  # faster there, in training too
        try:
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                yield
        finally:
            backbone.set_attn_implementation(attention)


def checked_labels(model: Any, train: Any, validation: Any,
                   config: TrainingConfig) -> dict[str, np.ndarray]:
    """The training labels, once all that `fit` was given is known to fit together."""
    if not len(train) or (validation is not None and not len(validation)):
        raise ValueError("train and validation must have sentences, and one of them is empty")
    for data in (train, validation):
        if data is not None:
            check_labels(model.heads, data.labels, len(data))
    for task, values in train.labels.items():
        known = np.unique(values[has_label(torch.from_numpy(values)).numpy()])
        if len(known) < 2:
            raise ValueError(f"train.labels[{task!r}] must have two different labels or more, "
                             f"got {known.tolist()}")
        learners = [*model.encoder.parameters(), *model.heads[task].parameters()]
        if not any(parameter.requires_grad for parameter in learners):
            raise ValueError(f"train.labels[{task!r}] has nothing to train: encoder and head are "
                             "frozen; leave the task out or unfreeze one of them")
    if config.select not in (None, "mean", "worst", *train.labels):
        raise ValueError(f"select must be None, mean, worst or one of {list(train.labels)}, "
                         f"got {config.select!r}")
    if config.select and validation is None:
        raise ValueError("select needs validation data, got None")
    if config.select:
        tasks = [config.select] if config.select in train.labels else list(train.labels)
        scored = (torch.from_numpy(validation.labels.get(task, np.array([]))) for task in tasks)
        if not any(has_label(values).any() for values in scored):
            raise ValueError(f"select is {config.select!r}, but validation has no label of {tasks}")
    return dict(train.labels)


def fingerprint(model: Any, train: Any, validation: Any, config: TrainingConfig,
                dtype: torch.dtype | None, backward: Any) -> dict[str, Any]:
    """What a continued run must have in common with the one that was stopped, by name."""
    found = {name: value for name, value in asdict(config).items() if name not in MAY_CHANGE}
    found |= {"dtype": str(dtype), "pooling": model.encoder.pooling,
              "normalize": model.encoder.normalize, "max_length": model.encoder.max_length}
    found |= {f"head {task}": str(head.config) for task, head in model.heads.items()}
    shapes = [(name, list(parameter.shape), str(parameter.dtype), parameter.requires_grad)
              for name, parameter in model.named_parameters()]
    found["shape or freezing of the model"] = _digest(shapes)
    found["dropout of the model"] = str([module.p for module in model.modules()
                                         if isinstance(module, nn.Dropout)])
    found["tokenizer"] = _digest(tokenizer_state(model.encoder))
    plain = getattr(backward, "func", backward)  # of a partial
    found["backward"] = backward and getattr(plain, "__name__", type(plain).__name__)
    for name, data in (("train", train), ("validation", validation)):
        found[f"{name} sentences"] = data and _digest(data.sentences)
        for task, values in (data.labels if data else {}).items():
            found[f"{name} labels of {task}"] = _digest(values.tolist())
    return found


def _digest(content: Any) -> str:
    return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _metrics(report: Any) -> dict[str, float]:
    names = ("accuracy", "macro_precision", "macro_recall", "macro_f1",
             "pearson", "mean_absolute_error")
    return {name: getattr(report, name) for name in names if hasattr(report, name)}


def _score(validation: Mapping[str, Mapping[str, float]], select: str) -> float:
    """Macro-F1, or Pearson's r of a regression: of one task, the worst one, or their mean.

    An r that is undefined, as predictions are constant, counts as -1.
    """
    scores = {task: metrics.get("macro_f1", metrics.get("pearson", math.nan))
              for task, metrics in validation.items()}
    found = {task: -1.0 if math.isnan(score) else score for task, score in scores.items()}
    if select in found:
        return found[select]
    return min(found.values(), default=-1.0) if select == "worst" else (
        sum(found.values()) / max(1, len(found)))
