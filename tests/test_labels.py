"""Labels of every kind, from what people have to what heads learn; similarity as a task."""

import shutil
from dataclasses import replace

import datasets
import numpy as np
import pandas
import pytest
import torch
from sklearn import metrics
from tiny import make_config, make_data, make_encoder, make_model, same, weights
from training_process import stopped_at

from mtl_helpers import MENTIONS, concatenate, evaluate, fit, make_sentences, split_corpus
from mtl_helpers.data import LabelledSentences, assert_no_leakage, is_known
from mtl_helpers.freezing import FrozenCache, freeze
from mtl_helpers.heads import ClassificationHead, MultiLabelHead, RegressionHead, SimilarityHead
from mtl_helpers.losses import task_losses
from mtl_helpers.model import MultiTaskModel

NAN = float("nan")


def similar_model():
    model = make_model()
    model.heads["similarity"] = SimilarityHead(16)
    return model


def similar_data(n=37, shift=0.0, tasks=("genre", "valence")):
    """Vectors of another encoder, rounded otherwise where shifted; two of three are there."""
    data = make_data(n)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        vectors = make_encoder().encode(data.sentences) + np.float32(shift)
    vectors[::3] = NAN
    labels = {task: data.labels[task] for task in tasks}
    return LabelledSentences(data.sentences, labels | {"similarity": vectors})


@pytest.mark.parametrize("settings", [
    {"weighting": "uncertainty"}, {"schedule": "alternating", "dtype": "bfloat16"},
    {"weighting": {"genre": 1, "valence": 0, "sentiment": 0, "unused": 1, "similarity": 3}}])
def test_vectors_are_learned_beside_other_tasks_and_no_mean_counts_them(settings):
    model, data = similar_model(), similar_data()
    before = evaluate(model, data)["similarity"].mean_cosine
    history = fit(model, data, data, make_config(epochs=10, select="mean", **settings))
    for row in history.epochs:
        genre, valence = row["validation"]["genre"], row["validation"]["valence"]
        assert row["score"] == (genre["macro_f1"] + valence["pearson"]) / 2
    assert row["validation"]["similarity"]["mean_cosine"] > before + 0.05
    found, given = model.predict(data.sentences)["similarity"].values, data.labels["similarity"]
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(given, axis=1)
    cosine, report = np.nanmean((found * given).sum(1) / norms), evaluate(model, data)["similarity"]
    assert report.n == 24 and report.headline == ("mean_cosine", pytest.approx(cosine, abs=1e-6))
    assert sum(row["labels"].get("similarity", 0) for row in history.steps[:5]) <= 24
    _, losses = history.losses("similarity")
    assert losses[-1] < losses[0]


