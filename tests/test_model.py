"""MultiTaskModel: forward, predict, saved folders, faults while saving and loading, bad input."""

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from mtl_helpers.encoder import SentenceEncoder
from mtl_helpers.heads import ClassificationHead, Head, Prediction, RegressionHead
from mtl_helpers.losses import has_label, task_losses
from mtl_helpers.model import MultiTaskModel

GENRES = ["movie review", "product review", "news editorial", "tweet"]
SENTIMENTS = ["negative", "neutral", "positive"]
WORDS = "the a film phone senator is was very not good bad plain loved hated saw it".split()
SENTENCES = ["the film was very good", "a bad phone", "", "the senator is plain", "loved it"]


def make_encoder(seed=0, hidden_size=32):
    """A BERT with two layers and random weights, and a tokenizer that knows 16 words."""
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=64)
    torch.manual_seed(seed)
    backbone = BertModel(BertConfig(
        vocab_size=len(vocabulary), hidden_size=hidden_size, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=64, max_position_embeddings=64))
    return SentenceEncoder(backbone, wrapped, max_length=64)


def make_heads(dim=32):
    return {"genre": ClassificationHead(dim, GENRES),
            "sentiment": ClassificationHead(dim, SENTIMENTS, hidden_dim=16),
            "valence": RegressionHead(dim)}


def make_model(seed=0):
    return MultiTaskModel(make_encoder(seed), make_heads()).eval()


def logits_of(model, sentences=SENTENCES):
    with torch.no_grad():
        return model(*model.encoder.collate(model.encoder.tokenize(sentences)))


def assert_same_model(model, other):
    """Bit-equal logits and embeddings, the same names."""
    logits, others = logits_of(model), logits_of(other)
    assert list(logits) == list(others)
    assert all(torch.equal(logits[task], others[task]) for task in logits)
    assert np.array_equal(model.encoder.encode(SENTENCES), other.encoder.encode(SENTENCES))
    for task, head in model.heads.items():
        assert type(other.heads[task]) is type(head)
        assert other.heads[task].config == head.config


# Forward

def test_every_head_answers_from_one_encoder_pass():
    model = make_model()
    calls = []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    logits = logits_of(model)
    assert {task: tuple(values.shape) for task, values in logits.items()} == {
        "genre": (5, 4), "sentiment": (5, 3), "valence": (5,)}
    assert len(calls) == 1


def test_logits_are_each_head_on_the_embedding():
    model = make_model()
    batch = model.encoder.collate(model.encoder.tokenize(SENTENCES))
    with torch.no_grad():
        embeddings = model.encoder(*batch)
        for task, logits in model(*batch).items():
            assert torch.equal(logits, model.heads[task](embeddings))


def test_gradient_of_a_mixed_batch_through_the_encoder_is_the_sum_of_the_tasks_gradients():
    model = make_model().double()
    batch = model.encoder.collate(model.encoder.tokenize(SENTENCES))
    labels = {"genre": torch.tensor([0, 1, -100, 2, -100]),
              "sentiment": torch.tensor([-100, 0, 1, -100, 2]),
              "valence": torch.tensor([1.5, np.nan, np.nan, 0.2, -0.3])}

    def gradients(total):
        model.zero_grad(set_to_none=False)
        total.backward()
        return {name: torch.zeros_like(value) if value.grad is None else value.grad.clone()
                for name, value in model.named_parameters()}

    losses = task_losses(model.heads, model(*batch), labels)
    mixed = gradients(sum(loss.mean for loss in losses.values()))
    apart = {name: torch.zeros_like(value) for name, value in mixed.items()}
    for task, values in labels.items():
        here = has_label(values)
        logits = model(*(part[here] for part in batch))[task]
        for name, value in gradients(model.heads[task].loss(logits, values[here]).mean()).items():
            apart[name] += value
    for name, value in mixed.items():
        torch.testing.assert_close(value, apart[name], rtol=0, atol=1e-9, msg=name)
    assert mixed["encoder.backbone.embeddings.word_embeddings.weight"].any()


# Predict

