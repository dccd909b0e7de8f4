"""Stopped and killed runs: they go on to the weights, to the bit, of a run that never stopped."""

import functools
import json
import logging
import random
import shutil
from dataclasses import fields

import numpy as np
import pytest
import torch
from killed import forks, killed_before
from safetensors.torch import load_file, save_file
from tiny import make_config, make_data, make_encoder, make_model, new_heads, same, weights
from training_process import on_each_step, stopped_at

from mtl_helpers import checkpoint, training
from mtl_helpers.batching import SCHEDULES, take_labels
from mtl_helpers.checkpoint import load_checkpoint
from mtl_helpers.config import Best, TrainingConfig
from mtl_helpers.freezing import freeze
from mtl_helpers.heads import ClassificationHead, SimilarityHead
from mtl_helpers.training import Objective, fit

TRAIN, VALIDATION = make_data(), make_data(20, seed=1)
pytestmark = pytest.mark.usefixtures("quick_flushes")


def train(config, model=None, validation=None):
    """Final weights and history of a run on the usual data, validated where weights are chosen."""
    model = model or make_model()
    history = fit(model, TRAIN, VALIDATION if config.select else validation, config)
    return weights(model), history


def train_with_stops(config, *stops, model=None):
    """The same, stopped at each (step, where); a new model with other heads goes on, or this."""
    for seed, stop in enumerate(stops):
        with stopped_at(*stop):
            train(config, model or (new_heads(make_model(), seed) if seed else make_model()))
    return train(config, model or new_heads(make_model(), 9))


def comparable(history):
    """Everything in a history but where it was saved."""
    config = {name: value for name, value in history.config.items() if "checkpoint" not in name}
    return json.dumps([config, history.steps, history.epochs, history.best_step])


SELECTING = {"select": "mean", "validate_every": 4, "weighting": "uncertainty"}


@pytest.mark.parametrize("settings", [{}, SELECTING], ids=["plain", "selecting"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path, schedule, settings):
    settings = {"schedule": schedule, "max_steps": 11, "batch_size": 12, **settings}
    expected, history = train(make_config(**settings))
    assert len(history.steps) in (8, 11)
    config = make_config(**settings, checkpoint_dir=str(tmp_path / "run"), checkpoint_every=2)
    found, again = train_with_stops(  # the first before any save but that of step 0
        config, (1, "add_step"), (3, "add_step"), (5, "add_step"), (6, "save"), (7, "check_finite"))
    assert same(expected, found)
    assert comparable(again) == comparable(history)


def test_a_run_with_a_head_and_a_backward_of_ones_own_goes_on(tmp_path):
    def model(seed=0):
        found = new_heads(make_model(), seed)
        found.heads["sentiment"].config["scale"] = (0, 5)  # a tuple comes back as a list
        return found

    def add(losses, times):
        (times * sum(losses.values())).backward()

    def other(losses, times):
        add(losses, -times)

    def run(folder, seed=0, backward=add):
        trained = model(seed)
        fit(trained, TRAIN, None, make_config(checkpoint_dir=tmp_path / folder, checkpoint_every=1),
            backward=functools.partial(backward, times=2))
        return weights(trained)

    with stopped_at(3):
        run("stopped")
    assert same(run("stopped", seed=9), run("whole"))
    with pytest.raises(ValueError, match="another backward: 'add' there, 'other' here"):
        run("whole", backward=other)


@pytest.mark.parametrize("settings", [
    {}, {"weighting": {"genre": 0.3, "sentiment": 2.0, "valence": 0.0, "unused": 1.0}},
    {"dtype": "bfloat16", "layer_decay": 0.5}])
def test_the_same_model_goes_on_after_an_interruption(tmp_path, settings):
    """What a notebook does: the gradients of the interrupted step are still in the model."""
    expected, _ = train(make_config(**settings))
    config = make_config(checkpoint_dir=str(tmp_path), checkpoint_every=3, **settings)
    stops = [(4, "check_finite"), (8, "check_finite")]
    assert same(expected, train_with_stops(config, *stops, model=make_model())[0])


def test_the_best_weights_may_be_from_before_the_stop(tmp_path, monkeypatch):
    settings, scores = {"select": "mean", "epochs": 3, "patience": 2}, iter([0.9, 0.4, 0.5] * 2)
    monkeypatch.setattr(Best, "judge", lambda *_: next(scores))
    expected, history = train(make_config(**settings))
    assert history.best_step == 5 and len(history.steps) == 15
    config = make_config(**settings, checkpoint_dir=str(tmp_path), checkpoint_every=4)
    found, again = train_with_stops(config, (9, "add_step"), (13, "check_finite"))
    assert same(expected, found) and comparable(history) == comparable(again)


@pytest.mark.parametrize("settings", [
    {}, {"max_steps": 7}, {"select": "genre", "patience": 1, "epochs": 50, "encoder_lr": 0.0,
                           "head_lr": 0.0}])
def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch, caplog, settings):
    config = make_config(checkpoint_dir=str(tmp_path), **settings)
    expected, history = train(config)
    assert len(history.steps) in (7, 10)
    monkeypatch.setattr(Objective, "forward", lambda *_: pytest.fail("it was trained again"))
    model = new_heads(make_model(), 1)
    with caplog.at_level(logging.WARNING):
        found, again = train(config, model)
    assert f"{tmp_path} holds a finished run: nothing is left to train" in caplog.text
    assert same(expected, found) and comparable(again) == comparable(history)
    assert not any(module.training for module in model.modules())


