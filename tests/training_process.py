"""Training that is watched or stopped, and two processes of torchrun that train together."""

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import make_config, make_data, make_model, new_heads, weights

from mtl_helpers import training
from mtl_helpers.batching import SCHEDULES
from mtl_helpers.config import History
from mtl_helpers.freezing import freeze
from mtl_helpers.heads import SimilarityHead
from mtl_helpers.training import fit


@contextmanager
def on_each_step(act):
    """Let `act` be called with the number of each step that was made."""
    add_step = History.add_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "add_step", lambda *row: (add_step(*row), act(row[2])))
        yield


class Stop(Exception):
    """Raised by a test in the midst of training."""


@contextmanager
def stopped_at(step, where="add_step", error=Stop):
    """A run in this context ends with an error: after a step, before it, or before its save."""
    place = History if where == "add_step" else training
    kept, position = getattr(place, where), {"add_step": 2, "check_finite": 0, "save": 1}[where]

    def stop(*arguments):
        if where == "add_step":
            kept(*arguments)
        if arguments[position] == step:
            raise error
        if where != "add_step":
            kept(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(error) as caught:
        patch.setattr(place, where, stop)
        yield caught


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
    with stopped_at(5) as caught:
        train_together(schedule, 2, **settings)
    assert len(caught.value.history.steps) == 5
    return train_together(schedule, 2, heads=1, **settings)[0]


def main(folder):
    rank = os.environ["RANK"]
    try:
        fit(make_model(), make_data(), config=make_config())
    except ValueError as error:
        (folder / f"refusal-{rank}").write_text(str(error))
    for schedule in SCHEDULES:
        final, history = train_together(schedule, 2)
        save_file(final, folder / f"{schedule}-{rank}.safetensors")
        (folder / f"{schedule}-{rank}.json").write_text(json.dumps(asdict(history)))
    save_file(continue_together("alternating", folder / "run"), folder / f"continued-{rank}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
