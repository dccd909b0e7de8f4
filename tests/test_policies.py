"""Policies of the freezing study, the features that they move, and the study of drift."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_process import make_data, make_model, weights

from experiments import drift, policies, studies, train
from mtl_helpers.data import assert_no_leakage, overlap
from mtl_helpers.freezing import freeze
from mtl_helpers.model import MultiTaskModel

ARMS = [setting for setting, *_ in studies.ARMS]


@pytest.mark.parametrize("policy", policies.POLICIES)
def test_each_policy_trains_the_encoder_equally_long(policy) -> None:
    setting = train.Setting("x", "x", policy=policy)
    tuned = [config.max_steps for parts, config in train.stages(setting) if parts != ("encoder",)]
    steps = 0 if policy in ("everything", "encoder") else train.PASSES // 32
    assert steps <= sum(tuned) < steps + max(1, len(tuned))
    seeds = [config.seed for _, config in train.stages(replace(setting, seed=3))]
    assert seeds[:1] in ([], [3]) and len(set(seeds)) == len(seeds)


def test_policies_freeze_what_their_names_say() -> None:
    assert [parts for parts, _ in policies.POLICIES["gradual"]] == [
        ("encoder",), ("layers:5",), ("layers:4",), ("layers:3",), ("layers:2",), ("layers:1",), ()]
    assert [parts for parts, _ in policies.POLICIES["genre-head-trained"]] == [
        ("encoder",), ("head:genre",)]
    factors = [train.stages(train.Setting("x", "x", policy=f"decay-{name}"))[0][1].layer_decay
               for name in ("0.9", "0.8", "2.6")]
    assert factors == [0.9, 0.8, pytest.approx(0.385, abs=1e-3)]
    with pytest.raises(ValueError, match="policy must be one of full, everything, encoder"):
        policies.policy_stages("frozen", 100, 10)


def test_the_rate_of_a_frozen_encoder_is_that_of_its_heads() -> None:
    for rate in train.RATES:
        (_, config), = train.stages(train.Setting("x", "x", policy="encoder", encoder_lr=rate))
        assert config.head_lr == pytest.approx(100 * rate)
        for _, config in train.stages(train.Setting("x", "x", policy="lp-ft", encoder_lr=rate)):
            assert (config.encoder_lr, config.head_lr) == (rate, 1e-2)


def test_each_seed_draws_its_own_few_of_the_fixed_sentences() -> None:
    whole = set(train.training_data(train.Setting("x", "x")).sentences)
    drawn = [train.training_data(train.Setting("x", "x", sentences=count, seed=seed)).sentences
             for seed in (0, 1) for count in (50, 200, 1000)]
    assert all(set(sentences) <= whole for sentences in drawn)
    assert [len(sentences) for sentences in drawn] == 2 * [50, 200, 1000]
    assert set(drawn[0]) <= set(drawn[1]) <= set(drawn[2])
    assert len(set(drawn[0]) & set(drawn[3])) < 10
    fixed = train.training_data(train.Setting("x", "x", seed=1)).sentences
    assert fixed == train.training_data(train.Setting("x", "x")).sentences


@pytest.mark.parametrize("genre", studies.GENRES)
def test_a_genre_that_is_held_out_has_no_training_sentence(genre) -> None:
    setting = next(s for s in ARMS if (s.study, s.held_out, s.policy) == ("domain", genre, "full"))
    data, test = train.training_data(setting), train.splits()[2]
    assert len(data) == train.SENTENCES and list(data.labels) == ["sentiment"]
    own = test.select(test.labels["genre"] == studies.GENRES.index(genre))
    assert_no_leakage(data, own)
    corpus = train.splits()[0]
    kinds = dict(zip(corpus.sentences, corpus.labels["genre"], strict=True))
    assert studies.GENRES.index(genre) not in {kinds[sentence] for sentence in data.sentences}


# How far features move


def test_features_are_means_over_tokens_that_are_no_padding() -> None:
    encoder = make_model().encoder
    sentences = ["a film", "the senator was not very good", "saw"]
    together = policies.layer_features(encoder, sentences)
    assert [found.shape for found in together] == [(3, 16)] * 3  # the embeddings and two layers
    for i, sentence in enumerate(sentences):
        for first, second in zip(together, policies.layer_features(encoder, [sentence]),
                                 strict=True):
            np.testing.assert_allclose(first[i], second[0], atol=1e-5)


def test_cka_is_one_for_the_same_features_turned_and_small_for_others() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(500, 384))
    turned = 3 * first @ np.linalg.qr(rng.normal(size=(384, 384)))[0] + 1
    assert policies.linear_cka(first, turned) == pytest.approx(1)
    assert abs(policies.linear_cka(first, rng.normal(size=(500, 384)))) < 0.02
    half = np.concatenate([first[:, :192], rng.normal(size=(500, 192))], axis=1)
    assert 0.45 < policies.linear_cka(first, half) < 0.55


def test_features_are_compared_on_sentences_of_every_genre(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(train, "pretrained_features", lambda _, given: seen.append(given))
    monkeypatch.setattr(train, "layer_features", lambda *_: [])
    with pytest.raises(TypeError):
        train.moved(make_model())
    test = train.splits()[2]
    kinds = dict(zip(test.sentences, test.labels["genre"], strict=True))
    found = [kinds[sentence] for sentence in seen[0]]
    assert len(found) == 500 and set(found) == {0, 1, 2, 3}


# Drift


def drifted(remedy: str, frozen: str = "genre", **settings):
    """A tiny model trained on by a remedy: before, after, and the record."""
    given = make_model()
    model = MultiTaskModel(given.encoder, {task: given.heads[task] for task in train.LABELS})
    tasks = ("genre", "sentiment") if remedy == "replay" else ("sentiment",)
    data = train.with_tasks(make_data(), tasks)
    scored = train.with_tasks(make_data(20, seed=1), tuple(train.LABELS))
    before = weights(model)
    record = drift.train_on(drift.DriftSetting(remedy, frozen, 0), model, data, scored,
                            **{"max_steps": 10, "validate_every": 2, "dtype": "float32"} | settings)
    return before, weights(model), record


def test_with_a_frozen_encoder_the_frozen_head_says_the_same_to_the_last_bit() -> None:
    before, after, record = drifted("encoder")
    assert record["before"]["genre"] == record["after"]["genre"]
    assert record["before"]["sentiment"]["sha256"] != record["after"]["sentiment"]["sha256"]
    assert len({row["genre"] for row in record["macro_f1"]}) == 1
    assert [row["step"] for row in record["macro_f1"]] == [0, 2, 4, 6, 8, 10]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith("heads.sentiment.") for name in moved)


@pytest.mark.parametrize("remedy", [name for name in drift.REMEDIES if name != "encoder"])
def test_without_that_the_encoder_moves_below_a_head_that_stays(remedy) -> None:
    before, after, record = drifted(remedy)
    assert record["before"]["genre"]["sha256"] != record["after"]["genre"]["sha256"]
    for name in before:
        if name.startswith("heads.genre."):
            assert torch.equal(before[name], after[name]), name
    assert ("genre" in record["labels"]) == (remedy == "replay")


def test_a_smaller_rate_moves_the_encoder_less() -> None:
    distances = {}
    for remedy in ("none", "small-rate"):
        before, after, _ = drifted(remedy)
        distances[remedy] = sum(float((after[name] - before[name]).norm()) for name in before
                                if name.startswith("encoder."))
    assert distances["small-rate"] < 0.2 * distances["none"]


def test_the_penalty_pulls_back_to_the_start() -> None:
    model = make_model()
    freeze(model, "head:genre", "embeddings")
    backward = drift.penalty(model, "genre")
    model.zero_grad()
    start = weights(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    loss = model.heads["sentiment"](torch.ones(1, 16)).sum()
    encoder_loss = sum(p.sum() for p in model.encoder.parameters() if p.requires_grad)
    backward({"sentiment": loss + encoder_loss})
    for name, parameter in model.named_parameters():
        if name.startswith("encoder.") and parameter.requires_grad:
            expected = 1 + drift.STRENGTH * (parameter.detach() - start[name])
            torch.testing.assert_close(parameter.grad, expected)


def test_distillation_adds_nothing_until_the_head_says_otherwise() -> None:
    model = make_model(dropout=0.0)
    plain = copy.deepcopy(model)
    backward = drift.distillation(model, "genre")
    ids, mask = model.encoder.collate(model.encoder.tokenize(["a film", "saw it"]))
    gradients = []
    for one, pull in ((model, backward), (plain, lambda losses: losses["sentiment"].backward())):
        one.train()
        pull({"sentiment": one(ids, mask)["sentiment"].logsumexp(dim=-1).mean()})
        gradients.append({name: parameter.grad for name, parameter
                          in one.encoder.named_parameters() if parameter.grad is not None})
    for name, value in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], value, atol=1e-6, rtol=1e-4)
    with torch.no_grad():
        model.heads["genre"].network[-1].bias[0] += 1
    model.zero_grad()
    backward({"sentiment": model(ids, mask)["sentiment"].logsumexp(dim=-1).mean()})
    changes = [(parameter.grad - gradients[1][name]).abs().max().item() for name, parameter
               in model.encoder.named_parameters() if parameter.grad is not None]
    assert max(changes) > 1e-3
    bias = model.heads["genre"].network[-1].bias.grad
    assert bias[0] > 1e-3 > bias[1], "it would go back to what it said"


@pytest.mark.parametrize("frozen", train.LABELS)
def test_the_task_that_trains_on_gets_sentences_that_are_new(frozen) -> None:
    setting = drift.DriftSetting("none", frozen, 0)
    data, known = drift.new_sentences(setting), train.training_data(train.Setting("x", "x"))
    assert list(data.labels) == [setting.trained] and len(data) == train.SENTENCES
    assert_no_leakage(data, train.splits()[2])
    assert overlap(data, known) == 0


def test_replay_adds_the_old_task_to_a_tenth_of_what_is_met() -> None:
    data = drift.new_sentences(drift.DriftSetting("replay", "genre", 0))
    known = {task: int((ids != -100).sum()) for task, ids in data.labels.items()}
    assert known["sentiment"] == train.SENTENCES
    assert known["genre"] / sum(known.values()) == pytest.approx(drift.REPLAYED, abs=1e-3)
    assert not ((data.labels["genre"] != -100) & (data.labels["sentiment"] != -100)).any()


def test_two_processes_do_not_begin_with_the_same_seed() -> None:
    seeds = [setting.seed for setting in drift.jobs()]
    assert len(seeds) == 54 and seeds[:7] == [0, 1, 2, 3, 4, 5, 0]
    assert len({setting.name for setting in drift.jobs()}) == 54
