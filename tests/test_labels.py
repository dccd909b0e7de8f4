"""Labels of every kind, from what people have to what heads learn; similarity as a task."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import make_config, make_data, make_encoder, make_model, same, weights

from mtl_helpers import (
    FrozenCache,
    MultiTaskModel,
    SimilarityHead,
    evaluate,
    fit,
    freeze,
)
from mtl_helpers.config import History
from mtl_helpers.data import LabelledSentences

NAN = float("nan")


def similar_model(seed=0, alone=False):
    model = make_model(seed=seed)
    if alone:
        return MultiTaskModel(model.encoder, {"similarity": SimilarityHead(16)})
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


# Similarity


@pytest.mark.parametrize("settings", [
    {"weighting": "uncertainty"}, {"schedule": "alternating", "dtype": "bfloat16"},
    {"weighting": {"genre": 1, "valence": 0, "sentiment": 0, "unused": 1, "similarity": 3}}])
def test_vectors_are_learned_beside_other_tasks(settings):
    model, data = similar_model(), similar_data()
    before = evaluate(model, data)["similarity"]
    history = fit(model, data, config=make_config(epochs=10, **settings))
    after = evaluate(model, data)["similarity"]
    cosine = torch.nn.functional.cosine_similarity(
        *(torch.from_numpy(vectors) for vectors in (
            model.predict(data.sentences)["similarity"].values, data.labels["similarity"])))
    assert after.mean_cosine == pytest.approx(cosine[~cosine.isnan()].mean().item(), abs=1e-6)
    assert after.n == 24 and after.mean_cosine > before.mean_cosine + 0.05
    assert after.headline == ("mean_cosine", after.mean_cosine)
    assert str(after) == f"mean cosine {after.mean_cosine:.3f}, n 24"
    assert sum(row["labels"].get("similarity", 0) for row in history.steps[:5]) <= 24
    _, losses = history.losses("similarity")
    assert losses[-1] < losses[0]


def test_similarity_alone_is_trained_saved_loaded_and_predicted(tmp_path, capsys):
    model, data = similar_model(alone=True), similar_data(tasks=())
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
    with pytest.raises(ValueError, match="select is 'mean', and needs validation data with labels"):
        fit(model, data, data, make_config(select="mean"))


def test_a_mean_by_which_weights_are_selected_leaves_similarity_out():
    data = similar_data()
    history = fit(similar_model(), data, data, make_config(select="mean"))
    for row in history.epochs:
        genre, valence = row["validation"]["genre"], row["validation"]["valence"]
        assert row["score"] == (genre["macro_f1"] + valence["pearson"]) / 2


def test_similarity_rests_while_the_encoder_is_frozen(caplog):
    data, model, plain = similar_data(), similar_model(), make_model()
    for one in (model, plain):
        freeze(one, "encoder", "head:unused")
    fit(model, data, config=make_config(), cache=FrozenCache(model, data.sentences))
    others = LabelledSentences(data.sentences, {task: data.labels[task]
                                                for task in ("genre", "valence")})
    fit(plain, others, config=make_config(), cache=FrozenCache(plain, data.sentences))
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


def test_a_stopped_run_knows_vectors_that_were_computed_again(tmp_path, monkeypatch):
    config = make_config(checkpoint_dir=tmp_path / "run", checkpoint_every=1)
    whole, stopped = similar_model(), similar_model()
    fit(whole, similar_data(), config=make_config())
    add_step = History.add_step

    def stop(history, epoch, step, *rest):
        add_step(history, epoch, step, *rest)
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(History, "add_step", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, similar_data(), config=config)
    monkeypatch.undo()
    for other, name in ((similar_data(shift=0.01), "means"), (similar_data(30), "sentences")):
        with pytest.raises(ValueError, match=f"another train {name}"):
            fit(similar_model(), other, config=config)
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    fit(similar_model(), similar_data(shift=1e-6),
        config=replace(config, checkpoint_dir=tmp_path / "again"))
    stopped = similar_model()
    fit(stopped, similar_data(), config=config)
    assert same(weights(whole), weights(stopped))


@pytest.mark.parametrize(("rows", "shown"), [
    ([[1.0, NAN], [1.0, 1.0]], "got nan"), ([[0.0, 0.0], [1.0, 1.0]], "got 0.0"),
    ([[1.0, float("inf")], [1.0, 1.0]], "got inf"), ([1.0, 1.0], r"got \(2,\)"),
    ([[1.0] * 3] * 2, r"got \(2, 3\)"), ([[1, 2], [0, -1]], None), ([[NAN] * 2, [1, 0]], None)])
def test_rows_are_vectors_or_missing_as_a_whole(rows, shown):
    head = SimilarityHead(2)
    if shown is None:
        assert head.take_labels("similarity", rows, 2).shape == (2, 2)
        return
    with pytest.raises(ValueError, match=rf"labels\['similarity'\] must be \(2, 2\) .*{shown}"):
        head.take_labels("similarity", rows, 2)
