"""Freezing, rates and caches, in backbones of eight kinds: what is frozen stays and sleeps."""

import re

import numpy as np
import pytest
import torch
from tiny import KINDS, make_config, make_data, make_model, same, weights

from experiments.layer_cache import LayerCache, frozen_layers
from mtl_helpers.data import LabelledSentences
from mtl_helpers.freezing import FrozenCache, freeze, parameter_groups, unfreeze
from mtl_helpers.model import MultiTaskModel
from mtl_helpers.training import fit

TRAIN = make_data()
PARTS = {  # parts: how the names of their parameters begin
    ("encoder",): "encoder.", ("head:genre",): "heads.genre.",
    ("embeddings",): "encoder.backbone.embeddings.",
    ("layers:1", "head:sentiment"): (
        "encoder.backbone.embeddings.", "encoder.backbone.encoder.layer.0.",
        "encoder.backbone.encoder.relative_attention_bias", "heads.sentiment.")}
LOWEST = re.compile(  # what "layers:1" names in every kind of backbone
    r"encoder\.backbone\.(embeddings|(encoder\.|transformer\.)?layers?\.0\."
    r"|encoder\.(LayerNorm|rel_embeddings|relative_attention_bias))")
TOP = re.compile(r"encoder\.backbone\.(.*\.)?(layers?\.1\.|final_norm)")


def frozen(*parts, kind="bert", **settings):
    model = make_model(kind, **settings)
    freeze(model, *parts)
    return model


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def train(model, cache=None, **settings):
    """The losses of each step."""
    return [row["loss"] for row in
            fit(model, TRAIN, config=make_config(**settings), cache=cache).steps]


@pytest.mark.parametrize("kind", KINDS)
def test_a_backbone_is_frozen_and_rated_layer_by_layer(kind):
    model = frozen("layers:1", kind=kind)
    ids, mask = model.encoder.collate(model.encoder.tokenize(TRAIN.sentences[:9]))
    sum(logits.sum() for logits in model(ids, mask).values()).backward()
    names = [name for name, _ in model.named_parameters() if "pooler" not in name]
    lowest = {name for name in names if LOWEST.match(name)}
    assert {name for name, p in model.named_parameters() if p.grad is not None} == (
        set(names) - lowest)
    freeze(model, "all")
    assert not trainable(model)
    unfreeze(model, "layers:1")
    assert trainable(model) == lowest
    unfreeze(model, "all")
    assert trainable(model) == set(names), "a pooler takes no part"

    groups = parameter_groups(model, 1e-3, 1e-2, weight_decay=0.1, layer_decay=0.5)
    listed = [(id(p), group) for group in groups for p in group["params"]]
    assert len(listed) == len(dict(listed)) == len(names), "each in one group"
    for name, parameter in model.named_parameters():
        if "pooler" not in name:
            group = dict(listed)[id(parameter)]
            assert group["lr"] == pytest.approx(
                1e-2 if name.startswith("heads.") else 1e-3 if TOP.match(name)
                else 5e-4 if ".0." in name else 2.5e-4), name
            plain = name.endswith("bias") or "norm" in name.lower()
            assert group["weight_decay"] == (0 if plain else 0.1), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_backbone_computes_alike_in_every_way_and_is_cached_trained_and_saved(kind, tmp_path):
    model = make_model(kind, dropout=0.0)
    encoder = model.encoder
    longest = max(TRAIN.sentences, key=len)
    expected = torch.from_numpy(encoder.encode(TRAIN.sentences))
    alone, row = encoder.collate(encoder.tokenize([longest])), TRAIN.sentences.index(longest)
    with torch.no_grad(), encoder.eager_attention(np.array([24])):
        for mask in (None, alone[1]):
            assert (encoder(alone[0], mask)[0] - expected[row]).abs().max() < 1e-6
    with torch.inference_mode():
        padded = encoder.collate(encoder.tokenize(TRAIN.sentences))
        packed = encoder._inference_copy(torch.float32, pack=True)(*padded)
    assert (packed - expected).abs().max() < 1e-6

    freeze(model, "encoder")
    cache = FrozenCache(model, TRAIN.sentences)
    assert (cache.values - expected).abs().max() < 1e-6
    unfreeze(model, "encoder")

    words = ["good", "bad"] * 4 + [f"the {'very ' * (i % 5)}{'good bad'.split()[i % 2]} film"
                                   for i in range(16)]  # 8 of one word: a batch without padding
    data = LabelledSentences(words, {"sentiment": [int("good" in text) for text in words]})
    padding = set()
    encoder.register_forward_pre_hook(lambda _, inputs: padding.add(inputs[1] is not None))
    history = fit(model, data, config=make_config(epochs=9, encoder_lr=5e-3))
    losses = history.losses("sentiment")[1]
    assert losses[-3:].mean() < 0.6 * losses[:3].mean() and padding == {True, False}
    model.save_pretrained(tmp_path / "model")
    again = MultiTaskModel.from_pretrained(tmp_path / "model").predict(TRAIN.sentences)
    for task, prediction in model.predict(TRAIN.sentences).items():
        assert np.array_equal(prediction.probabilities, again[task].probabilities), task


