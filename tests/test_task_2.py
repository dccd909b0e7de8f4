"""What Task 2 takes from experiments, and the solutions under its exercises, executed."""

import re

import documents
import numpy as np
import pytest
import tiny
import torch
from test_figures import drawn, words

from experiments import gradients, task_2, task_2_figures
from mtl_helpers import task_losses

CELLS = documents.read(documents.ROOT / "Task_2.ipynb").cells
SOLUTION = re.compile(r"<details><summary>Solution (\d)</summary>.*?```python\n(.*?)```", re.S)
SOLUTIONS = {number: code for cell in CELLS for number, code in SOLUTION.findall(cell.source)}


def two_heads():
    model = tiny.make_model(dropout=0.0)
    del model.heads["valence"], model.heads["unused"]
    return model


def test_gradients_are_those_of_backward_part_by_part_and_losses_can_be_held_fixed():
    model, data = two_heads(), tiny.make_data(24)
    norms = gradients.norms(model, data)
    names = list(gradients.parts(model))
    assert names == ["embeddings", "layer 1", "layer 2", "head:genre", "head:sentiment"]
    inputs = model.encoder.collate(model.encoder.tokenize(data.sentences))
    labels = {task: data.labels[task] for task in model.heads}
    losses = task_losses(model.heads, model(*inputs), labels)
    for column, loss in enumerate(losses.values()):
        whole = gradients.in_encoder(model, loss.mean)
        assert whole.norm().item() == pytest.approx(np.linalg.norm(norms[:3, column]), rel=1e-5)
    for task, fixed in task_2.held_fixed(losses).items():
        assert not fixed.sum.requires_grad and fixed.mean == losses[task].mean
    assert np.isnan(norms).tolist() == [[False] * 2] * 3 + [[False, True], [True, False]]


def test_a_copy_agrees_fully_and_its_opposite_not_at_all():
    data = tiny.make_data(24)
    found = gradients.agreement(two_heads(), data, batches=3, size=8)
    assert found.other_task.shape == (3, 3) and found.other_sentences.shape == (2, 3)
    np.testing.assert_allclose(found.copied, 1, atol=1e-5)
    np.testing.assert_allclose(found.negated, -1, atol=1e-5)
    again = gradients.agreement(two_heads(), data.select([*range(8)] * 2), batches=2, size=8)
    np.testing.assert_allclose(again.other_sentences, 1, atol=1e-5)
    assert abs(found.other_task).max() < 1


def test_each_word_of_a_cue_has_its_tag():
    encoder = tiny.make_encoder()
    sentences = ["The curry from the local kitchen was perfect, as Maria wrote in May.",
                 "As Maria put it in May, the bus tour along the coast was perfect."]
    tags = task_2.word_tags(encoder, sentences)
    assert tags.shape == encoder.collate(encoder.tokenize(sentences))[0].shape == (2, 18)
    assert tags[1].tolist() == [-100, *[0] * 8, *[1] * 5, 2, 2, 0, -100]
    assert tags[0].tolist() == [-100, 0, *[1] * 5, 2, 2, *[0] * 7, -100, -100]
    with pytest.raises(ValueError, match="must have a cue of topic, got 'no'"):
        task_2.word_tags(encoder, ["no"])


def test_heads_learn_vectors_that_a_plane_separates():
    ids = np.arange(60) % 3
    vectors = np.eye(3, 8, dtype=np.float32)[ids]
    labels = {"genre": ids, "sentiment": ids}
    for hidden in (None, 8):
        heads = task_2.train_heads(vectors, labels, hidden)
        assert task_2.head_scores(heads, vectors, labels) == [100, 100]


def test_the_figures_say_where_a_gradient_is_and_how_much_the_tasks_agree():
    norms = np.array([[1.0, 2.0], [np.nan, 0.5]] * 3)
    (axis,) = drawn(task_2_figures.plot_reach(norms, list("abcdef"), ["one", "two"], "finding"))
    assert words(axis.texts) == ["gradient, norm 1.00", "gradient, norm 2.00", "no gradient",
                                 "gradient, norm 0.50"] * 3
    assert [patch.get_alpha() > 0 for patch in axis.patches] == [True, True, False, True] * 3
    cosines = {"A": np.array([[0.1, 0.0], [0.3, 0.0]]), "B": np.array([[0.0, -0.1], [0.0, 0.1]])}
    (axis,) = drawn(task_2_figures.plot_agreement(cosines, ["a", "b"], "finding"))
    ends = [bar[:, 1] for c in axis.containers for bar in c[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[0, 0.4], [0, 0], [0, 0], [-0.2, 0.2]], atol=1e-9)


def solved(number, *ids, **given):
    """The names after a solution, which begins with those of the page's imports and cells."""
    names = {"DEVICE": "cpu", **given}
    for cell in CELLS:
        if cell.id in ("imports", *ids):
            exec(cell.source, names)
    exec(compile(SOLUTIONS[number], f"Task 2, solution {number}", "exec"), names)
    return names


def test_an_ordinal_loss_knows_how_far_a_miss_is():
    names = solved("1")
    assert names["by_one"] < names["by_four"] - 1
    plain = names["ClassificationHead"](384, names["steps"])
    assert len(plain.loss(names["sure"], torch.tensor([3, 0])).unique()) == 1
    right = names["OrdinalHead"](384, names["steps"]).loss(names["sure"][:1], torch.tensor([4]))
    assert right < names["by_one"]


@pytest.mark.documents
def test_half_of_the_labels_cost_what_the_solution_says():
    lost = solved("2", "cell-06", "cell-21")["lost"]
    for task, told in (("genre", 2.2), ("sentiment", 6.8)):
        assert -100 * lost[task].difference == pytest.approx(told, abs=1.5)
    ends = -100 * lost["sentiment"].high, -100 * lost["sentiment"].low
    assert ends == pytest.approx((3.4, 10.4), abs=1.5)


@pytest.mark.parametrize(("other", "cosine"), [([1.0, -1.0], 0.0), ([-1.0, -1.0], 0.5**0.5)])
def test_gradient_surgery_removes_only_what_disagrees(other, cosine):
    one = torch.tensor([3.0, 0.0])
    names = solved("3", genre=one, sentiment=torch.tensor(other))
    assert names["cosine"] == pytest.approx(cosine, abs=1e-6)
