"""The studies: runs as their arms describe them, the choice of rates, gradients combined."""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from experiments import analysis, records, studies, train, weightings

ARM = {(setting.study, setting.arm): setting for setting, *_ in studies.ARMS}
RECORDED = {arm: found for arm in ARM if (found := analysis.runs(*arm))}


def test_every_run_is_recorded_as_the_studies_describe_it_now():
    wrong, labels = [], {}
    for setting in studies.jobs([study for study, _ in ARM]):
        record = records.find_record(setting.study, setting.name)
        now = json.loads(json.dumps(asdict(setting) | {"dtype": "bfloat16"}))
        older = asdict(train.Setting(setting.study, setting.arm))  # lacks what has come since
        told = json.loads(json.dumps(older)) | record["config"]
        # A shuffled schedule stops at another place of its last epoch.
        usual = labels.setdefault((setting.study, setting.arm), record["labels"])
        alike = record["labels"] == pytest.approx(usual, rel=0.1)
        if not alike or {name: told[name] for name in now} != now:
            wrong.append((setting.study, setting.name))
    assert not wrong and len(labels) == len(RECORDED) == len(ARM)


def validation_scores(records):
    return [np.mean([row["macro_f1"] for row in one["validation"].values()]) for one in records]


def test_the_rate_of_an_arm_is_what_validation_likes_best_and_joint_is_also_run_at_the_others():
    setting, known = ARM["arms", "joint"], records.read_records("arms")
    found = [known[replace(setting, encoder_lr=rate).name] for rate in train.RATES]
    best = train.RATES[np.argmax(validation_scores(found))]
    assert studies.tuned_rate(setting) == best == 3e-4
    assert studies.tuned_rate(train.Setting("arms", "no such arm")) is None
    for name in ("genre", "sentiment", "alternating", "joint-single-rate"):
        assert {run["config"]["encoder_lr"] for run in analysis.runs("arms", name)} == {1e-4}
    both = [validation_scores(analysis.runs("arms", name))
            for name in ("joint", "joint-single-rate")]
    error = np.hypot(*(np.std(scores, ddof=1) / len(scores) ** 0.5 for scores in both))
    assert abs(np.mean(both[0]) - np.mean(both[1])) < error  # why one rate does for the headline


