"""fit: agrees with a plain loop, keeps to its settings, refuses bad input, two processes as one."""

import json
import math
import os
import random
import subprocess
import sys
from contextlib import nullcontext
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import TASKS, make_config, make_data, make_model, same, weights
from torch import nn
from training_process import train_together

from mtl_helpers import training
from mtl_helpers.batching import SCHEDULES, Tokens, count_labels, plan_epoch, take_labels
from mtl_helpers.checkpoint import load_checkpoint
from mtl_helpers.config import History, resolve_dtype
from mtl_helpers.data import LabelledSentences
from mtl_helpers.evaluation import evaluate
from mtl_helpers.freezing import Embeddings, FrozenCache, Given, freeze, parameter_groups
from mtl_helpers.losses import Processes, make_weighting, task_losses
from mtl_helpers.training import TrainingDiverged, fit

F64 = {"dropout": 0.0, "dtype": torch.float64}
DATA, VALIDATION = make_data(), make_data(20, seed=1)


@pytest.fixture
def snapshots(monkeypatch):
    """The model's weights after each step, filled in while `fit` runs."""
    taken, models = [], []
    check, add_step = training.check, History.add_step
    monkeypatch.setattr(training, "check", lambda *given: models.append(given[0]) or check(*given))
    monkeypatch.setattr(History, "add_step", lambda *row: (
        add_step(*row), taken.append(weights(models[-1]))))
    return taken


def distance(first, second):
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def plain_loop(model, data, config):
    """One epoch after another, with rates by formula; test_heads.py tests losses by hand."""
    lengths = np.array([len(ids) for ids in model.encoder.tokenize(data.sentences)])
    batches = [batch for epoch in range(config.epochs) for batch in plan_epoch(
        data.labels, config.schedule, config.batch_size, config.seed, epoch, lengths)]
    weighting, losses = make_weighting(config.weighting, model.heads), []
    groups = parameter_groups(model, config.encoder_lr, config.head_lr, config.weight_decay,
                              config.layer_decay)
    groups.append({"params": [*weighting.parameters()], "lr": config.head_lr, "weight_decay": 0.0})
    rates, parameters = [group["lr"] for group in groups], [
        parameter for group in groups for parameter in group["params"]]
    optimizer, warmup = torch.optim.AdamW(groups), math.ceil(config.warmup * len(batches))
    for step, batch in enumerate(batches):
        some = data.select(batch.rows)
        logits = model(*model.encoder.collate(model.encoder.tokenize(some.sentences)))
        own = task_losses(model.heads, logits, {task: some.labels[task] for task in batch.tasks})
        own = {task: loss for task, loss in own.items() if loss.count}
        losses.append({task: loss.mean.item() for task, loss in own.items()})
        optimizer.zero_grad()
        weighting(own).backward()
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        share = ((step + 1) / (warmup + 1) if step < warmup
                 else (len(batches) - step) / (len(batches) - warmup))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = share * rate
        optimizer.step()
    return losses


MIXED = {"genre": 0.3, "sentiment": 2.0, "valence": 0.0, "unused": 1.0}


@pytest.mark.parametrize(("settings", "tolerance"), [
    ({"schedule": "joint"}, 1e-12),
    ({"schedule": "alternating", "clip_norm": 0.3, "warmup": 0.5}, 1e-12),
    ({"schedule": "proportional", "layer_decay": 0.5, "warmup": 0}, 1e-12),
    ({"schedule": "temperature", "weighting": MIXED, "weight_decay": 0.3}, 1e-12),
    ({"schedule": "joint", "weighting": "uncertainty"}, 1e-6)])  # learned in float32
def test_agrees_with_a_plain_loop(settings, tolerance):
    config = make_config(batch_size=6, validate_every=1, **settings)
    model, plain = make_model(**F64), make_model(**F64)
    before = weights(model)
    history = fit(model, DATA, VALIDATION, config)  # which changes nothing that is learned
    losses = plain_loop(plain, DATA, config)
    assert distance(weights(model), weights(plain)) < tolerance
    assert distance(weights(model), before) > 1e-3
    for row, expected in zip(history.steps, losses, strict=True):
        assert row["loss"] == pytest.approx(expected, abs=max(tolerance, 1e-9))


def test_a_backward_of_ones_own_takes_the_place_of_the_weighted_sum():
    model, other = make_model(), make_model()
    fit(model, DATA, config=make_config())
    fit(other, DATA, config=make_config(),
        backward=lambda losses: torch.stack([*losses.values()]).sum().backward())
    assert same(weights(model), weights(other))


