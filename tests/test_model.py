"""MultiTaskModel: forward, predict, saved folders, faults and kills while saving, damage."""

import hashlib
import json
import shutil
import socket
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from killed import names
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tiny import make_encoder, make_model, same, weights

from mtl_helpers.data import LabelledSentences
from mtl_helpers.encoder import SentenceEncoder
from mtl_helpers.evaluation import evaluate
from mtl_helpers.heads import ClassificationHead, RegressionHead
from mtl_helpers.model import MultiTaskModel

SENTENCES = ["the film was very good", "a bad phone", "", "the senator is plain", "loved it"]
SAVED_FILES = [
    "1_Pooling/config.json", "config.json", "heads.safetensors", "model.safetensors",
    "modules.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json"]
EARLIER = Path(__file__).parent / "saved_0_1"  # what version 0.1.0 saved
pytestmark = pytest.mark.usefixtures("quick_flushes")


def batch_of(model):
    return model.encoder.collate(model.encoder.tokenize(SENTENCES))


def logits_of(model):
    with torch.no_grad():
        return model(*batch_of(model))


def assert_same_model(model, other):
    """Bit-equal weights, logits and embeddings, the same heads under the same names."""
    assert same(weights(model), weights(other)) and same(logits_of(model), logits_of(other))
    assert np.array_equal(model.encoder.encode(SENTENCES), other.encoder.encode(SENTENCES))
    first, second = ([(task, type(head), head.config) for task, head in one.heads.items()]
                     for one in (model, other))
    assert first == second


def assert_refused(folder, reason, error=ValueError):
    with pytest.raises(error, match=f"(?s){reason}"):
        MultiTaskModel.from_pretrained(folder)


@pytest.fixture
def folder(tmp_path):
    """A saved model that a test may damage."""
    make_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_head_answers_from_one_encoder_pass_and_predict_agrees(dtype):
    model, calls = make_model(dtype=dtype), []
    model.encoder.register_forward_hook(lambda module, inputs, embeddings: calls.append(embeddings))
    logits, predictions = logits_of(model), model.predict(SENTENCES)
    assert len(calls) == 2 and list(predictions) == ["genre", "sentiment", "valence", "unused"]
    assert [tuple(values.shape) for values in logits.values()] == [(5, 3), (5, 2), (5,), (5, 2)]
    for task, values in logits.items():
        assert torch.equal(values, model.heads[task](calls[0]))
        found, expected = predictions[task], model.heads[task].decode(values)
        assert found.labels == expected.labels
        for name in ["values"] if task == "valence" else ["ids", "probabilities"]:
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)


def test_predict_of_one_string_and_of_none():
    model = make_model()
    one, listed, empty = (model.predict(given) for given in ("a phone", ["a phone"], []))
    assert one["genre"].labels == listed["genre"].labels and len(one["genre"].labels) == 1
    assert np.array_equal(one["genre"].probabilities, listed["genre"].probabilities)
    assert empty["genre"].labels == [] and empty["genre"].probabilities.shape == (0, 3)
    assert empty["valence"].values.shape == (0,)


def test_predict_runs_the_encoder_once_and_hands_on_dtype_and_budget(monkeypatch):
    calls, embeddings = [], np.zeros((5, 16), dtype=np.float32)
    monkeypatch.setattr(SentenceEncoder, "encode", lambda encoder, *given: (
        calls.append(given) or embeddings))
    make_model().predict(SENTENCES, torch.bfloat16, 500)
    evaluate(make_model(), LabelledSentences(SENTENCES, {"sentiment": [0, 1, 0, 1, 0]}),
             tokens_per_batch=500)
    assert calls == [(SENTENCES, torch.bfloat16, 500), (SENTENCES, torch.float32, 500)]


@pytest.mark.parametrize("asleep", [[], ["encoder"], ["heads.genre"], ["encoder", "heads"]])
def test_predict_has_no_dropout_and_leaves_modes_and_gradients(asleep):
    model = make_model(dropout=0.5)
    expected = model.predict(SENTENCES)["genre"].probabilities
    model.train()
    for name in asleep:
        model.get_submodule(name).eval()
    before = [part.training for part in model.modules()]
    found = model.predict(SENTENCES)["genre"].probabilities
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(TypeError):
        model.predict([None])
    assert [part.training for part in model.modules()] == before
    assert all(parameter.grad is None for parameter in model.parameters())
    model(*batch_of(model))["genre"].square().sum().backward()
    assert model.encoder.backbone.embeddings.word_embeddings.weight.grad.any()


