"""Where models come from, and what of their folders is read: a hub on loopback, foreign folders."""

import hashlib
import json
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import make_encoder, make_model, weights
from transformers import AlbertConfig, AlbertModel, AutoModel, GPT2Config, T5Config

from experiments import compare_encoders, records, task_1
from mtl_helpers.encoder import SentenceEncoder, pool
from mtl_helpers.freezing import FrozenCache, encoder_hash, freeze, parameter_groups
from mtl_helpers.heads import RegressionHead
from mtl_helpers.model import MultiTaskModel

TEXTS = ["the film was very good", "", "a bad phone", "it is plain"]
load = SentenceEncoder.from_pretrained


@pytest.fixture
def folder(tmp_path):
    """A saved encoder with another pooling than the default, that a test may damage."""
    encoder = make_encoder()
    SentenceEncoder(encoder.backbone, encoder.tokenizer, "cls", False).save_pretrained(tmp_path)
    return tmp_path


class Hub(BaseHTTPRequestHandler):
    """As much of the model hub as a download needs: repositories are folders."""
    protocol_version, broken = "HTTP/1.1", ""

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if self.path.endswith(self.broken or "\n")
                             else body)

    def do_GET(self):  # noqa: N802
        """/api/models/OWNER/NAME/(revision|tree)/REVISION and /OWNER/NAME/resolve/REVISION/FILE"""
        path = urlsplit(self.path).path.removeprefix("/api/models")
        owner, name, kind, revision, *rest = path[1:].split("/")
        revision = {"main": "1" * 40, "v1": "0" * 40}.get(revision, revision)
        folder = self.root / owner / name / revision
        if not folder.is_dir():
            what = "Revision" if folder.parent.is_dir() else "Repo"
            return self.answer(404, X_Error_Code=f"{what}NotFound")
        if kind == "revision":
            return self.answer(200, json.dumps({"id": f"{owner}/{name}", "sha": revision}).encode())
        if kind == "tree":
            rows = [{"type": "file", "oid": "0" * 40, "size": file.stat().st_size,
                     "path": file.relative_to(folder).as_posix()}
                    for file in folder.rglob("*") if file.is_file()]
            return self.answer(200, json.dumps(rows).encode(), Content_Type="application/json")
        body = folder.joinpath(*rest).read_bytes()
        self.fetched.append("/".join(rest))
        etag = hashlib.sha1(body).hexdigest()
        begin = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        return self.answer(206 if begin else 200, body[begin:], ETag=f'"{etag}"',
                           X_Repo_Commit=revision, Content_Range=f"bytes {begin}-/{len(body)}")

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with small models in the published layout; two revisions of one."""
    root = tmp_path / "hub/sentence-transformers"
    for seed, (name, kind, revision) in enumerate((
            ("paraphrase-mpnet-base-v2", "mpnet", "1"), ("paraphrase-mpnet-base-v2", "mpnet", "0"),
            ("bert-base-nli-mean-tokens", "bert", "1"), ("all-MiniLM-L6-v2", "bert", "1"))):
        torch.manual_seed(seed)
        encoder, place = make_encoder(kind), root / name / (revision * 40)
        encoder = SentenceEncoder(encoder.backbone, encoder.tokenizer, "mean", False, 20)
        encoder.save_pretrained(place)
        (place / "onnx").mkdir()
        for other in ("pytorch_model.bin", "onnx/model.onnx", "onnx/model.safetensors"):
            (place / other).write_bytes(b"not to be fetched")
    old = root / "bert-base-nli-mean-tokens" / ("1" * 40)
    (old / "0_Transformer").mkdir()  # as version 1 of sentence-transformers saved
    for file in [*old.glob("*token*"), *old.glob("*bert*"), old / "config.json",
                 old / "model.safetensors"]:
        file.rename(old / "0_Transformer" / file.name)
    modules = json.loads((old / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (old / "modules.json").write_text(json.dumps(modules))

    handler = type("Handler", (Hub,), {"root": root.parent, "fetched": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
            "ENDPOINT": here, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": False,
            "HUGGINGFACE_CO_URL_TEMPLATE": here + "/{repo_id}/resolve/{revision}/{filename}",
            }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield handler
    server.shutdown()
    server.server_close()


def test_one_command_adds_the_exercises_models_to_the_table_of_task_1(
        hub, tmp_path, monkeypatch, capsys):
    names = ["paraphrase-mpnet-base-v2", "bert-base-nli-mean-tokens"]
    train, test = compare_encoders.fixed_sample()
    few = train.select(range(60)), test.select(range(40))
    monkeypatch.setattr(compare_encoders, "fixed_sample", lambda: few)
    monkeypatch.setattr(records, "RUNS", tmp_path / "runs")
    for said in ("recorded", "recorded already"):
        compare_encoders.main(names)
        assert capsys.readouterr().out.splitlines() == [f"{name}: {said}" for name in names]
    rows = {row[0]: row for row in task_1.model_rows()}
    for name in names:
        _, weights, speed, genre, sentiment, interval = rows[name]
        assert weights < 0.1 and speed is None and "\N{NO-BREAK SPACE}to" in interval
        assert 0 < genre < 100 and 0 < sentiment < 100


def test_models_come_from_the_hub_once_by_any_of_their_names(hub, monkeypatch):
    vectors = {}
    for name, kind in (("paraphrase-mpnet-base-v2", "mpnet"),
                       ("bert-base-nli-mean-tokens", "bert")):
        encoder = load(name)
        assert encoder.backbone.config.model_type == kind
        assert (encoder.pooling, encoder.normalize, encoder.max_length) == ("mean", False, 20)
        vectors[name] = encoder.encode(TEXTS)
        assert np.array_equal(load(f"sentence-transformers/{name}").encode(TEXTS), vectors[name])
    assert not [file for file in hub.fetched if "onnx" in file or file.endswith(".bin")]
    mpnet = "paraphrase-mpnet-base-v2"
    older = load(mpnet, revision="v1").encode(TEXTS)
    assert not np.allclose(older, vectors[mpnet])
    monkeypatch.setattr("mtl_helpers.encoder.util.find_spec", lambda name: None)
    assert load("all-MiniLM-L6-v2").max_length == 20, "from the hub, where there is no package"
    for wrong in (partial(load, mpnet, revision="v3"), partial(load, "mpnet-of-nobody")):
        with pytest.raises(OSError, match="folder .*sentence-transformers/.*NotFoundError"):
            wrong()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert np.array_equal(load(mpnet).encode(TEXTS), vectors[mpnet])
    assert np.array_equal(load(mpnet, revision="v1").encode(TEXTS), older)


@pytest.mark.parametrize("broken", ["model.safetensors", "1_Pooling/config.json"])
def test_a_broken_download_is_no_model_until_it_is_whole(hub, monkeypatch, broken):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between tries
    hub.broken = broken
    for offline, reason in ((False, "is no model that can be had"), (True, "IncompleteSnapshot")):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        with pytest.raises(OSError, match=reason):
            load("paraphrase-mpnet-base-v2")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.broken = ""
    assert load("paraphrase-mpnet-base-v2").encode(TEXTS).shape == (4, 16)


def tensors(change):
    """What changes each name and tensor of a file, or drops it where it gives None."""
    return lambda path: save_file(
        dict(filter(None, (change(*row) for row in load_file(path).items()))), path,
        {"format": "pt"})


def setting(**changes):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


SETTINGS, POOLING = "sentence_bert_config.json", "1_Pooling/config.json"
WRONG = {  # a file, what becomes of it or its new content, what is said of that
    "a prefix": ("model.safetensors", tensors(lambda name, t: (f"_orig_mod.{name}", t)),
                 r"37 weights lack: .*embeddings.LayerNorm.*unused: .'_orig_mod"),
    "a layer": ("model.safetensors", tensors(
        lambda name, t: None if "layer.1" in name else (name, t)), "16 weights lack: .*layer.1"),
    "a shape": ("model.safetensors", tensors(
        lambda name, t: (name, t[:5].clone() if "word" in name else t)), "1 weights lack: .*word"),
    "no weights": ("model.safetensors", Path.unlink, "no readable model"),
    "cut weights": ("model.safetensors", b"\x08", "no readable model"),
    "no config": ("config.json", Path.unlink, "no readable model"),
    "another config": ("config.json", b"{}", "no readable model"),
    "no words": ("tokenizer.json", lambda path: [path.unlink(), (
        path.parent / "tokenizer_config.json").unlink()], "and words.* 0"),
    "no pooling": (POOLING, Path.unlink, "pools by {}"),
    "other pooling": (POOLING, b'{"pooling_mode": "lasttoken"}', "valid is one of mean"),
    "older pooling": (POOLING, b'{"pooling_mode_weightedmean_tokens": true}', "valid is one of"),
    "two poolings": (POOLING, setting(pooling_mode="lasttoken"), "pools by"),
    "no modules": ("modules.json", Path.unlink, "modules.json is missing"),
    "cut modules": ("modules.json", b"{", "not valid JSON"),
    "depth": ("modules.json", b"[" * 100_000, "not valid JSON"),
    "a module": ("modules.json", b'[{"type": "sentence_transformers.models.Dense"}]', "Dense"),
    "code": ("config.json", setting(auto_map={"AutoModel": "trap.Trap"}), "config.json has code"),
    "code of a tokenizer": ("tokenizer_config.json", setting(auto_map={}), "er_con.* has code"),
    "code of a module": ("modules.json", lambda path: path.write_text(path.read_text().replace(
        "sentence_transformers.models.P", "trap.P")), "trap.Pooling"),
    "an adapter": ("adapter_config.json", b'{"peft_type": "LORA"}', "merge_and_unload"),
    "lower case": (SETTINGS, b'{"do_lower_case": true}', "lower-cases sentences"),
    "a list": (SETTINGS, b"[]", "must hold a dict"),
    "a length": (SETTINGS, b'{"max_seq_length": "all"}', "max_length is all"),
    "a prompt": ("config_sentence_transformers.json", b'{"default_prompt_name": "q"}', "'q'"),
}


@pytest.mark.parametrize("change", WRONG)
def test_what_a_folder_lacks_or_would_run_is_an_error(folder, change):
    (folder / "trap.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Trap: pass\n")
    load(folder)
    name, damage, reason = WRONG[change]
    damage = partial(Path.write_bytes, data=damage) if isinstance(damage, bytes) else damage
    damage(folder / name)
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        load(folder)
    assert not (folder / "ran").exists(), "no code in the folder is run"


def test_paths_of_modules_are_followed_and_lengths_found_under_older_names(folder):
    expected = load(folder).encode(TEXTS)
    (folder / "1_Pooling").rename(folder / "pool")
    (folder / "sentence_bert_config.json").rename(folder / "sentence_roberta_config.json")
    setting(max_seq_length=9)(folder / "sentence_roberta_config.json")
    modules = (folder / "modules.json").read_text().replace("1_Pooling", "pool")
    (folder / "modules.json").write_text(modules)
    encoder = load(folder)
    assert (encoder.pooling, encoder.max_length) == ("cls", 9)
    assert np.array_equal(encoder.encode(TEXTS), expected)


def test_a_pooler_that_is_missing_is_none_and_changes_nothing(folder):
    whole = load(folder)
    tensors(lambda name, t: None if "pooler" in name else (name, t))(folder / "model.safetensors")
    hashes, keys = set(), set()
    for encoder in (load(folder), load(folder), whole):
        model = MultiTaskModel(encoder, {"valence": RegressionHead(16)})
        hashes.add(encoder_hash(weights(model)))
        freeze(model, "encoder")
        keys.add(FrozenCache(model, TEXTS).key)
    assert len(hashes) == 1 and len(keys) == 1
    state = torch.get_rng_state()
    assert load(folder).backbone.pooler is None and torch.equal(torch.get_rng_state(), state)


def test_a_home_odd_characters_and_spaces_are_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("~/a b", "~/[x]*?", "~/näme #1%20", "~/{0}'\"\\"):
        make_encoder().save_pretrained(name)
        assert load(name).embedding_dim == 16
        make_model().save_pretrained(f"{name}/model")
        assert MultiTaskModel.from_pretrained(f"{name}/model").encoder.embedding_dim == 16
    assert not Path("~").exists()


def lora(encoder):
    """The encoder's backbone with adapters, which change it in place."""
    return get_peft_model(encoder.backbone, LoraConfig(r=2, target_modules=["query", "value"]))


