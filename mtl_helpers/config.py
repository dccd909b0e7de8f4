"""What a training run is told, TrainingConfig, and what it tells, History. Goes with
batching.py, data.py, encoder.py and losses.py.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .batching import SCHEDULES
from .encoder import tokenizer_state
from .losses import WEIGHTINGS

if TYPE_CHECKING:
    from .data import LabelledSentences
    from .evaluation import Report
    from .model import MultiTaskModel

DTYPES = ("auto", "float32", "bfloat16")
HEADLINES = {"macro_f1": "F1", "pearson": "r", "mean_cosine": "cosine"}  # shown each epoch
MAY_CHANGE = ("checkpoint_dir", "checkpoint_every", "progress")  # when a run is continued


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of `fit`; a value out of range raises a ValueError that names it.

    >>> TrainingConfig(epochs=5, schedule="alternating").head_lr
    0.01
    """
    epochs: int = 3  # small pre-trained encoders gain little after the third
    max_steps: int | None = None  # steps to stop after, where the epochs have more
    batch_size: int = 32  # sentences in a step, over all processes
    encoder_lr: float = 1e-4  # pre-trained weights take small steps,
    head_lr: float = 1e-2  # new ones, on embeddings of length 1, large steps
    layer_decay: float = 1.0  # factor of the rate from each layer to the one below it
    weight_decay: float = 0.01  # AdamW's usual value; norms and biases have none
    warmup: float = 0.1  # share of the steps over which rates rise; then they fall to 0
    clip_norm: float = 1.0  # longest gradient, all parameters together; math.inf: any
    schedule: str = "joint"  # as `plan_epoch` has them; joint uses all labels of a sentence
    temperature: float = 2.0  # of the schedule "temperature"
    weighting: str | Mapping[str, float] = "sum"  # of the losses; or {task: weight}
    dtype: str = "auto"  # of the encoder's arithmetic; auto: bfloat16 where hardware has it
    seed: int = 0  # of batches and dropout; heads are initialised by whoever makes them
    select: str | None = None  # keep the weights that validation likes best: "mean" or a task
    patience: int | None = None  # validations without a better score after which to stop
    validate_every: int | None = None  # steps; None: each epoch
    # To save to and continue from, the first weights too; a folder that all processes see.
    checkpoint_dir: str | Path | None = None
    checkpoint_every: int | None = None  # steps; None: each epoch
    processes: int = 1  # that torchrun must have started
    progress: bool = True  # a line an epoch, and a bar in terminals

    def __post_init__(self) -> None:
        self._numbers("epochs batch_size processes", int, 1)
        self._numbers("max_steps patience validate_every checkpoint_every", int | None, 1)
        self._numbers("seed", int, 0)
        self._numbers("encoder_lr head_lr weight_decay", int | float, 0)
        self._numbers("warmup layer_decay", int | float, 0, most=1)
        self._numbers("temperature", int | float, 1)
        self._numbers("clip_norm", int | float, 1e-12, most=math.inf)
        check_name("schedule", self.schedule, SCHEDULES)
        check_name("dtype", self.dtype, DTYPES)
        if isinstance(self.weighting, Mapping):
            self._set("weighting", {task: float(w) for task, w in self.weighting.items()})
        else:
            check_name("weighting", self.weighting, WEIGHTINGS)
        self._set("progress", bool(self.progress))
        if self.patience and not self.select:
            raise ValueError('patience needs select: "mean" or a task')
        if not isinstance(self.checkpoint_dir, str | Path | None):
            raise ValueError(f"checkpoint_dir must be a path, got {self.checkpoint_dir!r}")
        if self.checkpoint_dir is not None:
            self._set("checkpoint_dir", str(self.checkpoint_dir))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # frozen, but for what is made plain here

    def _numbers(self, names: str, kind: Any, least: float, most: float = 1e308) -> None:
        """Refuse what is no number in a range, and make plain ones of numpy's and torch's."""
        for name in names.split():
            value = getattr(self, name)
            value = value.item() if getattr(value, "ndim", None) == 0 else value
            number = isinstance(value, kind) and not isinstance(value, bool)
            if not number or (value is not None and not least <= value <= most):
                raise ValueError(f"{name} must be a number from {least} to {most:.3g}, "
                                 f"got {value!r}")
            self._set(name, value)


def check_name(argument: str, value: str, valid: Sequence[str]) -> None:
    """Refuse a value that is none of the valid ones."""
    if value not in valid:
        raise ValueError(f"{argument} must be one of {', '.join(valid)}, got {value!r}")


def resolve_dtype(device: torch.device, name: str) -> torch.dtype | None:
    """What autocast computes in; None for the type of the parameters, without autocast."""
    check_name("name", name, DTYPES)
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if name == "bfloat16" or (name == "auto" and fast) else None


class Kept:
    """What a checkpoint holds of a run beside its weights: all attributes."""

    def state_dict(self) -> dict[str, Any]:
        return vars(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)


