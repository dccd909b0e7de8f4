"""Stopped and killed runs: they go on to the weights, to the bit, of a run that never stopped."""

import functools
import json
import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from tiny import make_config, make_data, make_model, new_heads, same, weights

from mtl_helpers import checkpoint, training
from mtl_helpers.batching import SCHEDULES, take_labels
from mtl_helpers.config import Best, History, TrainingConfig
from mtl_helpers.data import LabelledSentences
from mtl_helpers.freezing import freeze
from mtl_helpers.heads import ClassificationHead
from mtl_helpers.training import Objective, fit


class Stop(Exception):
    """Raised by a test in the midst of training."""


@pytest.fixture(autouse=True)
def quick_flushes(monkeypatch):
    """The disk is not waited for: no test takes the power away."""
    monkeypatch.setattr(os, "fsync", os.fstat)


TRAIN, VALIDATION = make_data(), make_data(20, seed=1)


def train(config, model=None, validation=None):
    """Final weights and history of a run on the usual data, validated where weights are chosen."""
    model = model or make_model()
    history = fit(model, TRAIN, VALIDATION if config.select else validation, config)
    return weights(model), history


def stop_at(monkeypatch, step, where="add_step", error=Stop):
    """Let the next run raise an error at this step: after it, before it, or before it is saved."""
    place = History if where == "add_step" else training
    kept = getattr(place, where)

    def stop(*arguments):
        found = arguments[{"add_step": 2, "check_finite": 0, "save": 1}[where]]
        if where == "add_step":
            kept(*arguments)
        if found == step:
            raise error
        return None if where == "add_step" else kept(*arguments)

    monkeypatch.setattr(place, where, stop)
    return lambda: monkeypatch.setattr(place, where, kept)


def train_with_stops(monkeypatch, config, *stops, model=None):
    """The same, stopped at each (step, where), begun again with other heads, then finished.

    Args:
        model: the one that goes on; None: a new one after each stop, with heads of another seed.
    """
    for seed, (step, where) in enumerate(stops):
        undo = stop_at(monkeypatch, step, where)
        with pytest.raises(Stop):
            train(config, model or (new_heads(make_model(), seed) if seed else make_model()))
        undo()
    return train(config, model or new_heads(make_model(), 9))


def comparable(history):
    """Everything in a history but where it was saved."""
    config = {name: value for name, value in history.config.items() if "checkpoint" not in name}
    return json.dumps([config, history.steps, history.epochs, history.best_step])


SELECTING = {"select": "mean", "validate_every": 4, "weighting": "uncertainty"}