def test_predict_agrees_with_the_logits():
    model = make_model()
    logits = logits_of(model)
    predictions = model.predict(SENTENCES)
    assert list(predictions) == ["genre", "sentiment", "valence"]
    for task, names in (("genre", GENRES), ("sentiment", SENTIMENTS)):
        prediction = predictions[task]
        expected = logits[task].softmax(-1).numpy()
        np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)
        np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, atol=1e-6)
        assert prediction.ids.tolist() == expected.argmax(axis=1).tolist()
        assert prediction.labels == [names[i] for i in prediction.ids]
    np.testing.assert_allclose(predictions["valence"].values, logits["valence"].numpy(), atol=1e-5)


def test_predict_of_one_string_and_of_none():
    model = make_model()
    one, listed = model.predict("a bad phone"), model.predict(["a bad phone"])
    assert one["genre"].labels == listed["genre"].labels and len(one["genre"].labels) == 1
    assert np.array_equal(one["genre"].probabilities, listed["genre"].probabilities)
    empty = model.predict([])
    assert empty["genre"].labels == [] and empty["genre"].probabilities.shape == (0, 4)
    assert empty["valence"].values.shape == (0,)


def test_predict_runs_the_encoder_once_and_hands_on_dtype(monkeypatch):
    model, calls = make_model(), []
    encode = SentenceEncoder.encode

    def counted(self, sentences, dtype=torch.float32):
        calls.append((list(sentences), dtype))
        return encode(self, sentences, dtype)

    monkeypatch.setattr(SentenceEncoder, "encode", counted)
    model.predict(SENTENCES, dtype=torch.bfloat16)
    assert calls == [(SENTENCES, torch.bfloat16)]


def test_predict_of_many_sentences_is_the_same_as_of_few():
    model = make_model()
    few = model.predict(SENTENCES)["sentiment"].probabilities
    many = model.predict(SENTENCES * 100)["sentiment"].probabilities
    assert many.shape == (500, 3)
    np.testing.assert_allclose(many[-5:], few, atol=1e-5)


@pytest.mark.parametrize("asleep", [[], ["encoder"], ["heads.genre"], ["encoder", "heads"]])
def test_predict_has_no_dropout_and_leaves_each_modules_mode(asleep):
    model = make_model()
    expected = model.predict(SENTENCES)["sentiment"].probabilities
    model.train()
    for name in asleep:
        model.get_submodule(name).eval()
    before = {name: part.training for name, part in model.named_modules()}
    found = model.predict(SENTENCES)["sentiment"].probabilities
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert {name: part.training for name, part in model.named_modules()} == before
    with pytest.raises(TypeError):
        model.predict([None])
    assert {name: part.training for name, part in model.named_modules()} == before


def test_predict_leaves_no_gradient_and_training_goes_on():
    model = make_model().train()
    model.predict(SENTENCES)
    assert all(parameter.grad is None for parameter in model.parameters())
    logits = model(*model.encoder.collate(model.encoder.tokenize(SENTENCES)))
    task_losses(model.heads, logits, {"genre": [0, 1, 2, 3, -100]})["genre"].mean.backward()
    assert model.encoder.backbone.embeddings.word_embeddings.weight.grad.any()


def test_a_float64_model_predicts_too():
    model = make_model()
    expected = model.predict(SENTENCES)["genre"].probabilities
    found = model.double().predict(SENTENCES)["genre"].probabilities
    np.testing.assert_allclose(found, expected, atol=1e-5)


# Save and load

def test_round_trip_is_bit_equal(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    again = MultiTaskModel.from_pretrained(tmp_path / "model")
    assert_same_model(model, again)
    assert not any(part.training for part in again.modules())
    assert again.predict(SENTENCES)["genre"].labels == model.predict(SENTENCES)["genre"].labels


def test_saving_and_loading_leave_model_and_random_state_alone(tmp_path):
    model = make_model().train()
    state = torch.get_rng_state()
    modes = [part.training for part in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path / "model")
    MultiTaskModel.from_pretrained(tmp_path / "model")
    assert modes == [part.training for part in model.modules()] and model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


FRESH = """
import hashlib, socket, sys
def refuse(*_, **__): raise OSError("network")
socket.socket.connect = refuse
import torch
from mtl_helpers.model import MultiTaskModel
model = MultiTaskModel.from_pretrained(sys.argv[1])
with torch.no_grad():
    logits = model(*model.encoder.collate(model.encoder.tokenize(sys.argv[2:])))
for task, values in logits.items():
    print(task, hashlib.sha256(values.numpy().tobytes()).hexdigest())
print(model.heads["genre"].labels, model.heads["sentiment"].labels)
"""


def test_a_fresh_process_finds_bit_equal_logits_and_the_label_names(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()),
                   "PYTHONPATH": str(Path(__file__).parents[1])}
    fresh = subprocess.run([sys.executable, "-c", FRESH, str(tmp_path / "model"), *SENTENCES],
                           capture_output=True, text=True, env=environment, timeout=120)
    assert fresh.returncode == 0, fresh.stderr
    *digests, labels = fresh.stdout.splitlines()
    assert digests == [f"{task} {hashlib.sha256(values.numpy().tobytes()).hexdigest()}"
                       for task, values in logits_of(model).items()]
    assert labels == f"{GENRES} {SENTIMENTS}"