T5 = T5Config(vocab_size=22, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
SLOW = type("Slow", (), {"is_fast": False, "pad_token": "", "all_special_ids": [],
                         "__len__": lambda _: 9})


@pytest.mark.parametrize(("change", "reason"), [
    (lambda encoder: setattr(encoder, "backbone", AutoModel.from_config(T5)),
     "encoder with max_position_embeddings.*T5Model"),
    (lambda encoder: setattr(encoder, "backbone", lora(encoder)), "merge_and_unload"),
    (lambda encoder: setattr(encoder.tokenizer, "pad_token", None), "with a pad_token.*None"),
    (lambda encoder: setattr(encoder, "tokenizer", SLOW()), "fast one.*Slow")])
def test_a_kind_that_cannot_be_used_is_refused_when_the_encoder_is_made(change, reason):
    encoder = make_encoder()
    change(encoder)
    with pytest.raises(ValueError, match=reason):
        SentenceEncoder(encoder.backbone, encoder.tokenizer)


def test_adapters_that_are_merged_are_a_plain_backbone(tmp_path):
    encoder = make_encoder()
    before = encoder.encode(TEXTS)
    merged = SentenceEncoder(lora(encoder).merge_and_unload(), encoder.tokenizer)
    merged.save_pretrained(tmp_path)
    assert np.allclose(load(tmp_path).encode(TEXTS), before, atol=1e-6)


@pytest.mark.parametrize("config", [
    AlbertConfig(vocab_size=22, embedding_size=8, hidden_size=16, num_attention_heads=2,
                 intermediate_size=16, max_position_embeddings=32),
    GPT2Config(vocab_size=22, n_embd=16, n_layer=1, n_head=2, n_positions=32)])
def test_albert_and_gpt_2_with_a_pad_token_work_as_far_as_they_have_numbered_layers(
        config, tmp_path):
    encoder = SentenceEncoder(AutoModel.from_config(config).eval(), make_encoder().tokenizer)
    model = MultiTaskModel(encoder, {"valence": RegressionHead(16)}).eval()
    model.save_pretrained(tmp_path)
    again = MultiTaskModel.from_pretrained(tmp_path).predict(TEXTS)["valence"].values
    assert np.array_equal(model.predict(TEXTS)["valence"].values, again)
    with pytest.raises(ValueError, match="K from 0 to 0"):
        freeze(model, "layers:1")
    if isinstance(encoder.backbone, AlbertModel):
        freeze(model, "embeddings")
    else:
        with pytest.raises(ValueError, match="'embeddings'"):
            freeze(model, "embeddings")  # that have other names, so that none would be frozen


def test_a_token_that_was_added_alone_names_the_remedy():
    encoder = make_encoder()
    encoder.tokenizer.add_tokens(["senators"])
    assert encoder.encode("a film").shape == (16,)
    with pytest.raises(ValueError, match=r"backbone\.resize_token_embeddings"):
        encoder.encode("senators")
    encoder.backbone.resize_token_embeddings(len(encoder.tokenizer))
    assert encoder.encode("senators").shape == (16,)
    encoder.tokenizer.add_special_tokens({"pad_token": "[PADDING]"})
    with pytest.raises(ValueError, match=r"backbone\.resize_token_embeddings"):
        encoder.encode(["a film", "it"])


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_no_tokens_have_a_vector_that_depends_on_no_neighbour(pooling):
    assert pool(torch.ones(2, 3, 4), torch.tensor([[0, 0, 0], [1, 1, 1]]), pooling).tolist() == [
        [0.0] * 4, [1.0] * 4]
    encoder = make_encoder()
    encoder.tokenizer.backend_tokenizer.post_processor = None  # no special tokens
    encoder = SentenceEncoder(encoder.backbone.eval(), encoder.tokenizer, pooling)
    alone, together = encoder.encode([""]), encoder.encode(["", "the film was very good"])
    assert np.isfinite(alone).all() and np.abs(alone[0] - together[0]).max() < 1e-6


def test_heads_that_share_weights_with_another_or_the_encoder_are_refused():
    encoder, head, other = make_encoder(), RegressionHead(16), RegressionHead(16)
    other.network = head.network
    for second in (other, head):
        with pytest.raises(ValueError, match=r"heads\['b'\] .* heads\['a'\]"):
            MultiTaskModel(encoder, {"a": head, "b": second})
    head.own = encoder.backbone.embeddings.word_embeddings
    with pytest.raises(ValueError, match=r"heads\['a'\] must have its own own.weight.* encoder"):
        MultiTaskModel(encoder, {"a": head})


UNLOADABLE = {
    "an adapter": lambda model: lora(model.encoder),
    "a layer": lambda model: setattr(model.heads["genre"], "more", torch.nn.Linear(2, 2)),
    "a wrapper": lambda model: model.heads.update({"genre": torch.compile(model.heads["genre"])}),
    "a tokenizer": lambda model: setattr(model.encoder.tokenizer, "pad_token", None)}


@pytest.mark.parametrize("change", UNLOADABLE.values(), ids=list(UNLOADABLE))
def test_what_could_not_be_loaded_replaces_nothing(change, tmp_path):
    def files():
        return sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))

    make_model().save_pretrained(tmp_path / "model")
    before, model = files(), make_model(seed=1)
    change(model)
    with pytest.raises(ValueError):
        model.save_pretrained(tmp_path / "model")
    assert before == files()


