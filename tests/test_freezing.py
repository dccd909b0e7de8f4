"""Freezing: what is frozen stays and sleeps, what is trained has one rate; training in stages."""

import hashlib

import pytest
import torch
from training_process import make_config, make_data, make_model, weights

from mtl_helpers import training
from mtl_helpers.freezing import freeze, parameter_groups, trainable_table, unfreeze
from mtl_helpers.run import Run
from mtl_helpers.training import fit, fit_stages

PARTS = {
    ("encoder",): "encoder.", ("head:genre",): "heads.genre.",
    ("embeddings",): "encoder.backbone.embeddings.",
    ("layers:1", "head:sentiment"): ("encoder.backbone.embeddings.", "encoder.backbone.encoder."
                                     "layer.0.", "encoder.backbone.encoder.relative_attention_bias",
                                     "heads.sentiment.")}


def digests(model):
    return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest()
            for name, value in weights(model).items()}


@pytest.mark.parametrize("parts", PARTS, ids="+".join)
@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_ten_steps_leave_what_is_frozen_as_it_was_to_the_bit(kind, parts):
    model = make_model(kind)
    freeze(model, *parts)
    before = digests(model)
    history = fit(model, make_data(), config=make_config(weight_decay=0.5, max_steps=10))
    assert len(history.steps) == 10
    after = digests(model)
    for name in before:
        rests = name.startswith(PARTS[parts]) or "pooler" in name or "unused" in name
        assert (before[name] == after[name]) == rests, name


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_train_mode_does_not_wake_the_dropout_of_what_is_frozen(kind):
    model = make_model(kind, dropout=0.5)
    ids, mask = model.encoder.collate(model.encoder.tokenize(make_data().sentences))
    expected = model.encoder(ids, mask)
    logits = model.heads["sentiment"](expected)
    freeze(model, "encoder", "head:sentiment")
    model.train()
    assert torch.equal(model.encoder(ids, mask), expected)
    outputs = model(ids, mask)
    assert torch.equal(outputs["sentiment"], logits)
    assert not torch.equal(outputs["genre"], model(ids, mask)["genre"]), "this one is awake"
    unfreeze(model, "encoder")
    assert not torch.equal(model.encoder(ids, mask), expected)


