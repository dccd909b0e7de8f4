"""FrozenCache: the same training from what was kept, and a refusal of whatever went stale."""

import copy

import numpy as np
import pytest
import torch
from training_process import make_config, make_data, make_model, same, weights

from mtl_helpers.cache import FrozenCache
from mtl_helpers.data import LabelledSentences
from mtl_helpers.freezing import freeze, frozen_depth, unfreeze
from mtl_helpers.training import fit

TRAIN = make_data()
POLICIES = [("encoder",), ("embeddings",), ("layers:1",), ("layers:2",), ("layers:1", "head:genre")]
F64 = {"dtype": torch.float64}


def frozen(*parts, kind="bert", **settings):
    model = make_model(kind, **settings)
    freeze(model, *parts)
    return model


@pytest.mark.parametrize("parts", POLICIES, ids="+".join)
@pytest.mark.parametrize(("kind", "schedule"), [
    ("bert", "joint"), ("bert", "alternating"), ("mpnet", "joint"), ("roberta", "alternating")])
def test_losses_and_weights_are_those_without_a_cache(kind, parts, schedule):
    config = make_config(schedule=schedule)
    histories, models = [], [frozen(*parts, kind=kind, **F64) for _ in range(2)]
    before = weights(models[0])
    for model, cache in zip(models, (None, FrozenCache(models[1], TRAIN.sentences)), strict=True):
        histories.append(fit(model, TRAIN, config=config, cache=cache))
    for first, second in zip(*(history.steps for history in histories), strict=True):
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-9)
        assert first["labels"] == second["labels"]
    after = [weights(model) for model in models]
    for name, value in after[0].items():
        assert (value - after[1][name]).abs().max() < 1e-9, name
        if not dict(models[1].named_parameters())[name].requires_grad:
            assert torch.equal(after[1][name], before[name]), name
    assert not same(before, after[1])


def test_batches_of_several_parts_and_bfloat16_come_from_a_cache_too():
    config = make_config(accumulate=3, dtype="bfloat16", batch_size=6)
    models = [frozen("layers:1", dropout=0.0) for _ in range(2)]
    cache = FrozenCache(models[1], TRAIN.sentences, torch.bfloat16)
    losses = [[row["loss"]["genre"] for row in fit(model, TRAIN, config=config, cache=kept).steps]
              for model, kept in zip(models, (None, cache), strict=True)]
    np.testing.assert_allclose(*losses, rtol=0.02)


@pytest.mark.parametrize(("parts", "depth"), [
    ((), None), (("embeddings",), 0), (("layers:1",), 1), (("layers:2",), "encoder"),
    (("encoder",), "encoder"), (("all",), "encoder"), (("head:genre",), None)])
@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_how_far_up_the_encoder_is_frozen(kind, parts, depth):
    assert frozen_depth(frozen(*parts, kind=kind)) == depth


def test_what_layers_share_must_be_frozen_as_well():
    model = frozen("layers:1", kind="mpnet")
    model.encoder.backbone.encoder.relative_attention_bias.requires_grad_(True)
    assert frozen_depth(model) == 0


def test_only_what_is_frozen_at_the_bottom_counts():
    model = frozen("layers:2")
    for parameter in model.encoder.backbone.encoder.layer[0].parameters():
        parameter.requires_grad_(True)
    assert frozen_depth(model) == 0


def test_of_a_backbone_laid_out_otherwise_only_the_whole_encoder_is_kept():
    assert frozen_depth(frozen("embeddings", kind="distilbert")) is None
    with pytest.raises(ValueError, match="part is 'layers:1', and DistilBertModel is not laid out"):
        frozen("layers:1", kind="distilbert")
    found = []
    for kept in (False, True):
        model = frozen("encoder", kind="distilbert", dropout=0.0)
        cache = FrozenCache(model, TRAIN.sentences) if kept else None
        found.append([row["loss"]["genre"] for row in
                      fit(model, TRAIN, config=make_config(), cache=cache).steps])
    assert found[0] == pytest.approx(found[1], abs=1e-5) and found[0][0] != found[0][-1]


def test_memory_has_no_padding():
    model = frozen("layers:1")
    cache = FrozenCache(model, TRAIN.sentences + TRAIN.sentences[:5])
    lengths = [len(ids) for ids in model.encoder.tokenize(TRAIN.sentences)]
    assert cache.values.shape == (sum(lengths), 16)
    assert FrozenCache(frozen("encoder"), TRAIN.sentences).values.shape == (len(TRAIN), 16)


