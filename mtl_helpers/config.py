"""TrainingConfig: the settings of a training run, checked when they are made.

Goes with batching.py and losses.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .batching import SCHEDULES
from .losses import WEIGHTINGS

DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of `fit`; a value out of range raises a ValueError that names it."""
    epochs: int = 3  # small pre-trained encoders gain little after the third
    max_steps: int | None = None  # steps to stop after, where the epochs have more
    batch_size: int = 32  # sentences in a step, over all processes and parts
    accumulate: int = 1  # parts that a process computes its batch in, to save memory
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
    group_by_length: bool = True  # sentences of like length in a batch: less padding
    seed: int = 0  # of batches and dropout; heads are initialised by whoever makes them
    select: str | None = None  # keep the weights that validation likes best: "mean", "worst", TASK
    patience: int | None = None  # validations without a better score after which to stop
    validate_every: int | None = None  # steps; None: each epoch
    # To save to and continue from, the first weights too; a folder that all processes see.
    checkpoint_dir: str | Path | None = None
    checkpoint_every: int | None = None  # steps; None: each epoch
    processes: int = 1  # that torchrun must have started
    progress: bool = True  # a line an epoch, and a bar in terminals

    def __post_init__(self) -> None:
        rules: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
            ("encoder_lr head_lr weight_decay", "at least 0", lambda x: 0 <= x < math.inf),
            ("temperature", "at least 1", lambda x: x >= 1),
            ("clip_norm", "above 0", lambda x: x > 0),
            ("warmup layer_decay", "from 0 to 1", lambda x: 0 <= x <= 1),
            ("seed", "an int of at least 0", lambda x: isinstance(x, int) and x >= 0),
            ("epochs batch_size accumulate processes", "an int of at least 1",
             lambda x: isinstance(x, int) and x >= 1),
            ("max_steps patience validate_every checkpoint_every", "None or an int of at least 1",
             lambda x: x is None or (isinstance(x, int) and x >= 1)),
            ("checkpoint_dir", "None or a path", lambda x: x is None or isinstance(x, str | Path)),
            ("schedule", f"one of {', '.join(SCHEDULES)}", SCHEDULES.__contains__),
            ("dtype", f"one of {', '.join(DTYPES)}", DTYPES.__contains__),
            ("weighting", f"one of {', '.join(WEIGHTINGS)}, or a weight for each task",
             lambda x: isinstance(x, Mapping) or x in WEIGHTINGS))
        for names, rule, valid in rules:
            for name in names.split():
                value = getattr(self, name)
                try:
                    right = not isinstance(value, bool) and valid(value)
                except TypeError:
                    right = False
                if not right:
                    raise ValueError(f"{name} must be {rule}, got {value!r}")
        if self.checkpoint_dir is not None:  # as text, which a checkpoint can hold
            object.__setattr__(self, "checkpoint_dir", str(self.checkpoint_dir))
        if self.patience and not self.select:
            raise ValueError('patience needs select: "mean", "worst" or a task')


def resolve_dtype(device: torch.device, name: str) -> torch.dtype | None:
    """What autocast computes in; None for the type of the parameters, without autocast."""
    if name not in DTYPES:
        raise ValueError(f"name must be one of {', '.join(DTYPES)}, got {name!r}")
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if name == "bfloat16" or (name == "auto" and fast) else None


def seed_device(device: torch.device, seed: int) -> None:
    """Seed the processor and a device; torch.manual_seed takes long, for devices that rest."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