@pytest.mark.parametrize("settings", [{}, SELECTING], ids=["plain", "selecting"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path, monkeypatch, schedule, settings):
    config = make_config(schedule=schedule, max_steps=11, batch_size=12, **settings)
    expected, history = train(config)
    assert len(history.steps) in (8, 11)
    config = make_config(**{**vars(config), "checkpoint_dir": str(tmp_path / "run"),
                            "checkpoint_every": 2})
    found, again = train_with_stops(  # the first before any save but that of step 0
        monkeypatch, config, (1, "add_step"), (3, "add_step"), (5, "add_step"), (6, "save"),
        (7, "check_finite"))
    assert same(expected, found)
    assert comparable(again) == comparable(history)


class ScaledHead(ClassificationHead):
    """A head with a tuple in its configuration, as a head of one's own may have."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.config["scale"] = (0, 5)


def test_a_run_with_a_head_and_a_backward_of_ones_own_goes_on(tmp_path, monkeypatch):
    def model(seed=0):
        found = new_heads(make_model(), seed) if seed else make_model()
        head = ScaledHead(16, ["negative", "positive"])
        head.load_state_dict(found.heads["sentiment"].state_dict())
        found.heads["sentiment"] = head
        return found

    def add(losses, times):
        (times * sum(losses.values())).backward()

    def other(losses, times):
        add(losses, -times)

    def run(folder, seed=0):
        trained = model(seed)
        fit(trained, TRAIN, None, make_config(checkpoint_dir=tmp_path / folder, checkpoint_every=1),
            backward=functools.partial(add, times=2))
        return weights(trained)

    undo = stop_at(monkeypatch, 3)
    with pytest.raises(Stop):
        run("stopped")
    undo()
    assert same(run("stopped", seed=9), run("whole"))
    with pytest.raises(ValueError, match="another backward: 'add' there, 'other' here"):
        fit(model(), TRAIN, config=make_config(checkpoint_dir=tmp_path / "whole"),
            backward=functools.partial(other, times=2))


@pytest.mark.parametrize("settings", [
    {}, {"weighting": {"genre": 0.3, "sentiment": 2.0, "valence": 0.0, "unused": 1.0}},
    {"dtype": "bfloat16", "layer_decay": 0.5}])
def test_the_same_model_goes_on_after_an_interruption(tmp_path, monkeypatch, settings):
    """What a notebook does: the gradients of the interrupted step are still in the model."""
    expected, _ = train(make_config(**settings))
    config = make_config(checkpoint_dir=str(tmp_path), checkpoint_every=3, **settings)
    stops = [(4, "check_finite"), (8, "check_finite")]
    assert same(expected, train_with_stops(monkeypatch, config, *stops, model=make_model())[0])


def test_the_best_weights_may_be_from_before_the_stop(tmp_path, monkeypatch):
    settings = {"select": "mean", "epochs": 3, "checkpoint_every": 4, "patience": 2,
                "checkpoint_dir": str(tmp_path)}
    scores, seen = {5: 0.9, 10: 0.4, 15: 0.5}, []
    monkeypatch.setattr(Best, "judge", lambda *_: scores[seen[-1]])
    add_step = History.add_step

    def note(history, epoch, step, *rest):
        add_step(history, epoch, step, *rest)
        seen.append(step)

    monkeypatch.setattr(History, "add_step", note)
    expected, history = train(make_config(**{**settings, "checkpoint_dir": None}))
    assert history.best_step == 5 and len(history.steps) == 15
    found, again = train_with_stops(monkeypatch, make_config(**settings), (9, "add_step"),
                                    (13, "check_finite"))
    assert same(expected, found) and comparable(history) == comparable(again)


def refuse_to_train(*_):
    raise AssertionError("a finished run was trained again")


@pytest.mark.parametrize("settings", [
    {}, {"max_steps": 7}, {"select": "genre", "patience": 1, "epochs": 50, "encoder_lr": 0.0,
                           "head_lr": 0.0}])
def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch, caplog, settings):
    config = make_config(checkpoint_dir=str(tmp_path), **settings)
    expected, history = train(config)
    assert len(history.steps) in (7, 10)
    monkeypatch.setattr(Objective, "forward", refuse_to_train)
    model = new_heads(make_model(), 1)
    with caplog.at_level(logging.WARNING):
        found, again = train(config, model)
    assert f"{tmp_path} holds a finished run: nothing is left to train" in caplog.text
    assert same(expected, found) and comparable(again) == comparable(history)
    assert not any(module.training for module in model.modules())


def test_where_and_how_often_it_saves_may_change(tmp_path, monkeypatch):
    expected, _ = train(make_config())
    first = make_config(checkpoint_dir=str(tmp_path / "here"), checkpoint_every=3)
    with pytest.raises(Stop):
        undo = stop_at(monkeypatch, 8)
        train(first)
    undo()
    (tmp_path / "here").rename(tmp_path / "there")
    second = make_config(checkpoint_dir=str(tmp_path / "there"), checkpoint_every=1, progress=True)
    model = new_heads(make_model(), 1)
    found, history = train(second, model)
    assert same(expected, found)
    assert history.steps[6]["step"] == 7 and len(history.steps) == 10


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of a run of which only some steps were made."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        stop_at(patch, 3)
        with pytest.raises(Stop):
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


def with_label(data, task, row, value):
    labels = {name: values.copy() for name, values in data.labels.items()}
    labels[task][row] = value
    return LabelledSentences(data.sentences, labels)


def with_sentence(data, row, sentence):
    return LabelledSentences([*data.sentences[:row], sentence, *data.sentences[row + 1 :]],
                             data.labels)


def without(data, task):
    return LabelledSentences(data.sentences, {
        name: values for name, values in data.labels.items() if name != task})


def frozen(*parts):
    model = make_model()
    freeze(model, *parts)
    return model


def with_head(**heads):
    model = make_model()
    model.heads.update(heads)
    return model


def with_other_dropout():
    model = make_model()
    model.encoder.backbone.embeddings.dropout.p = 0.2
    return model


def with_another_word():
    model = make_model()
    model.encoder.tokenizer.add_tokens(["unheard"])
    return model


def with_encoder(**settings):
    model = make_model()
    for name, value in settings.items():
        setattr(model.encoder, name, value)
    return model


@pytest.mark.parametrize(("model", "train", "validation", "named"), [
    (make_model, with_label(TRAIN, "genre", 4, -100), VALIDATION, "train labels of genre"),
    (make_model, with_label(TRAIN, "valence", 1, 0.25), VALIDATION, "train labels of valence"),
    (make_model, without(TRAIN, "sentiment"), VALIDATION, "train labels of sentiment"),
    (make_model, with_sentence(TRAIN, 9, "a film"), VALIDATION, "train sentences"),
    (make_model, TRAIN, with_label(VALIDATION, "genre", 0, -100), "validation labels of genre"),
    (make_model, TRAIN, with_sentence(VALIDATION, 0, "it"), "validation sentences"),
    (make_model, TRAIN, None, "validation sentences"),
    (lambda: frozen("embeddings"), TRAIN, VALIDATION, "shape, dropout or freezing of the model"),
    (lambda: frozen("head:unused"), TRAIN, VALIDATION,
     "shape, dropout or freezing of the model"),
    (lambda: make_model(dtype=torch.float64), TRAIN, VALIDATION,
     "shape, dropout or freezing of the model"),
    (lambda: make_model("mpnet"), TRAIN, VALIDATION, "shape, dropout or freezing of the model"),
    (lambda: with_head(unused=ClassificationHead(16, ["no", "perhaps"])), TRAIN, VALIDATION,
     "head unused"),
    (lambda: with_head(more=ClassificationHead(16, ["no", "yes"])), TRAIN, VALIDATION,
     "shape, dropout or freezing of the model"),
    (lambda: with_encoder(pooling="max"), TRAIN, VALIDATION, "tokenizer, pooling or length"),
    (lambda: with_encoder(normalize=False), TRAIN, VALIDATION, "tokenizer, pooling or length"),
    (lambda: with_encoder(max_length=5), TRAIN, VALIDATION, "tokenizer, pooling or length"),
    (with_other_dropout, TRAIN, VALIDATION, "shape, dropout or freezing of the model"),
    (with_another_word, TRAIN, VALIDATION, "tokenizer, pooling or length")])
def test_other_data_or_another_model_is_refused_by_name(stopped, model, train, validation, named):
    message = f"holds a run with another {named}: .* there, .* here; give this run its own folder"
    with pytest.raises(ValueError, match=message):
        fit(model(), train, validation, make_config(checkpoint_dir=str(stopped)))


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_a_broken_newest_checkpoint_is_named_and_skipped(tmp_path, monkeypatch, caplog, name):
    expected, history = train(make_config(**SELECTING))
    config = make_config(checkpoint_dir=str(tmp_path), checkpoint_every=2, **SELECTING)
    undo = stop_at(monkeypatch, 7)
    with pytest.raises(Stop):
        train(config)
    undo()
    file = tmp_path / "step-00000006" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        found, again = train(config, new_heads(make_model(), 1))
    assert "step-00000006 can't be used and was skipped" in caplog.text
    assert same(expected, found) and comparable(again) == comparable(history)


def test_a_checkpoint_that_cannot_be_written_ends_training(tmp_path, monkeypatch):
    """The earlier ones stay, and the run goes on from them when there is room again."""
    expected, _ = train(make_config())
    config = make_config(checkpoint_dir=str(tmp_path), checkpoint_every=2)
    with monkeypatch.context() as patch:
        rename = Path.rename

        def full(path, target):
            if "00000006" in path.name:
                raise OSError(28, "No space left on device")
            return rename(path, target)

        patch.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="step 6 could not be saved"):
            train(config)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == [
        "step-00000002", "step-00000004"]
    assert same(expected, train(config, new_heads(make_model(), 1))[0])


# Another encoder

def test_only_an_encoder_of_the_run_goes_on(tmp_path, monkeypatch):
    settings = {**SELECTING, "epochs": 4, "checkpoint_dir": str(tmp_path)}
    undo = stop_at(monkeypatch, 13)
    model = make_model()
    with pytest.raises(Stop):
        train(make_config(**settings), model)  # its weights are the best ones now
    undo()
    other = make_model(seed=1)
    before = weights(other)
    with pytest.raises(ValueError, match="holds a run with another encoder: .* there, .* here"):
        train(make_config(**settings), other)
    assert same(before, weights(other)), "a refused run leaves the model as it was"
    latest = make_model()
    latest.load_state_dict(training.load_checkpoint(tmp_path)[1]["model"])
    expected, _ = train(make_config(**{**settings, "checkpoint_dir": None}))
    for number, goes_on in enumerate((model, latest, make_model())):
        folder = shutil.copytree(tmp_path, tmp_path.with_name(f"copy-{number}"))
        if number:  # only the first needs the hash of what `fit` left, which may be damaged
            Path(folder, training.LEFT).write_bytes(b"\xff\xfe")
        config = make_config(**{**settings, "checkpoint_dir": folder})
        assert same(expected, train(config, goes_on)[0]), number


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    checkpoint.save_checkpoint(tmp_path, 3, {"mine": 1})
    with pytest.raises(ValueError, match="holds a checkpoint that fit did not write"):
        train(make_config(checkpoint_dir=str(tmp_path)))


# Interruptions

@pytest.mark.parametrize("error", [KeyboardInterrupt, training.TrainingDiverged])
@pytest.mark.parametrize("select", [None, "mean"])
@pytest.mark.parametrize("where", ["add_step", "check_finite", "forward", "validation", "saving"])
def test_an_interrupted_fit_keeps_what_it_has(tmp_path, monkeypatch, error, select, where):
    """Interrupted in step 13 of 20, in its forward pass, or in its validation or its save."""
    config = make_config(epochs=4, select=select, checkpoint_dir=str(tmp_path), validate_every=13,
                         checkpoint_every=13)
    taken, add_step = {}, History.add_step

    def note(history, epoch, step, *rest):
        taken[step] = weights(model)
        add_step(history, epoch, step, *rest)

    monkeypatch.setattr(History, "add_step", note)
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
    else:
        stop_at(monkeypatch, 13, where, error)
    model = make_model()
    with pytest.raises(error) as caught:
        train(config, model, VALIDATION)
    made = 12 if where in ("check_finite", "forward") else 13
    assert [row["step"] for row in caught.value.history.steps] == list(range(1, made + 1))
    assert not any(module.training for module in model.modules())
    assert same(weights(model), taken[made])
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000000"]


# Kills

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def killed(folder, kills, inside, *schedules):
    """What a process tells that started and killed training processes, each a fork of it."""
    script = Path(__file__).with_name("training_process.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parent.parent),
                                "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, script, "kill", folder, str(kills), str(inside), *schedules],
        env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-4000:]
    report = json.loads((folder / "report.json").read_text())
    for kill in report["kills"]:
        assert kill["told"] - kill["found"] in (0, 1), f"more than one step was lost: {kill}"
    assert all(run["same"] for run in report["runs"]), report["runs"]
    return Counter(kill["schedule"] for kill in report["kills"]), Counter(
        kill["schedule"] for kill in report["kills"] if kill["inside"])


@needs_fork
def test_killed_processes_end_with_the_weights_of_one_never_killed(tmp_path):
    kills, inside = killed(tmp_path, 5, 1, "joint")
    assert kills["joint"] >= 5 and inside["joint"] >= 1


@needs_fork
@pytest.mark.slow
def test_fifty_killed_processes_of_every_schedule(tmp_path):
    kills, inside = killed(tmp_path, 13, 4, *SCHEDULES)
    print(f"{kills.total()} kills, {inside.total()} of them inside a save: {dict(inside)}")
    assert kills.total() >= 50 and inside.total() >= 15
    assert all(kills[schedule] >= 13 and inside[schedule] >= 4 for schedule in SCHEDULES)