def test_a_head_without_labels_in_the_batch_does_not_move(snapshots):
    for schedule in SCHEDULES:
        snapshots.clear()
        model, rested = make_model(), set()
        last = weights(model)
        history = fit(model, DATA, config=make_config(
            batch_size=3, weight_decay=0.5, epochs=1, schedule=schedule))
        for row, now in zip(history.steps, snapshots, strict=True):
            for task in (*TASKS, "unused"):
                names = [name for name in now if name.startswith(f"heads.{task}.")]
                moved = [not torch.equal(now[name], last[name]) for name in names]
                assert all(moved) if task in row["labels"] else not any(moved), (schedule, task)
                rested |= {task} - set(row["labels"])
            last = now
        assert {"sentiment", "valence", "unused"} <= rested


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_history_tells_what_was_realised(schedule):
    model, config = make_model(), make_config(schedule=schedule, batch_size=7)
    lengths = np.array([len(ids) for ids in model.encoder.tokenize(DATA.sentences)])
    history = fit(model, DATA, VALIDATION, config)
    plans = [plan_epoch(DATA.labels, schedule, 7, 0, epoch, lengths) for epoch in range(2)]
    assert [(row["sentences"], row["labels"]) for row in history.steps] == [
        (len(batch.rows), count_labels(DATA.labels, batch)) for batch in plans[0] + plans[1]]
    steps = list(range(1, len(history.steps) + 1))
    assert [row["step"] for row in history.steps] == steps
    assert [row["step"] for row in history.epochs] == [len(plans[0]), steps[-1]]
    last = history.steps[len(plans[0]) :]
    for task in TASKS:
        pairs = [(row["labels"][task], row["loss"][task]) for row in last if task in row["loss"]]
        mean = np.average([loss for _, loss in pairs], weights=[n for n, _ in pairs])
        assert history.epochs[1]["loss"][task] == pytest.approx(mean)
        assert history.losses(task)[0].tolist() == [
            row["step"] for row in history.steps if task in row["loss"]]
    for task, report in evaluate(model, VALIDATION).items():
        metric = "pearson" if task == "valence" else "macro_f1"
        found = history.epochs[-1]["validation"][task][metric]
        assert found == pytest.approx(getattr(report, metric))
    assert history.best_step is None and history.epochs[1]["score"] is None


def test_progress_is_a_line_an_epoch_and_in_a_terminal_a_bar(monkeypatch, capsys):
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        fit(make_model(), DATA, VALIDATION, make_config(progress=True))
        lines, shown = capsys.readouterr()
        assert ("/10 [" in shown) == terminal
        first, second = lines.splitlines()
        assert first.startswith("epoch 1, step 5:  loss genre ")
        assert " genre F1 0." in second and " valence r " in second
    fit(make_model(), DATA, config=make_config(epochs=1))
    assert capsys.readouterr() == ("", "")


RISING_AND_FALLING = [(0.1, 0.9, 0.5), (0.6, 0.5, 0.0), (0.3, 0.4, math.nan), (0.2, 0.8, 0.4)]
SELECTIONS = {  # settings, each task's scores, the scores that select, the steps, the best one
    "mean": ({"select": "mean"}, RISING_AND_FALLING, [0.5, 1.1 / 3, -0.1, 1.4 / 3], 30, 5),
    "genre": ({"select": "genre"}, RISING_AND_FALLING, [0.1, 0.6, 0.3, 0.2], 30, 10),
    "sentiment": ({"select": "sentiment"}, RISING_AND_FALLING, [0.9, 0.5, 0.4, 0.8], 30, 5),
    "valence": ({"select": "valence"}, RISING_AND_FALLING, [0.5, 0.0, -1.0, 0.4], 30, 5),
    "none": ({}, RISING_AND_FALLING, [None] * 4, 30, None),
    "undefined": ({"select": "valence"}, [(math.nan,) * 3] * 6, [-1.0] * 6, 30, 5)}
