"""Training in processes of its own: killed, or two together."""

import json
import os
import random
import select
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tiny import make_config, make_data, make_model, new_heads, same, weights

from mtl_helpers.batching import SCHEDULES
from mtl_helpers.checkpoint import load_checkpoint
from mtl_helpers.config import History
from mtl_helpers.freezing import freeze
from mtl_helpers.heads import SimilarityHead
from mtl_helpers.training import fit


def on_each_step(act):
    """Let `act` be called with the number of each step to come; returns what ends that."""
    add_step = History.add_step

    def told(history, epoch, step, *rest):
        add_step(history, epoch, step, *rest)
        act(step)

    def end():
        History.add_step = add_step

    History.add_step = told
    return end


# Killed processes


def train_and_tell(schedule, folder, file, pipe):
    """Train with a checkpoint a step, say each step into the pipe, and save the final weights."""
    def slow(descriptor):
        time.sleep(0.02)
        return os.fstat(descriptor)

    fsync, os.fsync = os.fsync, slow
    end = on_each_step(lambda step: os.write(pipe, b"%d\n" % step))
    try:
        model = make_model()
        fit(model, make_data(), make_data(20, seed=1), make_config(
            schedule=schedule, weighting="uncertainty", select="mean", max_steps=8,
            validate_every=3, checkpoint_dir=str(folder), checkpoint_every=1))
        save_file(weights(model), file)
    finally:
        os.fsync = fsync
        end()


def unfinished(folder):
    """What killed saves left behind."""
    return {path.name for path in folder.glob(".*")} if folder.exists() else set()


def start_and_kill(schedule, folder, file, delay):
    """One life of a training process: None if it finished, else what was there after the kill.

    Args:
        delay: seconds from the first step to the kill; None: it is not killed.
    """
    left = unfinished(folder)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            train_and_tell(schedule, folder, file, writer)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os.close(writer)
    if delay is not None and select.select([reader], [], [], 60)[0]:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader) as lines:
        steps = [int(line) for line in lines.read().split()]
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "training failed"
        return None
    found = load_checkpoint(folder)
    return {"schedule": schedule, "told": steps[-1], "found": found[0] if found else 0,
            "inside": bool(unfinished(folder) - left)}


def kill_often(folder, kills, inside, schedules):
    """Kill runs of each schedule until there were enough kills, also inside saves; a report."""
    chance = random.Random(0)
    report = {"kills": [], "runs": []}
    fit(make_model(), make_data(), config=make_config(max_steps=1))  # what torch does once
    for schedule in schedules:
        whole, mine = folder / f"{schedule}.safetensors", []
        start_and_kill(schedule, folder / schedule, whole, None)
        expected = load_file(whole)
        while len(mine) < kills or sum(kill["inside"] for kill in mine) < inside:
            run = folder / f"{schedule}-{len(report['runs'])}"
            final = run.with_suffix(".safetensors")
            while kill := start_and_kill(schedule, run, final, chance.uniform(0, 0.3)):
                mine.append(kill)
            report["runs"].append({"schedule": schedule, "same": same(expected, load_file(final))})
        report["kills"] += mine
    return report


# Two processes


def train_together(schedule, processes, heads=None, **settings):
    """Train in float64 without dropout: final weights, and what the history says of the steps.

    One head is frozen, one has no weights, one has no labels, and the last batch has one sentence.
    """
    model = make_model(dropout=0.0, dtype=torch.float64)
    if heads is not None:
        new_heads(model, heads)
    freeze(model, "head:sentiment")
    model.heads["similarity"] = SimilarityHead(16)
    data = make_data(13)
    vectors = np.random.default_rng(0).normal(size=(13, 16))
    vectors[np.arange(13) % 3 > 0] = np.nan
    data.labels["similarity"] = vectors.astype(np.float32)
    history = fit(model, data, make_data(20, seed=1), make_config(
        schedule=schedule, processes=processes, batch_size=4, weight_decay=0.1, select="mean",
        patience=1, **settings))
    return weights(model), history


def continue_together(schedule, folder):
    """Stop two processes after their fifth step; they go on with a model of other heads."""
    settings = {"checkpoint_dir": str(folder), "checkpoint_every": 2}

    def stop(step):
        if step == 5:
            raise KeyboardInterrupt

    end = on_each_step(stop)
    try:
        train_together(schedule, 2, **settings)
    except KeyboardInterrupt as error:
        assert len(error.history.steps) == 5
    finally:
        end()
    return train_together(schedule, 2, heads=1, **settings)[0]


def refusal(processes):
    try:
        fit(make_model(), make_data(), config=make_config(processes=processes))
    except ValueError as error:
        return str(error)


def main(task, folder, *arguments):
    folder = Path(folder)
    if task == "kill":
        kills, inside, *schedules = arguments
        report = kill_often(folder, int(kills), int(inside), schedules)
        (folder / "report.json").write_text(json.dumps(report))
        return
    rank = int(os.environ["RANK"])
    (folder / f"refusal-{rank}.json").write_text(json.dumps(refusal(1)))
    for schedule in SCHEDULES:
        final, history = train_together(schedule, 2)
        save_file(final, folder / f"{schedule}-{rank}.safetensors")
        (folder / f"{schedule}-{rank}.json").write_text(json.dumps(asdict(history)))
    save_file(continue_together("alternating", folder / "run"), folder / f"continued-{rank}")


if __name__ == "__main__":
    main(*sys.argv[1:])