def test_every_trainable_parameter_is_in_one_group_and_only_matrices_decay():
    for kind in ("bert", "mpnet"):
        model = make_model(kind)
        freeze(model, "layers:1", "head:genre")
        groups = parameter_groups(model, 1e-3, 1e-2, weight_decay=0.1)
        listed = [id(parameter) for group in groups for parameter in group["params"]]
        trainable = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
        assert sorted(listed) == sorted(trainable)
        for group in groups:
            for parameter in group["params"]:
                name = trainable[id(parameter)]
                plain = name.endswith("bias") or "LayerNorm" in name
                assert group["weight_decay"] == (0 if plain else 0.1), name
                assert group["lr"] == (1e-2 if name.startswith("heads.") else 1e-3), name


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_layer_decay_lowers_the_rate_from_layer_to_layer(kind):
    model = make_model(kind)
    groups = parameter_groups(model, 1e-3, 1e-2, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            expected = (1e-2 if name.startswith("heads.") else 1e-3 if ".layer.1." in name
                        else 5e-4 if ".layer.0." in name else 2.5e-4)
            assert rates[id(parameter)] == pytest.approx(expected), name


def test_frozen_parts_stay_and_rest_in_eval_mode(monkeypatch):
    model = make_model()
    before = weights(model)
    freeze(model, "layers:1", "head:genre")
    modes = []
    monkeypatch.setattr(Run, "check_finite", lambda run, norm: modes.append(
        {name: module.training for name, module in run.model.named_modules()}))
    fit(model, make_data(), config=make_config(weight_decay=0.5))
    after = weights(model)
    for name in before:
        frozen = ("embeddings." in name or ".layer.0." in name or "pooler" in name
                  or name.startswith(("heads.genre", "heads.unused")))
        assert torch.equal(before[name], after[name]) == frozen, name
    for name, awake in modes[-1].items():
        if name.endswith("dropout") or "heads" in name and name.endswith(".1"):
            rests = "embeddings" in name or "layer.0" in name or "heads.genre" in name
            assert awake == (not rests), name
    assert not any(module.training for module in model.modules())
    (layer,) = [line for line in trainable_table(model).splitlines() if "layer 1" in line]
    assert layer.endswith(" | 0 |")


def test_freeze_and_unfreeze_by_name():
    model = make_model()
    freeze(model, "all")
    assert not any(parameter.requires_grad for parameter in model.parameters())
    unfreeze(model, "encoder")
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable and all(name.startswith("encoder.") for name in trainable)
    assert not any("pooler" in name for name in trainable)
    freeze(model, "embeddings")
    unfreeze(model, "head:genre")
    lines = trainable_table(model).splitlines()
    counts = {line.split(" | ")[0][2:]: line.split(" | ")[2].rstrip(" |") for line in lines[2:]}
    assert counts["embeddings"] == counts["head:valence"] == "0" != counts["head:genre"]
    assert counts["all"].replace(",", "") == str(
        sum(p.numel() for p in model.parameters() if p.requires_grad))
    for part in ("layers:3", "layers:-1", "layers:", "head:colour", "body", ""):
        with pytest.raises(ValueError, match="part must be one of all, encoder, .*K from 0 to 2"):
            freeze(model, "encoder", part)
    assert model.heads["genre"].network[1].weight.requires_grad, "nothing half done"


@pytest.mark.parametrize("part", ["layers:3", "layers:one", "head:colour", "backbone"])
def test_what_no_model_has_is_refused_and_the_parts_are_named(part):
    with pytest.raises(ValueError, match="all, encoder, embeddings, layers:K .* TASK one of genre"):
        fit_stages(make_model(), make_data(), None, [([part], make_config())])


# Stages


def test_a_probe_is_followed_by_tuning_and_computes_what_is_frozen_once(monkeypatch):
    model, made = make_model(), []
    kept = training.FrozenCache
    monkeypatch.setattr(training, "FrozenCache",
                        lambda *args: made.append(kept(*args)) or made[-1])
    before = weights(model)
    probe, tuning = make_config(epochs=3), make_config(epochs=1, seed=1)
    first, second = fit_stages(model, make_data(), make_data(9), [
        (["encoder"], probe), ([], tuning)])
    assert [cache.depth for cache in made] == ["encoder"]
    assert (len(first.steps), len(second.steps)) == (15, 5)

    alone = make_model()
    freeze(alone, "encoder")
    history = fit(alone, make_data(), config=probe)
    assert [row["loss"] for row in history.steps] == [
        pytest.approx(row["loss"], abs=1e-5) for row in first.steps]
    unfreeze(alone, "all")
    fit(alone, make_data(), config=tuning)
    for name, value in weights(alone).items():
        assert (value - weights(model)[name]).abs().max() < 1e-3, name
        rests = "pooler" in name or "unused" in name
        assert torch.equal(value, before[name]) == rests, name


@pytest.mark.parametrize("kind", ["roberta", "distilbert"])
def test_other_backbones_are_trained_with_a_rate_for_each_layer(kind):
    model = make_model(kind)
    groups = parameter_groups(model, 1e-4, 1e-2, layer_decay=0.5)
    assert sorted({group["lr"] for group in groups}) == [2.5e-5, 5e-5, 1e-4, 1e-2]
    before = weights(model)
    config = make_config(max_steps=2)
    fit_stages(model, make_data(), None, [(["embeddings"], config), ([], config)])
    assert all(not torch.equal(value, before[name]) for name, value in weights(model).items()
               if ".layer.0." in name and not name.endswith("key.bias"))


def test_the_layers_of_a_head_are_not_those_of_the_encoder():
    model = make_model()
    model.heads["genre"].layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(9))
    rates = {group["lr"] for group in parameter_groups(model, 1e-4, 1e-2, layer_decay=0.5)}
    assert rates == {2.5e-5, 5e-5, 1e-4, 1e-2}


def test_a_decay_without_layers_is_refused():
    model = make_model()
    model.encoder.backbone.encoder = torch.nn.Linear(16, 16)
    with pytest.raises(ValueError, match="layer_decay is 0.5, and the backbone has no numbered"):
        parameter_groups(model, 1e-4, 1e-2, layer_decay=0.5)


def test_layers_thaw_one_after_the_other():
    model = make_model()
    seen = [weights(model)]
    config = make_config(epochs=1)
    for parts in ("layers:2", "layers:1", "layers:0"):
        fit_stages(model, make_data(), None, [([parts], config)])
        seen.append(weights(model))
    fit_stages(model, make_data(), None, [([], config)])
    seen.append(weights(model))
    moved = [{name for name in first if not torch.equal(first[name], second[name])}
             for first, second in zip(seen, seen[1:], strict=False)]
    layers = [sorted({name.split(".layer.")[1][0] for name in names if ".layer." in name})
              for names in moved]
    assert layers == [[], ["1"], ["0", "1"], ["0", "1"]]
    embedded = [any("embeddings" in name for name in names) for names in moved]
    assert embedded == [False, False, False, True]


def test_a_stage_that_meets_no_sentence_twice_keeps_none(monkeypatch):
    monkeypatch.setattr(training, "FrozenCache", None)
    fit_stages(make_model(), make_data(), None, [(["encoder"], make_config(epochs=1)),
                                                 (["layers:1"], make_config(max_steps=2))])
