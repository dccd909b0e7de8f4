"""Random kills of training runs: does what goes on end with the weights of what was not killed?

    python -m benchmarks.kills [--kills 200]

Writes results/benchmarks/kills.json: how many kills there were, how many of them inside a save, how
many runs came to their end after them and how many of those had the same weights to the bit.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from benchmarks.common import keep, parser
from experiments.records import RESULTS
from mtl_helpers import fit, load_checkpoint
from mtl_helpers.batching import SCHEDULES

sys.path.insert(0, str(RESULTS.parent / "tests"))

from killed import in_child, was_killed  # noqa: E402
from tiny import make_config, make_data, make_model, same, weights  # noqa: E402
from training_process import on_each_step  # noqa: E402


def train_and_tell(schedule: str, folder: Path, pipe: int) -> None:
    """Train with a checkpoint a step, say each step into the pipe, and save the final weights."""
    os.fsync = lambda descriptor: time.sleep(0.02)  # in a process of its own
    with on_each_step(lambda step: os.write(pipe, b"%d\n" % step)):
        model = make_model()
        fit(model, make_data(), make_data(20, seed=1), make_config(
            schedule=schedule, weighting="uncertainty", select="mean", max_steps=8,
            validate_every=3, checkpoint_dir=str(folder), checkpoint_every=1))
    save_file(weights(model), folder.with_suffix(".safetensors"))


def unfinished(folder: Path) -> set[str]:
    """What killed saves left behind."""
    return {path.name for path in folder.glob(".*")} if folder.exists() else set()


def start_and_kill(schedule: str, folder: Path, delay: float | None) -> dict[str, Any] | None:
    """One life of a training process: None if it finished, else what was there after the kill.

    Args:
        delay: seconds from the first step to the kill; None: it is not killed.
    """
    left = unfinished(folder)
    reader, writer = os.pipe()
    child = in_child(lambda: train_and_tell(schedule, folder, writer))
    os.close(writer)
    if delay is not None and select.select([reader], [], [], 60)[0]:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader) as lines:
        steps = [int(line) for line in lines]
    if not was_killed(child):
        return None
    found = load_checkpoint(folder)
    return {"told": steps[-1], "found": found[0] if found else 0,
            "inside": bool(unfinished(folder) - left)}


def main() -> None:
    each = parser(__doc__, kills=200).parse_args().kills // len(SCHEDULES)
    chance = random.Random(0)
    kills: list[dict[str, Any]] = []
    runs: list[bool] = []
    fit(make_model(), make_data(), config=make_config(max_steps=1))  # what torch does once
    with tempfile.TemporaryDirectory() as place:
        for schedule in SCHEDULES:
            whole, mine = Path(place, schedule), []
            start_and_kill(schedule, whole, None)
            expected = load_file(whole.with_suffix(".safetensors"))
            while len(mine) < each or sum(kill["inside"] for kill in mine) < each // 4:
                run = Path(place, f"{schedule}-{len(runs)}")
                while kill := start_and_kill(schedule, run, chance.uniform(0, 0.3)):
                    mine.append(kill)
                runs.append(same(expected, load_file(run.with_suffix(".safetensors"))))
            kills += mine
    keep("kills", {
        "config": {"schedules": list(SCHEDULES), "of_each": each}, "kills": len(kills),
        "inside_a_save": sum(kill["inside"] for kill in kills),
        "steps_lost": max(kill["told"] - kill["found"] for kill in kills),
        "runs": len(runs), "same_weights": sum(runs)})


if __name__ == "__main__":
    main()
