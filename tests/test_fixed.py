"""What stays as it was on every machine: the split, batches, learning rates and losses.

`python tests/test_fixed.py` writes fixed.json anew: for a change of numbers that is meant.
"""

import json
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import make_config, make_data, make_model

from mtl_helpers import fit, load_corpus, plan_epoch, split_indices

FILE = Path(__file__).with_name("fixed.json")
SCHEDULES = ("alternating", "proportional", "temperature", "joint")


def digest(value):
    return sha256(json.dumps(value).encode()).hexdigest()[:16]


def split():
    return digest([rows.tolist() for rows in split_indices(load_corpus(), seed=0)])


def batches(schedule, seed):
    """A hash of the rows of two epochs' steps, and the labels that count in each step."""
    data = make_data(60)
    lengths = np.array([len(sentence.split()) for sentence in data.sentences])
    known = {task: ~np.isnan(values) if task == "valence" else values != -100
             for task, values in data.labels.items()}
    rows, counts = [], []
    for epoch in (0, 1):
        for batch in plan_epoch(data.labels, schedule, 8, seed, epoch, lengths):
            rows.append(batch.rows.tolist())
            counts.append({task: int(known[task][batch.rows].sum()) for task in batch.tasks})
    return {"rows": digest(rows), "labels": counts}


def steps(weighting="sum", **settings):
    """Losses, labels and rates of ten float64 steps, from the same weights everywhere."""
    model = make_model(dropout=0.0, dtype=torch.float64)
    random = np.random.default_rng(0)
    for name, parameter in sorted(model.named_parameters()):
        middle = 1.0 if "LayerNorm.weight" in name else 0.0
        values = middle + random.uniform(-0.25, 0.25, tuple(parameter.shape))
        parameter.data.copy_(torch.from_numpy(values))
    history = fit(model, make_data(), config=make_config(
        weighting=weighting, max_steps=10, **settings))
    return {"losses": [row["loss"] for row in history.steps],
            "labels": [row["labels"] for row in history.steps],
            "rates": [row["rate"] for row in history.steps]}


RUNS = {schedule: {"schedule": schedule} for schedule in SCHEDULES} | {
    "uncertainty": {"weighting": "uncertainty", "seed": 1},
    "layer_decay": {"schedule": "proportional", "layer_decay": 0.5, "weight_decay": 0.1}}
MAKERS = {"split": split}
for schedule, seed in product(SCHEDULES, (0, 1)):
    MAKERS[f"batches {schedule} {seed}"] = partial(batches, schedule, seed)
for run, settings in RUNS.items():
    MAKERS[f"steps {run}"] = partial(steps, **settings)


def leaves(value):
    """The numbers and words of nested lists and dicts, in order."""
    if isinstance(value, dict):
        value = [item for pair in value.items() for item in pair]
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else [value]


@pytest.mark.parametrize("name", MAKERS)
def test_it_stays_as_it_was(name):
    found = leaves(MAKERS[name]())
    fixed = leaves(json.loads(FILE.read_text(encoding="utf-8"))[name])
    assert [type(leaf) for leaf in found] == [type(leaf) for leaf in fixed]
    for here, there in zip(found, fixed, strict=True):
        assert here == (pytest.approx(there, rel=0, abs=1e-9) if type(here) is float else there)


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(make())}" for name, make in MAKERS.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