@pytest.mark.parametrize("kind", KINDS)
def test_train_mode_does_not_wake_the_dropout_of_what_is_frozen(kind):
    model = make_model(kind, dropout=0.5)
    ids, mask = model.encoder.collate(model.encoder.tokenize(TRAIN.sentences))
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


@pytest.mark.parametrize("parts", PARTS, ids="+".join)
@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_ten_steps_leave_what_is_frozen_as_it_was_to_the_bit(kind, parts):
    model = frozen(*parts, kind=kind)
    before = weights(model)
    assert len(train(model, weight_decay=0.5)) == 10
    for name, value in weights(model).items():
        rests = name.startswith(PARTS[parts]) or "pooler" in name or "unused" in name
        assert torch.equal(before[name], value) == rests, name
    assert not any(module.training for module in model.modules())


def test_parts_are_named_and_a_wrong_one_changes_nothing():
    model = frozen("all")
    unfreeze(model, "encoder")
    freeze(model, "layers:0")
    unfreeze(model, "head:genre")
    assert not any("embeddings" in name for name in trainable(model))
    assert {name.split(".")[1] for name in trainable(model)} == {"backbone", "genre"}
    for part in ("layers:3", "layers:-1", "layers:", "layers:one", "head:colour", "body", ""):
        with pytest.raises(ValueError, match="part must be one of all, encoder, .*K from 0 to 2"):
            freeze(model, "encoder", part)
    assert any("layer.0." in name for name in trainable(model))


def test_layers_of_a_head_do_not_count_and_no_layers_have_no_decay():
    model = make_model()
    model.heads["genre"].layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(9))
    rates = {group["lr"] for group in parameter_groups(model, 1e-4, 1e-2, layer_decay=0.5)}
    assert rates == {2.5e-5, 5e-5, 1e-4, 1e-2}
    model.encoder.backbone.encoder = torch.nn.Linear(16, 16)
    with pytest.raises(ValueError, match="layer_decay is 0.5, and the layers have no numbers"):
        parameter_groups(model, 1e-4, 1e-2, layer_decay=0.5)


@pytest.mark.parametrize(("made", "kind", "parts", "schedule"), [
    (FrozenCache, "bert", ["encoder", "head:unused"], "joint"),
    (FrozenCache, "mpnet", ["layers:2"], "alternating"),
    (FrozenCache, "modernbert", ["encoder"], "joint"),
    (LayerCache, "bert", ["layers:1"], "joint"),
    (LayerCache, "mpnet", ["layers:1", "head:genre"], "alternating"),
    (LayerCache, "roberta", ["layers:1"], "alternating")])
def test_losses_and_weights_are_those_without_a_cache(made, kind, parts, schedule):
    plain, cached = (frozen(*parts, kind=kind, dtype=torch.float64) for _ in range(2))
    before = weights(plain)
    first = train(plain, schedule=schedule)
    second = train(cached, made(cached, TRAIN.sentences), schedule=schedule)
    assert [*map(dict.keys, first)] == [*map(dict.keys, second)]
    for one, other in zip(first, second, strict=True):
        assert one == pytest.approx(other, abs=1e-9)
    after = weights(cached)
    for name, value in weights(plain).items():
        assert (value - after[name]).abs().max() < 1e-9, name
        assert name in trainable(cached) or torch.equal(before[name], after[name]), name
    assert not same(before, after)


def test_a_cache_gives_embeddings_and_lengths_in_the_order_of_the_sentences():
    model = frozen("encoder", dropout=0.5)
    model.train()
    cache = FrozenCache(model, TRAIN.sentences + TRAIN.sentences[:5])
    assert cache.values.shape == (len(set(TRAIN.sentences)), 16)
    some = TRAIN.sentences[20:2:-1] + TRAIN.sentences[9:12]
    inputs = cache.inputs(some)
    assert inputs.lengths.tolist() == [len(ids) for ids in model.encoder.tokenize(some)]
    rows = np.array([4, 0, 17, 4])
    found, mask = inputs.collate(rows, torch.device("cpu"))
    expected = model.encoder.encode([some[row] for row in rows])
    assert mask is None and np.abs(found.numpy() - expected).max() < 1e-6