def test_the_real_model_opens_in_plain_sentence_transformers(tmp_path):
    encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
    original = tmp_path / "encoder"
    encoder.save_pretrained(original)
    model = MultiTaskModel(encoder, make_heads(384))
    model.save_pretrained(tmp_path / "model")
    sentences = ["A dull, joyless film.", "The battery lasts for two days.", "ok"]
    plain = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    alone = SentenceTransformer(str(original), device="cpu")
    embeddings = plain.encode(sentences)
    assert np.array_equal(embeddings, alone.encode(sentences))
    np.testing.assert_allclose(embeddings, encoder.encode(sentences), atol=1e-6)
    weights = encoder.backbone.state_dict()
    assert all(torch.equal(value, weights[name])
               for name, value in plain[0].auto_model.state_dict().items())
    again = MultiTaskModel.from_pretrained(tmp_path / "model")
    assert np.array_equal(again.encoder.encode(sentences), encoder.encode(sentences))


def test_trained_weights_are_what_is_saved(tmp_path):
    model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "model")
    assert_same_model(model, MultiTaskModel.from_pretrained(tmp_path / "model"))
    found = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(SENTENCES)
    np.testing.assert_allclose(found, model.encoder.encode(SENTENCES), atol=1e-6)


def test_the_folder_holds_safetensors_and_json_that_others_can_read(tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".md"}
    assert {"heads.safetensors", "heads.json", "model.safetensors", "README.md"} <= {
        path.name for path in files}
    assert len({stat.S_IMODE(path.stat().st_mode) for path in files}) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    tensors = load_file(tmp_path / "model" / "heads.safetensors")
    assert list(tensors) == sorted(make_model().heads.state_dict())


def test_a_saved_model_says_the_same_each_time(tmp_path):
    model = make_model()
    one, two = tmp_path / "one", tmp_path / "two"
    model.save_pretrained(one)
    model.save_pretrained(two)
    names = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert len(names) == 10
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


class RankHead(Head):
    """A kind of head that the package does not have."""
    likelihood = "gaussian"

    def forward(self, embeddings):
        return super().forward(embeddings).squeeze(-1)

    def loss(self, logits, labels):
        return (logits - labels).abs()

    def decode(self, logits):
        return Prediction(values=logits.numpy())


def test_a_new_kind_of_head_is_saved_and_loaded_by_its_class(tmp_path):
    model = MultiTaskModel(make_encoder(), {"rank": RankHead(32, hidden_dim=4)}).eval()
    model.save_pretrained(tmp_path / "model")
    again = MultiTaskModel.from_pretrained(tmp_path / "model", head_types=[RankHead])
    assert_same_model(model, again)
    with pytest.raises(ValueError, match=r"head_types \['ClassificationHead', 'RegressionHead'\]"):
        MultiTaskModel.from_pretrained(tmp_path / "model")


def test_task_and_label_names_need_not_be_ascii(tmp_path):
    heads = {"Stimmung der Sätze": ClassificationHead(32, ["schön", "|", "悪い", "a\nb"])}
    model = MultiTaskModel(make_encoder(), heads).eval()
    model.save_pretrained(tmp_path / "model", scores={"Stimmung der Sätze": {"accuracy": 0.5}})
    assert_same_model(model, MultiTaskModel.from_pretrained(tmp_path / "model"))


# The model card