def test_where_and_how_often_it_saves_may_change(tmp_path):
    with stopped_at(8):
        train(make_config(checkpoint_dir=str(tmp_path / "here"), checkpoint_every=3))
    (tmp_path / "here").rename(tmp_path / "there")
    config = make_config(checkpoint_dir=str(tmp_path / "there"), checkpoint_every=1, progress=True)
    found, history = train(config, new_heads(make_model(), 1))
    assert same(train(make_config())[0], found)
    assert history.steps[6]["step"] == 7 and len(history.steps) == 10


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, quick_flushes):
    """The folder of a run of which only some steps were made."""
    folder = tmp_path_factory.mktemp("stopped")
    with stopped_at(3):
        train(make_config(checkpoint_dir=str(folder), checkpoint_every=2), None, VALIDATION)
    return folder


OTHER = {"epochs": 3, "max_steps": 9, "batch_size": 9, "encoder_lr": 1.0,
         "head_lr": 1.0, "layer_decay": 0.9, "weight_decay": 0.2, "warmup": 0.2, "clip_norm": 0.5,
         "schedule": "alternating", "temperature": 3.0, "weighting": "uncertainty",
         "dtype": "bfloat16", "seed": 1, "select": "mean", "validate_every": 2}


def test_every_setting_is_changed_in_a_test():
    unchanged = {field.name for field in fields(TrainingConfig)} - set(OTHER)
    assert unchanged == {"checkpoint_dir", "checkpoint_every", "progress", "patience", "processes"}


@pytest.mark.parametrize("name", OTHER)
def test_another_setting_is_refused_by_name(stopped, name):
    config = make_config(checkpoint_dir=str(stopped), **{name: OTHER[name]})
    model = new_heads(make_model(), 1)
    before = weights(model)
    with pytest.raises(ValueError, match=f"holds a run with another {name}: .* there, .* here"):
        train(config, model, VALIDATION)
    assert same(before, weights(model)), "a refused run leaves the model as it was"


SHAPE, READING = "shape, dropout or freezing of the model", "tokenizer, pooling or length"
CHANGES = [  # what is said to be another, and what was done to the model or to the data
    ("train labels of genre", lambda model, data: np.put(data["train"].labels["genre"], 4, -100)),
    ("train labels of valence", lambda model, data: np.put(
        data["train"].labels["valence"], 1, 0.25)),
    ("train labels of sentiment", lambda model, data: data["train"].labels.pop("sentiment")),
    ("train sentences", lambda model, data: data["train"].sentences.reverse()),
    ("validation labels of genre", lambda model, data: np.put(
        data["validation"].labels["genre"], 0, -100)),
    ("validation sentences", lambda model, data: data["validation"].sentences.reverse()),
    ("validation sentences", lambda model, data: data.pop("validation")),
    (SHAPE, lambda model, data: freeze(model, "embeddings")),
    (SHAPE, lambda model, data: freeze(model, "head:unused")),
    (SHAPE, lambda model, data: model.double()),
    (SHAPE, lambda model, data: setattr(model, "encoder", make_encoder("mpnet"))),
    (SHAPE, lambda model, data: model.heads.update(
        {"more": ClassificationHead(16, ["no", "yes"])})),
    (SHAPE, lambda model, data: setattr(model.encoder.backbone.embeddings.dropout, "p", 0.2)),
    ("head genre", lambda model, data: model.heads.update(
        {"genre": ClassificationHead(16, ["news", "review", "tweet"], 8, 0.1)})),
    (READING, lambda model, data: setattr(model.encoder, "pooling", "max")),
    (READING, lambda model, data: setattr(model.encoder, "normalize", False)),
    (READING, lambda model, data: setattr(model.encoder, "max_length", 5)),
    (READING, lambda model, data: model.encoder.tokenizer.add_tokens(["unheard"]))]


