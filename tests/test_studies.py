"""The studies: records against their own predictions, the choice of rates, gradients combined."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from experiments import analysis, gradients, studies, tables, train
from experiments.records import find_record
from mtl_helpers import score_classification, score_regression
from mtl_helpers.losses import has_label

STUDIES = list(dict.fromkeys(setting.study for setting, *_ in studies.ARMS))
RECORDED = [(setting.study, setting.arm) for setting, *_ in studies.ARMS
            if analysis.runs(setting.study, setting.arm)]
ARM = {(setting.study, setting.arm): setting for setting, *_ in studies.ARMS}


@pytest.mark.parametrize("arm", RECORDED, ids="/".join)
def test_recorded_scores_follow_from_recorded_predictions(arm) -> None:
    test = train.splits()[2]
    for record in analysis.runs(*arm):
        for task, row in record["test"].items():
            if task in train.LABELS:
                ids = np.array([int(digit) for digit in row["predicted"]])
                report = score_classification(test.labels[task], ids, train.LABELS[task])
                assert abs(report.accuracy - row["accuracy"]) < 1e-5
                assert abs(report.macro_f1 - row["macro_f1"]) < 1e-5
            else:
                report = score_regression(test.labels[task], np.array(row["predicted"]))
                assert abs(report.pearson - row["pearson"]) < 1e-3  # predictions have two digits


@pytest.mark.parametrize("arm", RECORDED, ids="/".join)
def test_runs_of_an_arm_differ_in_nothing_but_the_seed(arm) -> None:
    records = analysis.runs(*arm)
    defaults = json.loads(json.dumps(vars(train.Setting(*arm))))  # of what older records lack
    configs = [defaults | record["config"] for record in records]
    assert [config["seed"] for config in configs] == list(range(len(configs)))
    assert len({str(config | {"seed": 0}) for config in configs}) == 1
    for record in records:  # a shuffled schedule stops at another place of its last epoch
        assert record["labels"] == pytest.approx(records[0]["labels"], rel=0.1)
    # The record was made by the settings that the study has now.
    setting = replace(ARM[arm], encoder_lr=configs[0]["encoder_lr"], probabilities=False)
    now = {key: list(value) if isinstance(value, tuple) else value
           for key, value in vars(setting).items()}
    kept = {key: value for key, value in configs[0].items() if key in now}
    assert kept == {key: now[key] for key in kept} | {
        key: kept[key] for key in kept if key == "probabilities"}


def test_the_rate_of_an_arm_is_the_one_that_validation_likes_best() -> None:
    setting = ARM["arms", "joint"]
    means = {}
    for rate in train.RATES:
        record = find_record("arms", replace(setting, encoder_lr=rate).name)
        scores = record["validation"].values()
        means[rate] = np.mean([row["macro_f1"] for row in scores])
    assert studies.tuned_rate(setting) == max(means, key=means.get)


def test_the_joint_arm_is_also_run_at_the_rate_of_the_single_tasks() -> None:
    rates = {name: {record["config"]["encoder_lr"] for record in analysis.runs("arms", name)}
             for name in ("genre", "sentiment", "alternating", "joint", "joint-single-rate")}
    assert rates.pop("joint") == {3e-4}
    assert list(rates.values()) == [{1e-4}] * 4

    both = [[np.mean([row["macro_f1"] for row in record["validation"].values()])
             for record in analysis.runs("arms", name)] for name in ("joint", "joint-single-rate")]
    error = np.hypot(*(np.std(scores, ddof=1) / len(scores) ** 0.5 for scores in both))
    assert abs(np.mean(both[0]) - np.mean(both[1])) < error  # why one rate does for the headline


def test_arms_of_a_comparison_have_equal_passes_or_equal_labels() -> None:
    joint, alternating = (analysis.runs("arms", name)[0] for name in ("joint", "alternating"))
    genre, sentiment = (analysis.runs("arms", name)[0] for name in ("genre", "sentiment"))
    assert {run["passes"] for run in (joint, alternating, genre, sentiment)} == {train.PASSES}
    assert joint["labels"] == {**genre["labels"], **sentiment["labels"]}
    assert set(alternating["labels"].values()) <= {train.PASSES // 2 - 16, train.PASSES // 2,
                                                   train.PASSES // 2 + 16}


def test_a_score_is_the_mean_over_seeds_inside_its_interval() -> None:
    records = analysis.runs("arms", "joint")
    found = analysis.score("arms", "joint", "sentiment")
    values = [record["test"]["sentiment"]["macro_f1"] for record in records]
    assert abs(found.value - np.mean(values)) < 1e-4 and found.seeds == len(values)
    assert 0.01 < found.margin < 0.05


def test_an_arm_gains_nothing_over_itself() -> None:
    found = analysis.gain("sentiment", ("arms", "joint"), ("arms", "joint"))
    assert found.value == 0 and found.margin > 0  # two sets of seeds of it would differ
    there = analysis.gain("sentiment", ("arms", "sentiment"), ("arms", "joint"))
    back = analysis.gain("sentiment", ("arms", "joint"), ("arms", "sentiment"))
    assert abs(there.value + back.value) < 1e-12 and abs(there.margin - back.margin) < 1e-12


def test_runs_of_a_seed_are_compared_where_each_seed_has_other_sentences() -> None:
    arm = "labels", "encoder-50"
    assert analysis.gain("genre", arm, arm, by_seed=True).margin == 0 < analysis.gain(
        "genre", arm, arm).margin
    drawn = [[train.training_data(replace(ARM["labels", f"{policy}-50"], seed=seed)).sentences
              for policy in ("encoder", "lp-ft", "full")] for seed in range(3)]
    assert all(len(rows[0]) == 50 and rows == [rows[0]] * 3 for rows in drawn)
    assert len({tuple(rows[0]) for rows in drawn}) == 3


@pytest.mark.parametrize("arm", RECORDED, ids="/".join)
def test_runs_are_in_bfloat16(arm) -> None:
    assert {record["config"]["dtype"] for record in analysis.runs(*arm)} == {"bfloat16"}


def test_what_task_3_says_of_its_runs() -> None:
    def processors(study: str) -> set[str]:
        return {record["environment"]["processor"] for other, name in RECORDED if other == study
                for record in analysis.runs(other, name)}

    nothing = {run["environment"]["processor"] for run in analysis.runs("arms", "joint")}
    assert len(nothing) == 1 and not nothing & processors("freezing")
    steps = {"encoder": [2500], "lp-ft": [2500, 375], "full": [375]}
    for study, name in RECORDED:
        if study in ("labels", "domain"):
            found, policy = analysis.runs(study, name), ARM[study, name].policy
            assert len(found) == 3
            assert all([stage["steps"] for stage in run["stages"]] == steps[policy]
                       for run in found)
            assert policy == "encoder" or {run["config"]["encoder_lr"] for run in found} == {1e-4}
    assert ("labels", "full-1000") in RECORDED and ("domain", "full-tweet") in RECORDED


@pytest.mark.parametrize("text", ["3", "0/2", "3/2", "a/b", "-1/2", ""])
def test_a_part_that_is_none_is_refused(text) -> None:
    assert studies.part_of("2/3") == (2, 3)
    with pytest.raises(argparse.ArgumentTypeError, match="I/N with I from 1 to N"):
        studies.part_of(text)


def test_a_gain_is_written_with_its_sign() -> None:
    assert f"{analysis.Estimate(0.25, 0.1, 3):+}" == "+0.250 ± 0.100"
    assert f"{analysis.Estimate(0.25, 0.1, 3)}" == "0.250 ± 0.100"


def test_tables_have_a_cell_for_each_column() -> None:
    for table in (tables.arms(), tables.gains(), tables.headline(), tables.weighting(),
                  tables.scarce(), tables.valence(), tables.training_speed().split("\n\n")[0]):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_the_scarce_task_keeps_the_labels_it_should_have() -> None:
    both = train.training_data(ARM["scarce", "genre-sentiment-200"])
    alone = train.training_data(ARM["scarce", "sentiment-200"])
    known = has_label(torch.from_numpy(both.labels["sentiment"])).numpy()
    assert known.sum() == len(alone) == 200 and len(both) == train.SENTENCES
    assert both.select(known).sentences == alone.sentences
    assert (both.labels["genre"] >= 0).all()


def test_probabilities_survive_as_digits() -> None:
    given = np.random.default_rng(0).dirichlet([0.3, 0.3, 0.3], 500)
    found = train.from_digits(train.digits(given), 3)
    assert np.abs(found - given).max() < 0.002
    assert (found.argmax(axis=1) == given.argmax(axis=1)).mean() > 0.99
    assert np.allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("name", gradients.AGGREGATORS)
@pytest.mark.parametrize("conflict", [False, True])
def test_combined_gradients(name: str, conflict: bool) -> None:
    torch.manual_seed(0)
    model = SimpleNamespace(encoder=nn.Linear(4, 3), heads={"a": nn.Linear(3, 1),
                                                            "b": nn.Linear(3, 1)})
    inputs = torch.randn(5, 4)

    def losses() -> dict[str, torch.Tensor]:
        embeddings = model.encoder(inputs)
        first, again = (model.heads["a"](embeddings).mean() for _ in range(2))
        other = 0.1 * model.heads["b"](embeddings).mean()
        return {"a": first, "b": (other - 0.5 * again) if conflict else 2 * again}

    shared = list(model.encoder.parameters())
    rows = [torch.cat([g.flatten() for g in
                       torch.autograd.grad(loss, shared, retain_graph=True)])
            for loss in losses().values()]
    fill = gradients.backward(model, name)
    fill(losses())
    found = torch.cat([p.grad.flatten() for p in shared])
    if not conflict:
        assert torch.allclose(found, rows[0] + rows[1], atol=1e-5)
    else:  # of two conflicting gradients, each loses its part against the other
        a, b = rows
        assert a @ b < 0
        expected = a - (a @ b) / (b @ b) * b + b - (a @ b) / (a @ a) * a
        assert torch.allclose(found, expected, atol=1e-3)  # UPGrad adds a little to the Gramian
        assert min(found @ a, found @ b) > -1e-3


def test_an_unknown_aggregator_is_named() -> None:
    with pytest.raises(ValueError, match="PCGrad, UPGrad, got 'MGDA'"):
        gradients.backward(SimpleNamespace(), "MGDA")


@pytest.mark.slow
@pytest.mark.parametrize("task", train.LABELS)
def test_a_recorded_run_can_be_made_again(task) -> None:
    arm = "arms", f"{task}-equal-labels"
    recorded = analysis.runs(*arm)[0]
    fresh = train.run(replace(ARM[arm], encoder_lr=recorded["config"]["encoder_lr"]))
    assert fresh["labels"] == recorded["labels"] and fresh["passes"] == recorded["passes"]
    for metric in ("accuracy", "macro_f1"):
        there, here = (run["test"][task][metric] for run in (recorded, fresh))
        assert abs(there - here) < 0.02