for name, settings, selecting, steps, best in (
        ("equal", {"patience": 2}, [0.5, 0.4, 0.6, 0.6, 0.1], 25, 15),
        ("one", {"patience": 1}, [0.9, 0.5], 10, 5),
        ("three", {"patience": 3}, [0.9, 0.5, 0.5, 0.5], 20, 5),
        ("every two", {"patience": 2, "validate_every": 2}, [0.9, 0.5, 0.5], 6, 2),
        ("every three", {"patience": 1, "validate_every": 3}, [0.9, 0.5], 6, 3)):
    script = [(score,) * 3 for score in selecting]
    SELECTIONS[name] = (settings | {"select": "mean"}, script, selecting, steps, best)


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_best_weights_by_validation_are_kept_and_patience_ends_training(
        monkeypatch, snapshots, name):
    settings, script, selecting, steps, best = SELECTIONS[name]
    rest, scored = chain(script, repeat((0.0,) * 3)), []
    monkeypatch.setattr(training, "evaluate", lambda model, data, dtype: scored.append(data) or {
        task: SimpleNamespace(headline=("score", value), scores=dict)
        for task, value in zip(TASKS, next(rest), strict=True)})
    model, every = make_model(), settings.get("validate_every", 5)
    history = fit(model, DATA, VALIDATION, make_config(epochs=6, **settings))
    found = [row["score"] for row in history.epochs]
    assert found[: len(selecting)] == pytest.approx(selecting)
    assert [row["step"] for row in history.epochs] == list(range(every, steps + 1, every))
    assert len(history.steps) == len(snapshots) == steps and history.best_step == best
    assert same(weights(model), snapshots[(best or steps) - 1]), "the last, where none is selected"
    assert len(scored) == len(found) and all(data is VALIDATION for data in scored)


def test_only_tasks_that_are_trained_select_weights():
    history = fit(make_model(), change(sentiment=None, valence=None), VALIDATION,
                  make_config(select="mean"))
    for row in history.epochs:
        assert set(row["validation"]) == {"genre", "sentiment", "valence"}
        assert row["score"] == row["validation"]["genre"]["macro_f1"]


@pytest.mark.parametrize(("fast", "computed"), [(True, torch.bfloat16), (False, None)])
def test_auto_is_bfloat16_where_hardware_has_it_and_does_not_emulate_it(
        monkeypatch, fast, computed):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported",
                        lambda including_emulation=True: including_emulation or fast)
    for device in map(torch.device, ("cpu", "cuda")):
        assert [resolve_dtype(device, name) for name in ("auto", "float32", "bfloat16")] == [
            computed, None, torch.bfloat16]


def test_bfloat16_comes_close():
    losses = []
    for dtype in ("float32", "bfloat16"):
        model = make_model(dropout=0.0)
        history = fit(model, DATA, VALIDATION, make_config(dtype=dtype))
        assert next(model.parameters()).dtype == torch.float32
        losses.append([row["loss"]["genre"] for row in history.steps])
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=0.03)


def test_dropout_differs_from_step_to_step(monkeypatch):
    drawn = []
    monkeypatch.setattr(training, "check_finite", lambda *_: drawn.append(torch.initial_seed()))
    for seed in (0, 1):
        fit(make_model(), DATA, config=make_config(seed=seed))
    assert len(drawn) == len(set(drawn)) == 20


def test_max_steps_ends_in_the_midst_of_an_epoch():
    history = fit(make_model(), DATA, config=make_config(max_steps=7, warmup=0.25))
    assert [row["epoch"] for row in history.steps] == [1] * 5 + [2] * 2
    rates = np.array([row["rate"] for row in history.steps]) / 1e-3
    np.testing.assert_allclose(rates, [1 / 3, 2 / 3, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5])
    assert [row["step"] for row in history.epochs] == [5, 7]