def test_similarity_alone_is_trained_saved_loaded_and_predicted(tmp_path, capsys):
    model = MultiTaskModel(make_model().encoder, {"similarity": SimilarityHead(16)})
    data = similar_data(tasks=())
    before = evaluate(model, data)["similarity"].mean_cosine
    history = fit(model, data, data, make_config(epochs=6, select="similarity", progress=True,
                                                 checkpoint_dir=tmp_path / "run"))
    assert history.epochs[history.best_step // 5 - 1]["score"] > before + 0.05
    assert "similarity cosine 0." in capsys.readouterr().out
    model.save_pretrained(tmp_path / "model")
    again = MultiTaskModel.from_pretrained(tmp_path / "model")
    assert "| similarity | SimilarityHead | vector |" in (tmp_path / "model/README.md").read_text()
    values = again.predict(data.sentences)["similarity"].values
    np.testing.assert_array_equal(values, model.encoder.encode(data.sentences))
    with pytest.raises(ValueError, match="select must be .* mean .*, got 'mean'"):
        fit(model, data, data, make_config(select="mean"))


def test_similarity_rests_while_the_encoder_is_frozen(caplog):
    data, model, plain = similar_data(), similar_model(), make_model()
    others = {task: data.labels[task] for task in ("genre", "valence")}
    for one, given in ((model, data), (plain, replace(data, labels=others))):
        freeze(one, "encoder", "head:unused")
        fit(one, given, config=make_config(), cache=FrozenCache(one, data.sentences))
    assert same(weights(model), weights(plain))
    assert [record.getMessage() for record in caplog.records] == [
        "similarity rests: it has no weights and the encoder is frozen"]
    with pytest.raises(ValueError, match="'similarity'. has nothing to train"):
        fit(model, replace(data, labels={"similarity": data.labels["similarity"]}))


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_labels_that_repeat_beside_many_sentences_without_are_told(caplog, schedule):
    data = similar_data(60, tasks=["valence"])  # 12 values, 40 vectors
    fit(similar_model(), data, config=make_config(schedule=schedule, batch_size=4))
    told = ["an epoch uses each label of valence 3.3 times; schedule='joint' uses it once"]
    found = [record.getMessage() for record in caplog.records]
    assert found == (told if schedule == "alternating" else [])


def test_a_stopped_run_knows_vectors_that_were_computed_again(tmp_path):
    config = make_config(checkpoint_dir=tmp_path / "run", checkpoint_every=1)
    with stopped_at(4):
        fit(similar_model(), similar_data(), config=config)
    for other, name in ((similar_data(shift=0.01), "means"), (similar_data(30), "sentences")):
        with pytest.raises(ValueError, match=f"another train {name}"):
            fit(similar_model(), other, config=config)
    again = shutil.copytree(tmp_path / "run", tmp_path / "again")
    fit(similar_model(), similar_data(shift=1e-6), config=replace(config, checkpoint_dir=again))
    whole, stopped = similar_model(), similar_model()
    fit(whole, similar_data(), config=make_config())
    fit(stopped, similar_data(), config=config)
    assert same(weights(whole), weights(stopped))


@pytest.mark.parametrize(("rows", "shown"), [
    ([[1.0, NAN], [1.0, 1.0]], r"\[1.0, nan\]"), ([[0.0, 0.0], [1.0, 1.0]], r"\[0.0, 0.0\]"),
    ([[1.0, float("inf")], [1.0, 1.0]], r"\[1.0, inf\]"), ([1.0, 1.0], r"\(2,\)"),
    ([[1.0] * 3] * 2, r"\(2, 3\)")])
def test_rows_are_vectors_or_missing_as_a_whole(rows, shown):
    take = SimilarityHead(2).take_labels
    with pytest.raises(ValueError, match=rf"labels\['near'\] must be \(2, 2\) .*got {shown}"):
        take("near", rows, 2)
    assert take("near", [[1, 2], [0, -1]], 2).shape == take("near", [[NAN] * 2, [1, 0]], 2).shape


def test_losses_and_gradients_of_vectors_are_those_of_their_known_entries():
    torch.manual_seed(0)
    heads = {"tags": MultiLabelHead(4, ["a", "b", "c"]), "near": SimilarityHead(4)}
    tags = heads["tags"].double().eval()
    inputs = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(3, 4, dtype=torch.float64)
    target[1] = NAN
    labels = {"tags": torch.tensor([[1, NAN, 0], [NAN, NAN, NAN], [0, 1, 1]]), "near": target}
    losses = task_losses(heads, {"tags": tags(inputs), "near": inputs}, labels)
    found = torch.autograd.grad(losses["tags"].mean + losses["near"].mean, inputs)[0]
    p, near = tags(inputs).sigmoid(), torch.nn.functional.cosine_similarity(
        inputs[[0, 2]], target[[0, 2]])
    rows = [-(p[0, 0].log() + (1 - p[0, 2]).log()) / 2,
            -((1 - p[2, 0]).log() + p[2, 1].log() + p[2, 2].log()) / 3]
    expected = sum(rows) / 2 + (2 - near.sum()) / 2
    torch.testing.assert_close(losses["tags"].mean, sum(rows) / 2, rtol=0, atol=1e-9)
    torch.testing.assert_close(found, torch.autograd.grad(expected, inputs)[0], rtol=0, atol=1e-9)
    assert found[1].eq(0).all() and losses["tags"].count == losses["near"].count == 2


def test_a_mixed_batch_with_every_kind_of_head_has_the_gradients_of_its_known_labels():
    model = similar_model()
    model.heads["tags"] = MultiLabelHead(16, ["a", "b", "c"])
    model.double().eval()
    data = similar_data(12, tasks=("genre", "sentiment", "valence"))
    tags = np.random.default_rng(0).integers(0, 2, (12, 3)).astype(np.float32)
    tags[::4], tags[1, 0] = NAN, NAN
    data.labels["tags"] = tags

    def losses(rows, tasks):
        ids, mask = model.encoder.collate(model.encoder.tokenize(data.select(rows).sentences))
        labels = {task: torch.from_numpy(data.labels[task][rows]) for task in tasks}
        return [one.mean for one in task_losses(model.heads, model(ids, mask), labels).values()]

    expected = 0  # each label alone
    for task, labels in data.labels.items():
        known = np.flatnonzero(is_known(labels))
        expected += sum(losses([row], [task])[0] for row in known) / len(known)
    found = sum(losses(range(12), data.labels))
    trained = [one for one in model.parameters() if one.requires_grad]  # no pooler
    torch.testing.assert_close(*(torch.autograd.grad(
        total, trained, allow_unused=True, materialize_grads=True) for total in (found, expected)),
        rtol=0, atol=1e-9)


def test_mentions_are_reached_saved_and_reported_as_by_scikit_learn(tmp_path):
    sentences, labels = make_sentences(300, tasks=("topic", "mentions"))
    plain, others = make_sentences(300)
    assert sentences == plain and (labels["topic"] == others["topic"]).all()
    mentions = labels["mentions"]
    assert mentions.sum() == sum(phrase in one for one in sentences for phrase in MENTIONS)
    head = MultiLabelHead(16, ["a", "b", "c"], dropout=0.0)
    model, words = MultiTaskModel(make_model().encoder, {"tags": head}), make_data(60).sentences
    tags = np.array([[word in one for word in ("good", "film", "very")] for one in words])
    data = LabelledSentences(words, {"tags": tags})
    history = fit(model, data, data, make_config(epochs=60, encoder_lr=3e-3, select="tags"))
    model.save_pretrained(tmp_path / "model")
    report = evaluate(MultiTaskModel.from_pretrained(tmp_path / "model"), data)["tags"]
    prediction = model.predict(words)["tags"]
    assert history.epochs[-1]["loss"]["tags"] < 0.2 and report.macro_f1 > 0.9
    for average in ("macro", "micro"):
        scores = metrics.precision_recall_fscore_support(tags, prediction.ids, average=average)
        assert [getattr(report, f"{average}_{name}") for name in ("precision", "recall", "f1")] == (
            pytest.approx(scores[:3]))
    assert report.headline == ("macro_f1", report.macro_f1)
    assert prediction.labels[0] == ["abc"[i] for i in np.flatnonzero(prediction.ids[0])]
    with pytest.raises(ValueError, match="must be .60, 3. 0 and 1, or NaN .* got .*2.0"):
        evaluate(model, LabelledSentences(words, {"tags": tags * 2}))


@pytest.mark.parametrize(("given", "ids", "names"), [
    (["b", "a", None, "", NAN], [1, 0, -100, -100, -100], ["a", "b"]),
    (np.array(["b", "a", "c", "a", "b"]), [1, 0, 2, 0, 1], ["a", "b", "c"]),
    (np.array(["b", None, "a", NAN, "b"], dtype=object), [1, -100, 0, -100, 1], ["a", "b"]),
    ([1, None, 0, -100, 2], [1, -100, 0, -100, 2], None),
    (iter([np.int8(1), 0, 2, 2, 2]), [1, 0, 2, 2, 2], None), ([None] * 5, [-100] * 5, None),
    (np.ma.array([1, 7, 0, 2, 2], mask=[0, 1, 0, 0, 0]), [1, -100, 0, 2, 2], None)])
def test_names_and_numbers_become_ids(given, ids, names):
    data = LabelledSentences(list("vwxyz"), {"task": given})
    assert data.labels["task"].tolist() == ids and data.labels["task"].dtype == np.int64
    assert data.names == ({"task": names} if names else {})
    assert data.select([4, 0]).names == data.names


def test_columns_of_pandas_and_datasets_whatever_their_index():
    table = pandas.DataFrame({"text": list("vwxyz"), "name": ["b", None, "a", "a", pandas.NA],
                              "id": pandas.array([1, None, 0, 2, 1], dtype="Int64")},
                             index=[7, 7, 3, 0, 1])
    table["kind"] = table["name"].astype("category")
    table["vector"] = [np.array([i, i + 0.5]) for i in range(5)]
    data = LabelledSentences(table["text"], dict(table.drop(columns="text")))
    assert data.labels["id"].tolist() == [1, -100, 0, 2, 1] and data.sentences == list("vwxyz")
    assert data.labels["name"].tolist() == data.labels["kind"].tolist() == [1, -100, 0, 0, -100]
    assert data.labels["vector"].shape == (5, 2) and data.names["kind"] == ["a", "b"]
    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "name": ["b", "a"], "id": [0, 1]})
    data = LabelledSentences(rows["text"], {"name": rows["name"], "id": rows["id"]})
    assert data.labels["name"].tolist() == [1, 0] and data.labels["id"].tolist() == [0, 1]