def test_nothing_frozen_is_refused():
    with pytest.raises(ValueError, match="model must have frozen embeddings"):
        FrozenCache(frozen("head:genre"), TRAIN.sentences)


def changed_weight(model):
    with torch.no_grad():
        model.encoder.backbone.embeddings.word_embeddings.weight[3, 0] += 1e-6


def changed_word(model):
    tokenizer = copy.deepcopy(model.encoder.tokenizer)
    tokenizer.add_tokens(["unheard"])
    model.encoder.tokenizer = tokenizer


def one_layer_less(model):
    unfreeze(model, "layers:1")
    freeze(model, "embeddings")


STALE = {
    "a frozen weight": changed_weight,
    "the tokenizer": changed_word,
    "the length": lambda model: setattr(model.encoder, "max_length", 5),
    "the pooling": lambda model: setattr(model.encoder, "pooling", "max"),
    "the depth": one_layer_less,
    "the whole encoder": lambda model: freeze(model, "encoder"),
    "the numbers": lambda model: model.to(torch.float64),
}


@pytest.mark.parametrize("change", STALE.values(), ids=list(STALE))
def test_a_stale_cache_is_refused(change):
    model = frozen("layers:1")
    cache = FrozenCache(model, TRAIN.sentences)
    before = weights(model)
    change(model)
    changed = weights(model)
    with pytest.raises(ValueError, match="cache was made with other frozen weights"):
        fit(model, TRAIN, config=make_config(), cache=cache)
    assert same(changed, weights(model)) and before.keys() == changed.keys()


def test_a_cache_of_another_dtype_or_of_other_sentences_is_refused():
    model = frozen("encoder")
    cache = FrozenCache(model, TRAIN.sentences)
    with pytest.raises(ValueError, match="dtype .None, here torch.bfloat16.; make it anew"):
        fit(model, TRAIN, config=make_config(dtype="bfloat16"), cache=cache)
    other = LabelledSentences([*TRAIN.sentences[:-1], "a film I saw"], TRAIN.labels)
    with pytest.raises(ValueError, match="cache lacks 1 of the sentences, such as 'a film I saw'"):
        fit(model, other, config=make_config(), cache=cache)


def test_what_is_trained_above_may_change_and_the_cache_stays():
    model = frozen("layers:1")
    cache = FrozenCache(model, TRAIN.sentences)
    for _ in range(2):
        history = fit(model, TRAIN, config=make_config(epochs=1), cache=cache)
        assert len(history.steps) == 5
    some = TRAIN.select(np.arange(9, 30)[::-1])
    fit(model, some, config=make_config(epochs=1), cache=cache)


def test_heads_alone_compute_in_their_own_type():
    config, losses = make_config(dtype="bfloat16", batch_size=6), []
    for kept in (False, True):
        model = frozen("encoder", dropout=0.0)
        cache = FrozenCache(model, TRAIN.sentences, torch.bfloat16) if kept else None
        losses.append([row["loss"]["genre"] for row in
                       fit(model, TRAIN, config=config, cache=cache).steps])
    np.testing.assert_allclose(*losses, rtol=0.02)
    assert losses[0] != losses[1]
    model = frozen("encoder", dtype=torch.bfloat16)
    fit(model, TRAIN, config=config, cache=FrozenCache(model, TRAIN.sentences, torch.bfloat16))


def test_a_cache_that_does_not_fit_the_checkpoint_is_refused(tmp_path):
    config = make_config(checkpoint_dir=str(tmp_path))
    fit(frozen("layers:1"), TRAIN, config=config)
    other = frozen("layers:1", seed=1)
    cache = FrozenCache(other, TRAIN.sentences)
    with pytest.raises(ValueError, match="cache was made with other frozen weights"):
        fit(other, TRAIN, config=config, cache=cache)


def test_a_kept_run_is_stopped_and_continued(tmp_path):
    config = make_config(checkpoint_dir=str(tmp_path), checkpoint_every=2, epochs=3)
    model = frozen("layers:1")
    cache = FrozenCache(model, TRAIN.sentences)
    fit(model, TRAIN, config=config, cache=cache)
    (tmp_path / "step-00000015" / "state.json").write_text("cut")
    again = frozen("layers:1", seed=0)
    fit(again, TRAIN, config=config, cache=cache)
    assert same(weights(model), weights(again))
