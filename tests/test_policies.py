"""Policies of the freezing study, the features that they move, and the study of drift."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import make_config, make_data, make_model, weights

from experiments import drift, keepers, policies, studies, train
from experiments.records import read_records
from mtl_helpers.data import assert_no_leakage
from mtl_helpers.freezing import FrozenCache, freeze, unfreeze
from mtl_helpers.model import MultiTaskModel
from mtl_helpers.training import fit

PLAIN = train.Setting("x", "x")


def test_policies_train_the_encoder_equally_long_at_the_rates_that_are_theirs():
    for policy in policies.POLICIES:
        setting = replace(PLAIN, policy=policy, seed=3)
        plan = train.stages(setting)
        tuned = [config.max_steps for parts, config in plan if parts != ("encoder",)]
        steps = 0 if policy in ("everything", "encoder") else train.PASSES // 32
        assert steps <= sum(tuned) < steps + max(1, len(tuned)), policy
        seeds = [config.seed for _, config in plan]
        assert seeds[:1] in ([], [3]) and len(set(seeds)) == len(seeds), policy
    assert [parts for parts, _ in policies.POLICIES["gradual"]] == [
        ("encoder",), ("layers:5",), ("layers:4",), ("layers:3",), ("layers:2",), ("layers:1",), ()]
    factors = [train.stages(replace(PLAIN, policy=f"decay-{name}"))[0][1].layer_decay
               for name in ("0.9", "0.8", "2.6")]
    assert factors == [0.9, 0.8, pytest.approx(0.385, abs=1e-3)]
    for rate in train.RATES:
        (_, config), = train.stages(replace(PLAIN, policy="encoder", encoder_lr=rate))
        assert config.head_lr == pytest.approx(100 * rate)
        for _, config in train.stages(replace(PLAIN, policy="lp-ft", encoder_lr=rate)):
            assert (config.encoder_lr, config.head_lr) == (rate, 1e-2)


def test_each_seed_draws_its_own_few_of_the_fixed_sentences():
    fixed = train.training_data(PLAIN).sentences
    drawn = [train.training_data(replace(PLAIN, sentences=count, seed=seed)).sentences
             for seed in (0, 1) for count in (50, 200, 1000)]
    assert [len(sentences) for sentences in drawn] == 2 * [50, 200, 1000]
    assert set(drawn[0]) <= set(drawn[1]) <= set(drawn[2]) <= set(fixed) >= set(drawn[5])
    assert len(set(drawn[0]) & set(drawn[3])) < 10
    assert train.training_data(replace(PLAIN, seed=1)).sentences == fixed
    few = replace(PLAIN, sentences=50, policy="lp-ft")
    assert train.training_data(few).sentences == drawn[0]


def test_a_genre_that_is_held_out_has_no_training_sentence():
    corpus, _, test = train.splits()
    kinds = dict(zip(corpus.sentences, corpus.labels["genre"], strict=True))
    for i, genre in enumerate(studies.GENRES):
        setting = next(setting for setting, *_ in studies.ARMS
                       if (setting.held_out, setting.policy) == (genre, "full"))
        data = train.training_data(setting)
        assert len(data) == train.SENTENCES and list(data.labels) == ["sentiment"]
        assert_no_leakage(data, test.select(test.labels["genre"] == i))
        assert i not in {kinds[sentence] for sentence in data.sentences}


def test_features_are_means_over_tokens_that_are_no_padding():
    encoder, sentences = make_model().encoder, ["a film", "the senator was not very good", "saw"]
    together = np.array(policies.layer_features(encoder, sentences))
    assert together.shape == (3, 3, 16)  # the embeddings and two layers
    alone = [policies.layer_features(encoder, [sentence]) for sentence in sentences]
    np.testing.assert_allclose(together, np.concatenate(alone, axis=1), atol=1e-5)


def test_cka_is_one_for_the_same_features_turned_and_small_for_others():
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(2, 500, 384))
    turned = 3 * first @ np.linalg.qr(rng.normal(size=(384, 384)))[0] + 1
    assert policies.linear_cka(first, turned) == pytest.approx(1)
    assert abs(policies.linear_cka(first, other)) < 0.02
    half = np.concatenate([first[:, :192], other[:, 192:]], axis=1)
    assert 0.45 < policies.linear_cka(first, half) < 0.55


def test_features_are_compared_on_sentences_of_every_genre(monkeypatch):
    monkeypatch.setattr(train, "pretrained_features", lambda _, sentences: [sentences])
    monkeypatch.setattr(train, "layer_features", lambda _, sentences: [sentences])
    monkeypatch.setattr(train, "linear_cka", lambda *given: seen.extend(given) or 1)
    seen, test = [], train.splits()[2]
    assert train.moved(make_model()) == [1]
    kinds = dict(zip(test.sentences, test.labels["genre"], strict=True))
    assert len(seen[0]) == 500 and {kinds[sentence] for sentence in seen[0]} == {0, 1, 2, 3}
    assert list(seen[0]) == list(seen[1])


def test_a_head_stays_where_it_was_and_the_encoder_below_it_only_where_it_is_frozen_too():
    distances = {}
    scored = train.with_tasks(make_data(20, seed=1), tuple(train.LABELS))
    for remedy in drift.REMEDIES:
        tasks = ("genre", "sentiment") if remedy == "replay" else ("sentiment",)
        model = make_model()
        model = MultiTaskModel(model.encoder, {task: model.heads[task] for task in train.LABELS})
        before, data = weights(model), train.with_tasks(make_data(), tasks)
        record = drift.train_on(drift.DriftSetting(remedy, "genre", 0), model, data, scored,
                                max_steps=10, validate_every=2, dtype="float32")
        after = weights(model)
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved and not any(name.startswith("heads.genre.") for name in moved), remedy
        assert [row["step"] for row in record["macro_f1"]] == [0, 2, 4, 6, 8, 10]
        still = record["before"]["genre"] == record["after"]["genre"]
        assert still == (remedy == "encoder"), remedy  # to the last bit
        assert record["before"]["sentiment"]["sha256"] != record["after"]["sentiment"]["sha256"]
        assert ("genre" in record["labels"]) == (remedy == "replay")
        distances[remedy] = sum(float((after[name] - before[name]).norm()) for name in before
                                if name.startswith("encoder."))
    assert distances["encoder"] == 0 < distances["small-rate"] < 0.2 * distances["none"]


def test_the_penalty_pulls_back_to_the_start():
    model = make_model()
    freeze(model, "head:genre", "embeddings")
    backward, start = keepers.l2_sp(model, 0.1), weights(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    encoder_loss = sum(p.sum() for p in model.encoder.parameters() if p.requires_grad)
    backward({"sentiment": model.heads["sentiment"](torch.ones(1, 16)).sum() + encoder_loss})
    for name, parameter in model.named_parameters():
        if name.startswith("encoder.") and parameter.requires_grad:
            expected = 1 + 0.1 * (parameter.detach() - start[name])
            torch.testing.assert_close(parameter.grad, expected)


def test_distillation_adds_the_cross_entropy_to_what_the_head_said_before():
    model = make_model(dropout=0.0).train()
    batch = model.encoder.collate(model.encoder.tokenize(["a film", "saw it"]))
    said, plain = model(*batch)["genre"].softmax(dim=-1).detach(), copy.deepcopy(model)
    backward = drift.distillation(model, "genre")
    with torch.no_grad():
        for one in (model, plain):
            one.heads["genre"].network[-1].bias[0] += 1
    backward({"sentiment": model(*batch)["sentiment"].logsumexp(dim=-1).mean()})
    logits = plain(*batch)
    loss = logits["sentiment"].logsumexp(dim=-1).mean()
    (loss + torch.nn.functional.cross_entropy(logits["genre"], said)).backward()
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(found.grad, expected.grad, atol=1e-6, rtol=1e-4)


def test_the_task_that_trains_on_gets_new_sentences_and_replay_a_tenth_of_the_old():
    known = train.training_data(PLAIN)
    for frozen in train.LABELS:
        setting = drift.DriftSetting("none", frozen, 0)
        data = drift.new_sentences(setting)
        assert list(data.labels) == [setting.trained] and len(data) == train.SENTENCES
        assert not set(data.sentences) & {*known.sentences, *train.splits()[2].sentences}
    replayed = drift.new_sentences(drift.DriftSetting("replay", "genre", 0))
    old, new = (replayed.labels[task] != -100 for task in ("genre", "sentiment"))
    assert new.sum() == train.SENTENCES and not (old & new).any()
    assert old.sum() / (old.sum() + new.sum()) == pytest.approx(drift.REPLAYED, abs=1e-3)


def test_the_recorded_runs_are_what_they_say():
    records, jobs, wrong, starts = read_records("drift"), list(drift.jobs()), [], {}
    assert len(jobs) == 60 and {setting.name for setting in jobs} == records.keys()
    assert [setting.seed for setting in jobs[:7]] == [0, 1, 2, 3, 4, 5, 0]
    assert studies.part_of("2/3") == (2, 3)
    for setting in jobs:
        record, frozen = records[setting.name], setting.frozen
        met, replayed = sum(record["labels"].values()), record["labels"].get(frozen, 0)
        share = drift.REPLAYED if setting.method == "replay" else 0
        steps = [row["step"] for row in record["macro_f1"]]
        right = (steps == [*range(0, drift.STEPS + 1, drift.EVERY)]
                 and met == pytest.approx(drift.STEPS * 32, rel=0.02)
                 and replayed / met == pytest.approx(share, abs=0.2 * share))
        # A frozen head says the same to the bit only on a frozen encoder.
        stays = record["before"][frozen] == record["after"][frozen]
        level = len({row[frozen] for row in record["macro_f1"]}) == 1
        if not right or not level == stays == (setting.remedy == "encoder"):
            wrong.append(setting.name)
        # As the table says, the start was trained anew for each of these.
        later = (setting.remedy in drift.FREE, setting.remedy == "similarity")
        for task, said in record["before"].items():
            starts.setdefault((setting.seed, task, later), set()).add(said["sha256"])
    assert not wrong and len(starts) == 24 and all(len(found) == 1 for found in starts.values())


def test_a_probe_is_followed_by_tuning_and_computes_what_is_frozen_once(monkeypatch):
    made, cached = [], policies.cached
    monkeypatch.setattr(policies, "cached",
                        lambda *given: made.append(cached(*given)) or made[-1])
    model, before = make_model(), weights(make_model())
    probe, tuning = make_config(epochs=3), make_config(epochs=1, seed=1)
    first, second = policies.fit_stages(model, make_data(), make_data(9), [
        (["encoder"], probe), ([], tuning)])
    assert [type(cache) for cache in made] == [FrozenCache]
    assert (len(first.steps), len(second.steps)) == (15, 5)
    alone = make_model()
    freeze(alone, "encoder")
    fit(alone, make_data(), config=probe)
    unfreeze(alone, "all")
    fit(alone, make_data(), config=tuning)
    for name, value in weights(alone).items():
        assert (value - weights(model)[name]).abs().max() < 1e-3, name
        rests = "pooler" in name or "unused" in name
        assert torch.equal(value, before[name]) == rests, name


def test_the_table_counts_the_parameters_of_each_part_and_the_trainable_ones():
    model = make_model("mpnet")
    freeze(model, "layers:1", "head:sentiment")
    rows = [line.strip("| ").split(" | ") for line in
            policies.trainable_table(model).splitlines()[2:]]
    counts = {name: tuple(int(number.replace(",", "")) for number in row) for name, *row in rows}
    assert list(counts)[:3] == ["embeddings", "layer 1", "layer 2"]
    assert counts["layer 1"][1] == counts["embeddings"][1] == counts["head:sentiment"][1] == 0
    assert counts["layer 2"][0] == counts["layer 2"][1] > 0
    total = (sum(p.numel() for p in model.parameters()),
             sum(p.numel() for p in model.parameters() if p.requires_grad))
    assert counts.pop("all") == total == tuple(map(sum, zip(*counts.values(), strict=True)))