@pytest.mark.parametrize("place", ["mount point", "current folder"])
def test_a_folder_that_cannot_be_replaced_is_refused_at_once(place, tmp_path, monkeypatch):
    (tmp_path / "drive").mkdir()
    if place == "mount point":
        monkeypatch.setattr("os.path.ismount", lambda path: Path(path).name == "drive")
    else:
        monkeypatch.chdir(tmp_path / "drive")
    with pytest.raises(OSError, match="inside it, such as .*drive/model"):
        make_model().save_pretrained(tmp_path / "drive")
    make_model().save_pretrained(tmp_path / "drive/model")
    assert sorted(path.name for path in tmp_path.rglob("*model")) == ["model"]


def compiled_parts():
    model = make_model()
    model.encoder.backbone = torch.compile(model.encoder.backbone)
    model.heads["genre"] = torch.compile(model.heads["genre"])
    return model


WRAPPERS = {
    "compile": lambda: torch.compile(make_model()), "compiled parts": compiled_parts,
    "DataParallel": lambda: torch.nn.DataParallel(make_model()),
    "both": lambda: torch.nn.DataParallel(torch.compile(make_model())),
    "average": lambda: torch.optim.swa_utils.AveragedModel(make_model())}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=list(WRAPPERS))
def test_a_wrapped_model_has_the_same_groups_and_hash_or_is_refused(wrap):
    model, wrapped = make_model(), wrap()  # of the same seed
    sizes = [[(group["lr"], group["weight_decay"], [p.shape for p in group["params"]])
              for group in parameter_groups(one, 1e-4, 1e-2, layer_decay=0.5)]
             for one in (model, wrapped)]
    assert sizes[0] == sizes[1] and len(sizes[0]) == 8
    hashes = {encoder_hash(one) for one in (weights(model), weights(wrapped))}
    assert len(hashes) == 1
    unknown = torch.nn.ModuleDict({"student": model})
    with pytest.raises(ValueError, match=r"student\.encoder.*give the MultiTaskModel itself"):
        parameter_groups(unknown, 1e-4, 1e-2)


def test_a_task_may_be_called_like_a_wrapper_or_a_pooler():
    model = MultiTaskModel(make_encoder(), {"module": RegressionHead(16),
                                            "pooler": RegressionHead(16)})
    freeze(model, "head:module", "head:pooler")
    assert not any(parameter.requires_grad for parameter in model.heads.parameters())