def test_a_head_takes_what_fits_it_and_refuses_other_names():
    head, values = ClassificationHead(2, np.array(["a", "b"])), RegressionHead(2)
    assert head.take_labels("task", [1.0, NAN, -100.0], 3).tolist() == [1, -100, -100]
    assert values.take_labels("task", [3, -100], 2).nan_to_num(-1).tolist() == [3.0, -1.0]
    with pytest.raises(ValueError, match="takes numbers, not text"):
        values.take_labels("task", [0, 1], 2, ["a", "b"])
    model, sentences = make_model(), ["film", "phone", "news"]
    wrong = LabelledSentences(sentences, {"genre": ["review", "news", "review"]})
    for call in (fit, evaluate):
        with pytest.raises(ValueError, match=r"names=\{'genre': heads\['genre'\].labels\}"):
            call(model, wrong)
    right = LabelledSentences(sentences, {"genre": ["review", "news", "review"]},
                              names={"genre": model.heads["genre"].labels})
    assert right.labels["genre"].tolist() == [0, 1, 0]
    assert evaluate(model, right)["genre"].n == 3


def test_data_sets_become_one():
    first = LabelledSentences(["x", "y"], {"a": ["n", "m"], "v": [0.5, NAN]}, ["d", "d"])
    second = LabelledSentences(["x", "z"], {"a": ["k", None], "w": np.eye(2)})
    empty = LabelledSentences(["u"], {"a": [NAN]})
    both = concatenate(first, second, empty)
    assert both.names == {"a": ["k", "m", "n"]} and both.sentences == ["x", "y", "x", "z", "u"]
    assert both.labels["a"].tolist() == [2, 1, 0, -100, -100]
    np.testing.assert_array_equal(both.labels["v"], [0.5, NAN, NAN, NAN, NAN])
    np.testing.assert_array_equal(both.labels["w"][1:], [[NAN] * 2, [1, 0], [0, 1], [NAN] * 2])
    assert both.groups[0] == both.groups[1] and len(set(both.groups)) == 4


def test_tiny_data_is_split_and_text_is_the_same_however_it_is_spelled():
    data = LabelledSentences(["caf\u00e9 12", "b", "c", "CAFE\u0301\u00a0\u200b\uff11\uff12"],
                             {"v": np.eye(4)})
    splits = split_corpus(data)
    assert sorted(map(len, splits)) == [1, 1, 2] and splits[0].labels["v"].shape[1] == 4
    with pytest.raises(ValueError, match="100 % of the 1 sentences of split 2"):
        assert_no_leakage(data.select([0]), data.select([3]))