def test_saving_and_loading_change_nothing_and_sentence_transformers_opens_the_folder(tmp_path):
    model = make_model().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    before, state = weights(model), torch.get_rng_state()
    modes = [part.training for part in model.modules()]
    model.save_pretrained(tmp_path / "model")
    again = MultiTaskModel.from_pretrained(tmp_path / "model")
    assert modes == [part.training for part in model.modules()]
    assert same(before, weights(model)) and torch.equal(torch.get_rng_state(), state)
    assert not any(part.training for part in again.modules())
    assert_same_model(model.eval(), again)
    plain = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(plain.encode(SENTENCES), model.encoder.encode(SENTENCES), atol=1e-6)


def test_a_model_that_version_0_1_saved_still_opens_and_says_the_same(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("network"))
    expected = json.loads((EARLIER / "predictions.json").read_text())
    predictions = MultiTaskModel.from_pretrained(EARLIER / "model").predict(expected["sentences"])
    assert list(predictions) == list(expected["tasks"])
    for task, parts in expected["tasks"].items():
        assert predictions[task].labels == parts.pop("labels", None)
        for name, values in parts.items():
            np.testing.assert_allclose(getattr(predictions[task], name), values, atol=1e-6)


def test_the_folder_holds_safetensors_and_json_that_others_can_read(folder, tmp_path):
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = sorted(path.relative_to(folder).as_posix() for path in files)
    assert found == sorted([*SAVED_FILES, "heads.json", "README.md"])
    assert sorted(json.loads((folder / "heads.json").read_text())["sha256"]) == SAVED_FILES
    assert len({stat.S_IMODE(path.stat().st_mode) for path in files}) == 1
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "sentence-transformers"
    assert card.text.splitlines()[-4:] == [
        "| genre | ClassificationHead | review, news, tweet |",
        "| sentiment | ClassificationHead | negative, positive |",
        "| valence | RegressionHead | real value |", "| unused | ClassificationHead | no, yes |"]
    make_model().save_pretrained(tmp_path / "again")
    assert all((folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
               for name in found)


def test_new_kinds_of_head_and_names_that_are_not_ascii_are_saved_and_loaded(tmp_path):
    rank_head = type("RankHead", (RegressionHead,), {})  # a kind that the package does not have
    heads = {"rank": rank_head(16, hidden_dim=4),
             "Stimmung der Sätze": ClassificationHead(16, ["schön", "|", "悪い", "a\nb"])}
    model = MultiTaskModel(make_encoder(), heads).eval()
    model.save_pretrained(tmp_path / "model")
    again = MultiTaskModel.from_pretrained(tmp_path / "model", [ClassificationHead, rank_head])
    assert_same_model(model, again)
    assert_refused(tmp_path / "model", r"types \['ClassificationHead', .*KeyError\('RankHead'\)")


def test_an_earlier_save_or_an_empty_folder_is_replaced_through_a_link_too(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    for seed, folder in enumerate(("real", "link", Path("new") / "deep", Path("new") / "deep")):
        make_model(seed=seed).save_pretrained(folder)
        assert_same_model(make_model(seed=seed), MultiTaskModel.from_pretrained(folder))
        (Path(folder) / "README.md").write_text("edited by hand")
        (Path(folder) / ".DS_Store").write_bytes(b"what a file manager leaves")
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "new") == ["deep"]
    assert_same_model(make_model(seed=1), MultiTaskModel.from_pretrained("real"))
    assert names(tmp_path) == ["link", "new", "real"]


def test_files_that_are_not_its_own_are_refused_and_left_alone(folder, tmp_path):
    for name in ("model/.git/HEAD", "foreign/thesis.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("three years")
        for target in (name, name.partition("/")[0]):
            with pytest.raises(FileExistsError, match=r"must be new.*\['.*(HEAD|thesis.txt)'\]"):
                make_model(seed=1).save_pretrained(tmp_path / target)
        assert (tmp_path / name).read_text() == "three years"
    assert_same_model(make_model(), MultiTaskModel.from_pretrained(folder))
    assert names(tmp_path) == ["foreign", "model"]


def test_what_a_kill_had_set_aside_is_loaded_and_the_next_save_cleans_up(folder):
    """What a kill leaves at each moment is shown for checkpoints, which are saved likewise."""
    folder.rename(folder.with_name(".model.set-aside"))
    shutil.copytree(folder.with_name(".model.set-aside"), folder.with_name(".model.unfinished"))
    assert_same_model(make_model(), MultiTaskModel.from_pretrained(folder))
    make_model(seed=1).save_pretrained(folder)
    assert_same_model(make_model(seed=1), MultiTaskModel.from_pretrained(folder))
    assert names(folder.parent) == ["model"]


def seal(folder):
    """Make the checksums of heads.json fit what the other files hold now."""
    record = json.loads((folder / "heads.json").read_text())
    record["sha256"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
                        for name in record["sha256"]}
    (folder / "heads.json").write_text(json.dumps(record))


def test_each_missing_cut_or_altered_file_is_named_but_a_card(folder):
    for name in SAVED_FILES:
        content = (folder / name).read_bytes()
        for damaged in (content[: len(content) // 2], bytes([content[0] ^ 1]) + content[1:], b""):
            (folder / name).write_bytes(damaged)
            assert_refused(folder, f"{name} is not as it was saved .*CRLF or .*Git LFS")
        (folder / name).unlink()
        assert_refused(folder, f"No such file.*{name}", FileNotFoundError)
        (folder / name).write_bytes(content)
    (folder / "README.md").unlink()
    assert_same_model(make_model(), MultiTaskModel.from_pretrained(folder))


def test_a_folder_or_a_record_that_is_not_ours(folder):
    encoder = folder.parent / "encoder"
    make_encoder().save_pretrained(encoder)
    for path in (folder / "nowhere", folder.parent, encoder / "config.json", encoder):
        error = NotADirectoryError if path.is_file() else FileNotFoundError
        assert_refused(path, "heads.json", error)
    for text in ("", "{", "[]", "null", "{}",
                 '{"format": "MultiTaskModel 2", "heads": {"a": {}}, "sha256": {}}',
                 '{"format": "MultiTaskModel 1", "heads": [], "sha256": {}}',
                 '{"format": "MultiTaskModel 1", "heads": {}}'):
        (folder / "heads.json").write_text(text)
        assert_refused(folder, r"heads\.json does not describe saved heads")


def test_heads_or_tensors_or_an_encoder_that_do_not_fit_although_checksums_do(folder):
    record = (folder / "heads.json").read_text()
    for old, new, reason in (
            ('"ClassificationHead"', '"os.system"', r"KeyError\('os\.system'\)"),
            ('"type":', '"kind":', r"KeyError\('type'\)"),
            ('"dropout":', '"colour":', "TypeError.*colour"),
            ('"news"', '"review"', "labels must list two or more"),
            ('"news",', "", "size mismatch"), ('"hidden_dim": 8', '"hidden_dim": 7', "size mism"),
            ('"genre":', '"topic":', "Missing key.*topic.*Unexpected key.*genre"),
            ('"embedding_dim": 16', '"embedding_dim": 384', "embedding_dim, 16, got 384")):
        assert old in record
        (folder / "heads.json").write_text(record.replace(old, new, 1))
        assert_refused(folder, rf"heads\.json must describe heads .*{reason}")
    (folder / "heads.json").write_text(record)
    tensors = load_file(folder / "heads.safetensors")
    bias = tensors.pop("genre.network.1.bias")
    for name, tensor, reason in (("more", bias, "Missing key.*Unexpected key"),
                                 ("genre.network.1.bias", torch.zeros(5), "size mismatch")):
        save_file(tensors | {name: tensor}, folder / "heads.safetensors")
        seal(folder)
        assert_refused(folder, rf"heads\.json must describe heads .*{reason}")
    (folder / "heads.safetensors").write_bytes(b"")
    seal(folder)
    assert_refused(folder, r"heads\.json must describe heads .*SafetensorError")
    SentenceEncoder.from_pretrained(EARLIER / "model").save_pretrained(folder)
    seal(folder)
    assert_refused(folder, r"heads\['genre'\] must have .* embedding_dim, 8, got 16")