@dataclass
class History(Kept):
    """Losses and scores of a run, ready to plot.

    A step has "step" and "epoch" (from 1), "sentences", "labels" and "loss" by task (mean by
    label), "gradient_norm" (before clipping) and "rate" (of the first group of parameters). An
    epoch, or what `validate_every` has in its place, has "epoch", "step", "loss" by task (mean
    by label since the one before), "validation" ({task: {metric: value}}) and "score", by
    which weights are selected.
    """
    config: dict[str, Any]
    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_step: int | None = None  # the step whose weights were kept; None: the last one

    def losses(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and losses, (S,) each, of the S steps that had labels of the task."""
        rows = [row for row in self.steps if task in row["loss"]]
        return (np.array([row["step"] for row in rows]),
                np.array([row["loss"][task] for row in rows]))

    def add_step(self, epoch: int, step: int, sentences: int, labels: dict[str, int],
                 loss: dict[str, float], gradient_norm: float, rate: float) -> None:
        """Note a step."""
        self.steps.append({
            "step": step, "epoch": epoch, "sentences": sentences, "labels": labels,
            "loss": loss, "gradient_norm": gradient_norm, "rate": rate})

    def add_epoch(self, reports: Mapping[str, Report], score: float | None) -> None:
        """Note the scores after the latest step, and the mean losses since the row before."""
        latest, before = self.steps[-1], self.epochs[-1]["step"] if self.epochs else 0
        totals, counts = defaultdict[str, float](float), Counter[str]()
        for row in self.steps[before:]:
            counts.update(row["labels"])
            for task, number in row["labels"].items():
                totals[task] += number * row["loss"][task]
        self.epochs.append({
            "epoch": latest["epoch"], "step": latest["step"], "score": score,
            "loss": {task: total / counts[task] for task, total in totals.items()},
            "validation": {task: report.scores() for task, report in reports.items()}})

    def epoch_line(self) -> str:
        """The latest epoch in a line: losses, and how validation went."""
        row = self.epochs[-1]
        line = f"epoch {row['epoch']}, step {row['step']}:  loss"
        for task, loss in row["loss"].items():
            line += f" {task} {loss:.3f}"
        for task, metrics in row["validation"].items():
            name = next(name for name in HEADLINES if name in metrics)
            line += f"  {task} {HEADLINES[name]} {metrics[name]:.3f}"
        return line


class Best(Kept):
    """The trained weights that validation likes best so far, and whether to go on.

    Args:
        select: "mean" of the tasks' scores, one task, or None to keep no weights.
        patience: validations without a better score after which to stop; None: never.
    """

    def __init__(self, select: str | None, patience: int | None) -> None:
        self.select, self.patience = select, patience
        self.score, self.waited = -math.inf, 0
        self.step: int | None = None
        self.weights: dict[str, Tensor] = {}

    def judge(self, reports: Mapping[str, Report], tasks: Iterable[str]) -> float | None:
        """Macro-F1, r of a regression (an undefined one, of constant predictions, is -1), or a
        mean cosine, which no mean of several tasks counts.
        """
        if self.select is None:
            return None
        scores = []
        for task in tasks if self.select == "mean" else [self.select]:
            if task in reports:
                name, score = reports[task].headline
                if name != "mean_cosine" or self.select == task:
                    scores.append(-1.0 if math.isnan(score) else score)
        return sum(scores) / max(1, len(scores))

    @property
    def stopped(self) -> bool:
        """Whether `patience` validations in a row were no better."""
        return self.patience is not None and self.waited >= self.patience

    def update(self, step: int, score: float | None, model: nn.Module) -> None:
        """Keep the weights of a step if its score is the best; None where none is selected."""
        self.waited += 1
        if score is not None and score > self.score:
            self.score, self.step, self.waited = score, step, 0
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    self.weights[name] = parameter.detach().clone()


def fingerprint(model: MultiTaskModel, train: LabelledSentences,
                validation: LabelledSentences | None, config: TrainingConfig,
                dtype: torch.dtype | None, backward: Any) -> dict[str, Any]:
    """What a continued run must have in common with the one that was stopped, by name.

    Vectors are known by shape, by what is missing, and by the means of their columns: they may
    have been computed again, and differ in their last digits.
    """
    encoder, plain = model.encoder, getattr(backward, "func", backward)  # of a partial
    reading = tokenizer_state(encoder), encoder.pooling, encoder.normalize, encoder.max_length
    trained = [(name, parameter.dtype, parameter.requires_grad)
               for name, parameter in model.named_parameters()]
    found: dict[str, Any] = {
        f"head {task}": str(head.config) for task, head in model.heads.items()}
    found |= {
        "dtype": str(dtype), "backward": getattr(plain, "__name__", type(plain).__name__),
        "tokenizer, pooling or length": _digest(reading),
        "shape, dropout or freezing of the model": _digest((model, trained))}
    for name, value in asdict(config).items():
        if name not in MAY_CHANGE:
            found[name] = str(value)
    for name, data in (("train", train), ("validation", validation)):
        found[f"{name} sentences"] = _digest(data and data.sentences)
        for task, values in (data.labels if data else {}).items():
            found[f"{name} labels of {task}"] = _digest(values.tolist())
            if values.ndim == 2 and (np.nan_to_num(values) % 1).any():
                missing = np.isnan(values)
                found[f"{name} labels of {task}"] = _digest((values.shape, missing.tolist()))
                means = np.nan_to_num(values).mean(axis=0, dtype=np.float64)  # (L,)
                found[f"{name} means of {task}"] = means.tolist()
    return found


def alike(old: Any, new: Any) -> bool:
    """Whether an entry of two fingerprints is the same: means to 1e-3, all else exactly."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return np.allclose(old, new, rtol=0, atol=1e-3)
    return old == new


def _digest(content: Any) -> str:
    return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).hexdigest()[:16]