@pytest.mark.parametrize(("named", "change"), CHANGES)
def test_other_data_or_another_model_is_refused_by_name(stopped, named, change):
    model, data = make_model(), {"train": make_data(), "validation": make_data(20, seed=1)}
    change(model, data)
    message = f"holds a run with another {named}: .* there, .* here; give this run its own folder"
    with pytest.raises(ValueError, match=message):
        fit(model, **data, config=make_config(checkpoint_dir=str(stopped)))


def test_only_an_encoder_of_the_run_goes_on(tmp_path):
    settings = {**SELECTING, "epochs": 4}
    model, other = make_model(), make_model(seed=1)
    with stopped_at(13):
        train(make_config(**settings, checkpoint_dir=tmp_path), model)  # now it has its best
    before = weights(other)
    with pytest.raises(ValueError, match="holds a run with another encoder: .* there, .* here"):
        train(make_config(**settings, checkpoint_dir=tmp_path), other)
    assert same(before, weights(other)), "a refused run leaves the model as it was"
    latest = make_model()
    latest.load_state_dict(load_checkpoint(tmp_path)[1]["model"])
    expected, _ = train(make_config(**settings))
    for number, goes_on in enumerate((model, latest, make_model())):
        copy = shutil.copytree(tmp_path, tmp_path.with_name(f"copy-{number}"))
        if number:  # only the first needs the hash of what `fit` left, which may be damaged
            (copy / training.LEFT).write_bytes(b"\xff\xfe")
        assert same(expected, train(make_config(**settings, checkpoint_dir=copy), goes_on)[0])


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    checkpoint.save_checkpoint(tmp_path, 3, {"mine": 1})
    with pytest.raises(ValueError, match="holds a checkpoint that fit did not write"):
        train(make_config(checkpoint_dir=str(tmp_path)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, training.TrainingDiverged])
@pytest.mark.parametrize("select", [None, "mean"])
@pytest.mark.parametrize("where", ["add_step", "check_finite", "forward", "validation", "saving"])
def test_an_interrupted_fit_keeps_what_it_has(tmp_path, monkeypatch, error, select, where):
    """Interrupted in step 13 of 20, in its forward pass, or in its validation or its save."""
    config = make_config(epochs=4, select=select, checkpoint_dir=str(tmp_path), validate_every=13,
                         checkpoint_every=13)
    model, taken = make_model(), {}

    def stop(*_):
        raise error

    if where == "validation":
        monkeypatch.setattr(training, "evaluate", stop)
    elif where == "forward":
        monkeypatch.setattr(training, "take_labels", lambda *given: monkeypatch.setattr(
            Objective, "forward", stop) if len(taken) == 12 else take_labels(*given))
    elif where == "saving":  # when there is a folder, which has not its name yet
        monkeypatch.setattr(checkpoint, "flush", lambda path: (
            stop() if "00000013" in str(path) else None))
    stops = stopped_at(13 if where in ("add_step", "check_finite") else 99,
                       where if where == "check_finite" else "add_step", error)
    with on_each_step(lambda step: taken.update({step: weights(model)})), stops as caught:
        train(config, model, VALIDATION)
    made = 12 if where in ("check_finite", "forward") else 13
    assert [row["step"] for row in caught.value.history.steps] == list(range(1, made + 1))
    assert not any(module.training for module in model.modules())
    assert same(weights(model), taken[made])
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000000"]


@forks
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_that_is_killed_often_ends_with_the_weights_of_one_never_killed(tmp_path, schedule):
    data, told = make_data(), torch.zeros(1, dtype=torch.int64).share_memory_()
    data.labels["similarity"] = make_encoder().encode(data.sentences)

    def run(name):
        model = make_model()
        model.heads["similarity"] = SimilarityHead(16)
        with on_each_step(told.fill_):
            fit(model, data, VALIDATION, make_config(
                schedule=schedule, weighting="uncertainty", select="mean", max_steps=8,
                validate_every=3, checkpoint_dir=tmp_path / name, checkpoint_every=1))
        save_file(weights(model), tmp_path / f"{name}.safetensors")

    assert not killed_before(0, lambda: run("whole"))
    told.zero_()
    kills, changes = 0, random.Random(0)  # before the n-th change of the disk, inside a save
    while killed_before(changes.randrange(1, 16), lambda: run("killed")):
        kills += 1
        step, _ = load_checkpoint(tmp_path / "killed") or (0, {})
        assert told.item() - step in (0, 1), "more than one step was lost"
    assert kills >= 5
    assert same(*(load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "killed")))