def test_arms_of_a_comparison_have_equal_passes_or_equal_labels():
    names = ("joint", "alternating", "genre", "sentiment")
    runs = {name: analysis.runs("arms", name)[0] for name in names}
    assert {run["passes"] for run in runs.values()} == {train.PASSES}
    assert runs["joint"]["labels"] == runs["genre"]["labels"] | runs["sentiment"]["labels"]
    assert all(abs(count - train.PASSES // 2) in (0, 16)
               for count in runs["alternating"]["labels"].values())


def test_scores_and_gains_are_means_over_seeds_with_intervals():
    found = analysis.score("arms", "joint", "sentiment")
    values = [run["test"]["sentiment"]["macro_f1"] for run in RECORDED["arms", "joint"]]
    assert abs(found.value - np.mean(values)) < 1e-4 and found.seeds == len(values)
    assert 0.01 < found.margin < 0.05
    same = analysis.gain("sentiment", ("arms", "joint"), ("arms", "joint"))
    assert same.value == 0 and same.margin > 0  # two sets of seeds of it would differ
    arms = ("arms", "sentiment"), ("arms", "joint")
    there, back = (analysis.gain("sentiment", *pair) for pair in (arms, arms[::-1]))
    assert abs(there.value + back.value) < 1e-12 and abs(there.margin - back.margin) < 1e-12
    one = analysis.Estimate(0.25, 0.1, 3)
    assert f"{one:+} {one}".replace("\N{NO-BREAK SPACE}", "_") == "+25.0_±_10.0 25.0_±_10.0"


def test_runs_of_a_seed_are_compared_where_that_is_asked_for():
    arm = "labels", "encoder-50"
    assert analysis.gain("genre", arm, arm, by_seed=True).margin == 0
    assert analysis.gain("genre", arm, arm).margin > 0


def test_what_task_3_says_of_its_runs():
    steps = {"encoder": [2500], "lp-ft": [2500, 375], "full": [375]}
    nothing, freezing = set(), set()
    for (study, name), found in RECORDED.items():
        if study == "freezing" or (study, name) == ("arms", "joint"):
            processors = freezing if study == "freezing" else nothing
            processors |= {run["environment"]["processor"] for run in found}
        if study in ("labels", "domain"):
            policy = ARM[study, name].policy
            taken = [[stage["steps"] for stage in run["stages"]] for run in found]
            assert taken == [steps[policy]] * 3
            assert policy == "encoder" or {run["config"]["encoder_lr"] for run in found} == {1e-4}
    assert len(nothing) == 1 and not nothing & freezing


def test_the_scarce_task_keeps_the_labels_it_should_have():
    both = train.training_data(ARM["scarce", "genre-sentiment-200"])
    alone = train.training_data(ARM["scarce", "sentiment-200"])
    known = both.labels["sentiment"] != -100
    assert known.sum() == len(alone) == 200 and len(both) == train.SENTENCES
    assert both.select(known).sentences == alone.sentences
    assert (both.labels["genre"] >= 0).all()


def test_probabilities_survive_as_digits():
    given = np.random.default_rng(0).dirichlet([0.3, 0.3, 0.3], 500)
    found = records.from_digits(records.digits(given), 3)
    assert np.abs(found - given).max() < 0.002
    assert (found.argmax(axis=1) == given.argmax(axis=1)).mean() > 0.99
    assert np.allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("name", weightings.AGGREGATORS)
@pytest.mark.parametrize("conflict", [False, True])
def test_combined_gradients(name, conflict):
    torch.manual_seed(0)
    heads, inputs = {"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)}, torch.randn(5, 4)
    model = SimpleNamespace(encoder=nn.Linear(4, 3), heads=heads)

    def losses():
        embeddings = model.encoder(inputs)
        first, again = (heads["a"](embeddings).mean() for _ in range(2))
        other = 0.1 * heads["b"](embeddings).mean()
        return {"a": first, "b": (other - 0.5 * again) if conflict else 2 * again}

    shared = list(model.encoder.parameters())
    parts = (torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses().values())
    a, b = (torch.cat([part.flatten() for part in row]) for row in parts)
    weightings.backward(model, name)(losses())
    found = torch.cat([parameter.grad.flatten() for parameter in shared])
    if not conflict:
        assert torch.allclose(found, a + b, atol=1e-5)
    else:  # of two conflicting gradients, each loses its part against the other
        assert a @ b < 0
        expected = a - (a @ b) / (b @ b) * b + b - (a @ b) / (a @ a) * a
        assert torch.allclose(found, expected, atol=1e-3)  # UPGrad adds a little to the Gramian
        assert min(found @ a, found @ b) > -1e-3


@pytest.mark.slow
@pytest.mark.parametrize("task", train.LABELS)
def test_a_recorded_run_can_be_made_again(task):
    arm = "arms", f"{task}-equal-labels"
    recorded = RECORDED[arm][0]
    fresh = train.run(replace(ARM[arm], encoder_lr=recorded["config"]["encoder_lr"]))
    assert fresh["labels"] == recorded["labels"] and fresh["passes"] == recorded["passes"]
    for metric in ("accuracy", "macro_f1"):
        assert abs(recorded["test"][task][metric] - fresh["test"][task][metric]) < 0.02


def test_over_log_k_a_uniform_guess_costs_one_in_every_classification():
    setting = replace(ARM["weighting", "log_k"], tasks=("genre", "sentiment", "valence"))
    weights = train.training_config(setting).weighting
    assert weights.pop("valence") == 1
    for task, weight in weights.items():
        guess = torch.zeros(1, len(train.LABELS[task]))
        assert weight * nn.functional.cross_entropy(guess, torch.tensor([0])) == pytest.approx(1)