def test_the_card_holds_tasks_labels_and_scores(tmp_path):
    scores = {"genre": {"accuracy": np.float64(0.93215), "macro_f1": 0.9},
              "valence": {"rmse": 1.25}}
    make_model().save_pretrained(tmp_path / "model", scores)
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.library_name == "sentence-transformers"
    found = {result.metric_name: (result.metric_type, result.metric_value)
             for result in card.data.eval_results}
    assert found == {"genre accuracy": ("accuracy", 0.93215), "genre macro_f1": ("macro_f1", 0.9),
                     "valence rmse": ("rmse", 1.25)}
    genres, sentiments = ", ".join(GENRES), ", ".join(SENTIMENTS)
    for row in (f"| genre | ClassificationHead | {genres} | accuracy 0.932, macro_f1 0.900 |",
                f"| sentiment | ClassificationHead | {sentiments} | not given |",
                "| valence | RegressionHead | real value | rmse 1.250 |"):
        assert row in card.text.splitlines()


def test_a_card_without_scores_claims_none(tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.eval_results is None and card.text.count("not given") == 3


def test_scores_of_an_unknown_task_are_refused(tmp_path):
    message = r"scores has the tasks \['topic'\]; valid are \['genre', 'sentiment', 'valence'\]"
    with pytest.raises(ValueError, match=message):
        make_model().save_pretrained(tmp_path / "model", {"topic": {"accuracy": 1.0}})
    assert not list(tmp_path.iterdir())


# Folders that are not new

def test_an_earlier_save_is_replaced(tmp_path):
    first, second = make_model(seed=0), make_model(seed=1)
    first.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("edited by hand")
    second.save_pretrained(tmp_path / "model")
    assert_same_model(second, MultiTaskModel.from_pretrained(tmp_path / "model"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", Path("new") / "deep"):
        make_model().save_pretrained(folder)
        assert_same_model(make_model(), MultiTaskModel.from_pretrained(folder))


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    make_model().save_pretrained(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    make_model(seed=1).save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert_same_model(make_model(seed=1), MultiTaskModel.from_pretrained(tmp_path / "real"))


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("three years")
    with pytest.raises(FileExistsError, match=r"folder must be new.*foreign with \['thesis.txt'\]"):
        make_model().save_pretrained(foreign)
    with pytest.raises(FileExistsError, match="folder must be new"):
        make_model().save_pretrained(foreign / "thesis.txt")
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


def test_what_a_file_manager_leaves_does_not_stop_a_save(tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / ".DS_Store").write_bytes(b"Finder")
    make_model(seed=1).save_pretrained(tmp_path / "model")
    assert_same_model(make_model(seed=1), MultiTaskModel.from_pretrained(tmp_path / "model"))


def test_other_files_in_an_earlier_save_are_not_lost(tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / ".git").mkdir()
    (tmp_path / "model" / ".git" / "HEAD").write_text("ref")
    with pytest.raises(FileExistsError, match=r"\['.git/HEAD'\]"):
        make_model(seed=1).save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / ".git" / "HEAD").read_text() == "ref"
    assert_same_model(make_model(), MultiTaskModel.from_pretrained(tmp_path / "model"))


# Faults while saving

@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("function", [
    "mtl_helpers.model.save_file", "mtl_helpers.model.json.dumps", "mtl_helpers.model.os.fsync",
    "mtl_helpers.encoder.SentenceEncoder.save_pretrained", "huggingface_hub.ModelCard.save"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_while_saving_leaves_what_was_there(
        tmp_path, monkeypatch, existing, function, error):
    before, after = make_model(seed=0), make_model(seed=1)
    if existing:
        before.save_pretrained(tmp_path / "model")

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(function, fail)
        after.save_pretrained(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"] * existing
    if existing:
        assert_same_model(before, MultiTaskModel.from_pretrained(tmp_path / "model"))


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_the_earlier_save(tmp_path, monkeypatch, failing):
    before = make_model(seed=0)
    before.save_pretrained(tmp_path / "model")
    rename, calls = Path.rename, []

    def fail_once(self, target):
        calls.append(target)
        if len(calls) == failing:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(PermissionError):
        patch.setattr(Path, "rename", fail_once)
        make_model(seed=1).save_pretrained(tmp_path / "model")
    assert_same_model(before, MultiTaskModel.from_pretrained(tmp_path / "model"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def save_and_be_killed(model, folder, step):
    """Save in a child process, killed before its `step`-th change to the disk; True if it was."""
    child = os.fork()
    if child == 0:
        changes = iter(range(1, 10_000))

        def kill_at_step(event, arguments):
            writes = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
            if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"):
                if next(changes) == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(kill_at_step)
            model.save_pretrained(folder)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_kill_at_any_step_leaves_a_whole_model(tmp_path):
    before, after = make_model(seed=0), make_model(seed=1)
    between = 0
    for step in range(1, 200):
        folder = tmp_path / str(step) / "model"
        before.save_pretrained(folder)
        if not save_and_be_killed(after, folder, step):
            break
        if not folder.exists():  # between the last two renames: both are there, beside it
            between += 1
            old, new = sorted(folder.parent.glob(".model.*"), reverse=True)
            assert_same_model(after, MultiTaskModel.from_pretrained(new))
            folder = old
        found = MultiTaskModel.from_pretrained(folder)
        weights = [model.heads["valence"].network[1].weight for model in (found, before)]
        assert_same_model(before if torch.equal(*weights) else after, found)
    assert 10 < step < 199 and between == 1
    assert_same_model(after, MultiTaskModel.from_pretrained(folder))


# Damaged and foreign folders

def rewrite(folder, change):
    """Change heads.json, then bring its checksums up to date, as someone who knows it would."""
    record = json.loads((folder / "heads.json").read_text())
    change(record)
    if isinstance(record.get("sha256"), dict):
        record["sha256"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
                            for name in record["sha256"]}
    (folder / "heads.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    make_model().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of a saved model that a test may damage."""
    for path in saved.rglob("*"):
        if path.is_file():
            target = tmp_path / "model" / path.relative_to(saved)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path / "model"


SAVED_FILES = [
    "1_Pooling/config.json", "config.json", "heads.safetensors", "model.safetensors",
    "modules.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("name", SAVED_FILES)
def test_each_missing_cut_or_altered_file_is_named(folder, name):
    content = (folder / name).read_bytes()
    one_bit = bytes([content[0] ^ 1])
    for damaged in (content[: len(content) // 2], one_bit + content[1:], b""):
        (folder / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name} is not as it was saved"):
            MultiTaskModel.from_pretrained(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"is incomplete: {name} is missing"):
        MultiTaskModel.from_pretrained(folder)


def test_the_list_of_saved_files_is_complete(saved):
    assert sorted(json.loads((saved / "heads.json").read_text())["sha256"]) == SAVED_FILES


def test_a_missing_or_edited_card_is_no_fault(folder):
    (folder / "README.md").unlink()
    assert_same_model(make_model(), MultiTaskModel.from_pretrained(folder))


@pytest.mark.parametrize("folder_of", [
    lambda path: path / "nowhere", lambda path: path, lambda path: make_file(path),
    lambda path: make_encoder().save_pretrained(path / "encoder") or path / "encoder"])
def test_a_folder_that_is_not_ours(tmp_path, folder_of):
    message = r"folder must be one that MultiTaskModel\.save_pretrained wrote, got .*heads\.json"
    with pytest.raises(FileNotFoundError, match=message):
        MultiTaskModel.from_pretrained(folder_of(tmp_path))


def make_file(path):
    (path / "file").write_text("")
    return path / "file"


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "{}", '{"format": "MultiTaskModel 2", "heads": {}, "sha256": {}}',
    '{"format": "MultiTaskModel 1", "heads": [], "sha256": {}}',
    '{"format": "MultiTaskModel 1", "heads": {}}'])
def test_a_record_that_is_not_ours(folder, text):
    (folder / "heads.json").write_text(text)
    with pytest.raises(ValueError, match=r"heads\.json does not describe saved heads"):
        MultiTaskModel.from_pretrained(folder)


@pytest.mark.parametrize(("change", "message"), [
    (lambda record: record["heads"]["genre"].update(type="os.system"),
     r"heads\['genre'\] must be one of the head_types .*got .*os\.system"),
    (lambda record: record["heads"]["genre"].pop("type"), r"heads\['genre'\] must be one of"),
    (lambda record: record["heads"].update(genre=3), r"heads\['genre'\] must be one of .* got 3"),
    (lambda record: record["heads"]["genre"]["config"].update(colour="red"), "colour"),
    (lambda record: record["heads"]["genre"]["config"].update(labels=["a", "a"]), "two or more"),
    (lambda record: record["heads"]["genre"]["config"].update(labels=["a", "b"]),
     r"heads.safetensors does not fit heads.json.*size mismatch"),
    (lambda record: record["heads"]["genre"]["config"].update(hidden_dim=7),
     "heads.safetensors does not fit heads.json"),
    (lambda record: record["heads"].pop("genre"), "does not fit heads.json.*Unexpected key"),
    (lambda record: record["heads"].update(topic=record["heads"]["genre"]),
     "does not fit heads.json.*Missing key"),
    (lambda record: record["heads"]["genre"]["config"].update(embedding_dim=384),
     r"heads\['genre'\] must have the encoder's embedding_dim, 32, got 384"),
    (lambda record: record["heads"].clear(), "heads must be one head object for each task"),
])
def test_heads_that_do_not_fit(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        MultiTaskModel.from_pretrained(folder)


@pytest.mark.parametrize("change", [
    lambda tensors: tensors.pop("genre.network.1.bias"),
    lambda tensors: tensors.update(extra=torch.zeros(1)),
    lambda tensors: tensors.update({"genre.network.1.bias": torch.zeros(5)})])
def test_altered_tensors_with_a_matching_checksum(folder, change):
    tensors = load_file(folder / "heads.safetensors")
    change(tensors)
    save_file(tensors, folder / "heads.safetensors")
    rewrite(folder, lambda record: None)
    with pytest.raises(ValueError, match=r"heads\.safetensors does not fit heads\.json"):
        MultiTaskModel.from_pretrained(folder)


def test_an_encoder_of_another_dimension_under_the_heads(folder):
    make_encoder(hidden_size=16).save_pretrained(folder)
    rewrite(folder, lambda record: None)
    message = r"heads\['genre'\] must have the encoder's embedding_dim, 16, got 32"
    with pytest.raises(ValueError, match=message):
        MultiTaskModel.from_pretrained(folder)


def test_no_code_in_the_folder_is_run(folder):
    """Not by heads.json, and not by an encoder configuration that names a module in the folder."""
    trap = f"open({str(folder / 'ran')!r}, 'w')\nclass Trap: pass\n"
    (folder / "trap.py").write_text(trap)
    (folder / "sitecustomize.py").write_text(trap)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "trap.Trap", "AutoConfig": "trap.Trap"}
    (folder / "config.json").write_text(json.dumps(config))
    rewrite(folder, lambda record: None)
    assert_same_model(make_model(), MultiTaskModel.from_pretrained(folder))
    rewrite(folder, lambda record: record["heads"]["genre"].update(type="trap.Trap"))
    with pytest.raises(ValueError, match=r"trap\.Trap"):
        MultiTaskModel.from_pretrained(folder)
    assert not (folder / "ran").exists()


# Bad input

@pytest.mark.parametrize(("heads", "message"), [
    ({}, r"heads must be one head object for each task, got \{\}"),
    ({"genre": ClassificationHead(384, GENRES)},
     r"heads\['genre'\] must have the encoder's embedding_dim, 32, got 384"),
    ({"a.b": RegressionHead(32)}, r"heads has the task 'a\.b'; a name must be a non-empty string"),
    ({"": RegressionHead(32)}, "heads has the task ''"),
    ({"items": RegressionHead(32)}, "heads has the task 'items'.*no attribute of nn.ModuleDict"),
    ({"training": RegressionHead(32)}, "heads has the task 'training'"),
    ({3: RegressionHead(32)}, "heads has the task 3"),
    (dict.fromkeys(["a", "b"], RegressionHead(32)), "heads must be one head object for each task"),
])
def test_refused_heads(heads, message):
    with pytest.raises(ValueError, match=message):
        MultiTaskModel(make_encoder(), heads)


@pytest.mark.parametrize(("sentences", "message"), [
    ([None], r"sentences\[0\]"), (["fine", 3], r"sentences\[1\]"),
    (["fine", ["a"]], r"sentences\[1\]"), (["fine", b"bytes"], r"sentences\[1\]"),
    (b"bytes", "sentences")])
def test_refused_sentences(sentences, message):
    with pytest.raises(TypeError, match=message):
        make_model().predict(sentences)