STALE = {
    "a frozen weight": lambda model: model.encoder.backbone.embeddings.LayerNorm.bias.data.add_(
        1e-6),
    "the tokenizer": lambda model: model.encoder.tokenizer.add_tokens(["unheard"]),
    "the length": lambda model: setattr(model.encoder, "max_length", 5),
    "the pooling": lambda model: setattr(model.encoder, "pooling", "max"),
    "the normalisation": lambda model: setattr(model.encoder, "normalize", False),
    "a setting": lambda model: setattr(model.encoder.backbone.config, "layer_norm_eps", 1e-3),
    "a layer that trains": lambda model: unfreeze(model, "layers:1"),
    "the numbers": lambda model: model.to(torch.float64)}


@pytest.mark.parametrize("made", [FrozenCache, LayerCache])
@pytest.mark.parametrize("change", STALE.values(), ids=list(STALE))
def test_a_stale_cache_is_refused(change, made):
    model = frozen("encoder" if made is FrozenCache else "layers:1")
    cache = made(model, TRAIN.sentences)
    train(model, cache, max_steps=1)
    cache.check(model, None)  # what is above has changed
    with pytest.raises(ValueError, match="dtype .None, here torch.bfloat16.; make it anew"):
        cache.check(model, torch.bfloat16)
    change(model)
    changed = weights(model)
    with pytest.raises(ValueError, match="cache was made with other frozen weights"):
        train(model, cache)
    assert same(changed, weights(model))


@pytest.mark.parametrize("parts", ["encoder", "layers:1"])
def test_bfloat16_computes_what_is_frozen_and_heads_alone_keep_their_type(parts):
    losses, settings = [], {"dtype": "bfloat16", "batch_size": 6}
    made = FrozenCache if parts == "encoder" else LayerCache
    for kept in (False, True):
        model = frozen(parts, dropout=0.0)
        cache = made(model, TRAIN.sentences, torch.bfloat16) if kept else None
        losses.append([loss["genre"] for loss in train(model, cache, **settings)])
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert cache.autocast == (None if parts == "encoder" else torch.bfloat16)
    model = frozen(parts, dtype=torch.bfloat16)
    train(model, made(model, TRAIN.sentences, torch.bfloat16), **settings)


def test_a_cached_run_is_continued_and_one_with_another_encoder_is_not(tmp_path):
    settings = {"checkpoint_dir": str(tmp_path), "checkpoint_every": 2, "epochs": 3}
    model = frozen("encoder")
    cache = FrozenCache(model, TRAIN.sentences)
    train(model, cache, **settings)
    (tmp_path / "step-00000015" / "state.json").write_text("cut")
    again = frozen("encoder")
    train(again, cache, **settings)
    assert same(weights(model), weights(again))
    other = frozen("encoder", seed=1)
    with pytest.raises(ValueError, match="holds a run with another encoder"):
        train(other, FrozenCache(other, TRAIN.sentences), **settings)


def test_frozen_layers_are_counted_from_below_in_backbones_that_are_known():
    for kind in ("bert", "mpnet", "roberta"):
        counts = [frozen_layers(frozen(*parts, kind=kind)) for parts in (
            (), ("head:genre",), ("embeddings",), ("layers:1",), ("encoder",))]
        assert counts == [0, 0, 0, 1, 0], kind
    shared = frozen("layers:1", kind="mpnet")
    shared.encoder.backbone.encoder.relative_attention_bias.requires_grad_(True)
    gap = frozen("layers:2")
    gap.encoder.backbone.encoder.layer[0].requires_grad_(True)
    for model in (shared, gap, frozen("layers:1", kind="distilbert"), frozen("head:genre")):
        with pytest.raises(ValueError, match="model must have a frozen layer, of one of Bert"):
            LayerCache(model, TRAIN.sentences)


def test_hidden_states_have_no_padding_and_what_is_above_shares_its_parameters():
    model = frozen("layers:1")
    cache = LayerCache(model, TRAIN.sentences + TRAIN.sentences[:5])
    lengths = [len(ids) for ids in model.encoder.tokenize(list(cache.rows))]
    assert [state.shape for state in cache.states] == [(length, 16) for length in lengths]
    assert all(state.untyped_storage().nbytes() == state.nbytes for state in cache.states)
    own, top = dict(model.named_parameters()), cache.top(model)
    assert {id(p) for p in top.parameters()} < {id(p) for p in own.values()}
    assert len(model.encoder.backbone.encoder.layer) == 2, "the model itself stays whole"