@pytest.mark.parametrize("fails", [False, True])
def test_surroundings_are_left_as_they_were(monkeypatch, fails):
    def states():
        return (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state()),
                model.encoder.backbone.config._attn_implementation, torch.is_grad_enabled(),
                torch.get_default_dtype(), torch.get_num_threads())

    def stop(step, *_):
        assert model.training and model.encoder.backbone.config._attn_implementation == "eager"
        if fails and step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "check_finite", stop)
    model = make_model()
    model.encoder.backbone.set_attn_implementation("sdpa")
    before = states()
    with pytest.raises(KeyboardInterrupt) if fails else nullcontext():
        fit(model, DATA, config=make_config())
    assert fails or all(parameter.grad is None for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    assert states() == before


@pytest.mark.parametrize("cached", [False, True])
def test_defaults_of_torch_change_no_result(tmp_path, cached):
    """On "meta" whatever is made without a device has no values, and could not be computed with."""
    found = []
    for number, (dtype, device) in enumerate((
            (torch.float32, "cpu"), (torch.float64, "cpu"), (torch.float32, "meta"))):
        model = make_model("mpnet")
        freeze(model, *(["encoder"] if cached else []))
        try:
            torch.set_default_dtype(dtype)
            torch.set_default_device(device)
            cache = FrozenCache(model, DATA.sentences) if cached else None
            for steps in (3, 6):  # begun, and continued
                fit(model, DATA, VALIDATION, make_config(
                    weighting="uncertainty", select="mean", epochs=1,
                    checkpoint_dir=tmp_path / f"{number} {steps}"), cache=cache)
            answers = model.predict(make_data(5).sentences)
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_default_device(None)
        found.append((weights(model), {task: torch.tensor(np.nan_to_num(
            answer.values if answer.ids is None else answer.probabilities))
            for task, answer in answers.items()}))
    for other in found[1:]:
        assert same(found[0][0], other[0]) and same(found[0][1], other[1])


def test_a_step_mixes_no_devices_and_names_none_of_its_own(monkeypatch):
    """On "meta", which has no values, and without an encoder, which reads those of a mask."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **settings: nullcontext())  # "meta" has none
    model, device, rows = make_model().to("meta"), torch.device("meta"), np.arange(8)
    batch, *_ = plan_epoch(DATA.labels, "joint", 8, 0, 0)
    inputs = Embeddings(torch.zeros(37, 16), Tokens(model.encoder, DATA.sentences).lengths)
    model.encoder = Given(16)
    for weighting in ("sum", "uncertainty"):
        objective = training.Objective(model, make_weighting(weighting, model.heads).to(device),
                                       torch.bfloat16)
        counts = count_labels(DATA.labels, batch)
        given, mask = inputs.collate(rows, device)
        labels = take_labels(DATA.labels, counts, rows, device)
        loss, losses = objective(given, mask, labels, counts)
        loss.backward()
        found = [given, loss, *(one.mean for one in losses.values())]
        found += [parameter.grad for parameter in model.heads["genre"].parameters()]
        assert mask is None and {one.device.type for one in found} == {"meta"}


@pytest.mark.parametrize(("error", "told"), [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"), True),
    (MemoryError(), True), (RuntimeError("CUDA error: an illegal memory access"), False)])
def test_where_memory_runs_out_one_line_says_what_to_lower(monkeypatch, error, told):
    def fail(*_):
        raise error

    model = make_model()
    monkeypatch.setattr(type(model.encoder), "forward", fail)
    for run, settings in (
            (lambda: model.encoder.encode(["a film"]), "tokens_per_batch, or"),
            (lambda: fit(model, DATA, config=make_config()), "batch_size, or")):
        vars(error).pop("__notes__", None)
        with pytest.raises(type(error)) as caught:
            run()
        notes = getattr(caught.value, "__notes__", [])
        assert len(notes) == told and all(f"lower {settings}" in note for note in notes)


def test_a_loss_that_is_not_finite_ends_training_before_the_step(tmp_path, snapshots):
    model, data, row = make_model(), make_data(), 21
    data.labels["valence"][row] = 1e30  # whose square is infinite
    lengths = np.array([len(ids) for ids in model.encoder.tokenize(data.sentences)])
    plan = plan_epoch(data.labels, "joint", 6, 0, 0, lengths)
    (bad,) = [i for i, batch in enumerate(plan, start=1) if row in batch.rows]
    assert bad > 2
    with pytest.raises(TrainingDiverged, match=f"step {bad}: the loss of valence is not finite"):
        fit(model, data, config=make_config(batch_size=6, checkpoint_dir=str(tmp_path),
                                            checkpoint_every=1))
    assert len(snapshots) == bad - 1 and same(weights(model), snapshots[-1])
    step, state = load_checkpoint(tmp_path)
    assert step == bad - 1
    assert same({name: state["model"][name] for name in snapshots[-1]}, snapshots[-1])


def test_a_gradient_that_is_not_finite_ends_training(snapshots):
    model = make_model()

    def backward(losses):
        torch.stack([*losses.values()]).sum().backward()
        if len(snapshots) == 2:
            model.heads["genre"].network[1].weight.grad[0, 0] = math.inf

    with pytest.raises(TrainingDiverged, match="step 3: the gradient of .'genre'.* is not finite"):
        fit(model, DATA, config=make_config(), backward=backward)
    assert same(weights(model), snapshots[1])


def change(**labels):
    """The data with other labels; None leaves a task out."""
    return LabelledSentences(DATA.sentences, {
        task: values for task, values in {**DATA.labels, **labels}.items() if values is not None})


@pytest.mark.parametrize(("train", "validation", "settings", "message"), [
    (change(valence=np.full(37, np.nan)), None, {}, r"got none for \['valence'\]"),
    (DATA, change(colour=np.arange(37) % 2), {}, r"'colour'\]; valid are \['genre'"),
    (DATA, DATA, {"select": "unused"}, "select must be a task, .* got 'unused'"),
    (DATA, change(valence=None), {"select": "valence"}, "with labels in train and valid"),
    (DATA, change(sentiment=np.full(37, -100)), {"select": "sentiment"}, "got 'sentiment'"),
    (change(sentiment=None, valence=None), change(genre=None), {"select": "mean"}, "got 'mean'")])
def test_refused_data(train, validation, settings, message):
    model = make_model()
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        fit(model, train, validation, make_config(**settings))
    assert same(before, weights(model)) and not model.training


def test_a_task_that_nothing_can_learn_is_refused():
    model = make_model()
    freeze(model, "encoder", "head:sentiment")
    with pytest.raises(ValueError, match=r"labels\['sentiment'\] has nothing to train"):
        fit(model, DATA, config=make_config())
    fit(model, change(sentiment=None), config=make_config(max_steps=1))


def test_torchrun_with_a_config_for_one_process_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    fit(make_model(), DATA, config=make_config(max_steps=1))  # no torchrun: it stays alone
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with pytest.raises(ValueError, match="processes is 1, but 2 were started"):
        fit(make_model(), DATA, config=make_config())


def test_numbers_of_numpy_are_plain_numbers(tmp_path):
    config = make_config(seed=np.int64(3), encoder_lr=np.float32(1e-4), clip_norm=np.float64(2),
                         weighting={task: np.float32(0.5) for task in (*TASKS, "unused")},
                         checkpoint_dir=tmp_path, max_steps=np.int32(2), epochs=np.array(1),
                         head_lr=torch.tensor(0.01), progress=np.bool_(False))
    kinds = {name: type(value) for name, value in vars(config).items()}
    assert kinds["seed"] is kinds["max_steps"] is kinds["epochs"] is int
    assert kinds["encoder_lr"] is kinds["head_lr"] is float and kinds["progress"] is bool
    fit(make_model(), DATA, config=config)
    assert load_checkpoint(tmp_path)[0] == 2


def test_two_processes_train_the_weights_of_one(tmp_path):
    script = Path(__file__).with_name("training_process.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parent.parent)}
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         script, tmp_path], env=environment, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr[-4000:]
    for rank in (0, 1):
        refusal = (tmp_path / f"refusal-{rank}").read_text()
        assert refusal.startswith("processes is 1, but 2 were started; use torchrun")
    before = weights(make_model(**F64))
    for schedule in SCHEDULES:
        expected, history = train_together(schedule, 1)
        found = load_file(tmp_path / f"{schedule}-0.safetensors")
        assert distance(expected, found) < 1e-9, schedule
        assert same(found, load_file(tmp_path / f"{schedule}-1.safetensors")), "both the same"
        for name in before:
            rests = name.startswith(("heads.unused", "heads.sentiment")) or "pooler" in name
            assert torch.equal(before[name], found[name]) == rests, name
        together = History(**json.loads((tmp_path / f"{schedule}-0.json").read_text()))
        assert together.best_step == history.best_step
        for row, other in zip(together.steps, history.steps, strict=True):
            assert row["loss"] == pytest.approx(other["loss"], abs=1e-9)
            assert (row["labels"], row["sentences"]) == (other["labels"], other["sentences"])
            assert row["gradient_norm"] == pytest.approx(other["gradient_norm"], abs=1e-9)
        assert min(row["sentences"] for row in history.steps) == 1
        assert min(len(row["labels"]) for row in history.steps) == 1
    whole = load_file(tmp_path / "alternating-0.safetensors")
    assert all(same(whole, load_file(tmp_path / f"continued-{rank}")) for rank in (0, 1))


def test_a_folder_that_not_all_processes_see_is_refused(monkeypatch, tmp_path):
    config = make_config(checkpoint_dir=str(tmp_path))
    fit(make_model(), DATA, config=config)
    monkeypatch.setattr(Processes, "agree", lambda *_: 0)  # the first process found nothing there
    with pytest.raises(ValueError, match="checkpoint_dir must be a folder that all processes see"):
        fit(make_model(), DATA, config=config)
