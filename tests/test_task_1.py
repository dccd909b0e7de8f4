"""What Task 1 takes from experiments: poolings, neighbours, the contrastive loss, figures."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from sklearn.preprocessing import normalize
from test_figures import drawn, words

from experiments import contrastive, page, task_1, task_1_figures


def test_poolings_are_those_of_encode() -> None:
    encoder = tiny.make_encoder().eval()
    random = np.random.default_rng(0)
    sentences = [" ".join(random.choice(tiny.WORDS, size)) for size in random.integers(1, 20, 150)]
    for name, vectors in task_1.poolings(encoder, sentences).items():
        encoder.pooling = name
        np.testing.assert_allclose(normalize(vectors), encoder.encode(sentences), atol=1e-5)


def test_neighbours_in_a_map() -> None:
    ids = np.repeat([0, 1, 1], 11)  # three clumps of eleven points
    points = np.random.default_rng(0).normal(size=(33, 2)) + 100 * np.repeat([0, 1, 2], 11)[:, None]
    assert task_1.same_label(points, ids) == 100
    ids[0] = 1  # which makes one of ten neighbours of ten points wrong, and all of its own
    assert task_1.same_label(points, ids) == pytest.approx(100 * (10 * 0.9 + 22) / 33)
    assert task_1.by_chance(np.array([0, 0, 1, 2])) == pytest.approx(100 * 6 / 16)


def test_the_contrastive_loss_is_lowest_for_the_partner() -> None:
    vectors = torch.eye(3)
    by_hand = np.log(np.exp(20) + 2) - 20
    assert contrastive.contrastive_loss(vectors, vectors).item() == pytest.approx(by_hand, abs=1e-6)
    candidates = torch.cat([vectors.roll(1, 0), vectors])  # what is true stands in the wrong place
    wrong = contrastive.contrastive_loss(vectors, candidates)
    assert wrong.item() == pytest.approx(np.log(2 * np.exp(20) + 4), abs=1e-4)


def test_every_run_holds_out_what_it_does_not_train_on_and_is_recorded() -> None:
    for seed in range(contrastive.SEEDS):
        training, rest = contrastive.halves(seed)
        assert sorted([*training, *rest]) == list(range(16))
    for arm in contrastive.ARMS:
        before, after = contrastive.outcomes(arm)
        assert before["negated"].shape == after["negated"].shape == (contrastive.SEEDS, 8)


def test_a_listing_leaves_out_the_docstring_alone() -> None:
    lines = page.listing(contrastive.contrastive_loss).splitlines()
    assert lines[0].startswith("def contrastive_loss(") and lines[1].startswith("    scores = ")
    assert len(lines) == 3


def test_the_figures_of_the_page_show_each_pair() -> None:
    cosines = {kind: np.full(2, 0.5) for kind in ("paraphrase", "synonym", "negated")}
    cosines["negated"] = np.array([0.6, 0.4])
    (axis,) = drawn(task_1_figures.plot_negations({"A": cosines}, "finding"))
    lines = [line.get_color() for line in axis.lines if len(line.get_xdata()) == 2]
    assert lines == [task_1_figures.CLOSER, task_1_figures.FURTHER]
    assert axis.get_title() == "A\n1 of 2 negations are closer"
    square = np.array([[1.0, 0.25], [0.25, 1.0]])
    axis, _ = drawn(task_1_figures.plot_cosines(square, ["one", "two"], [(0, 1)], "finding"))
    assert words(axis.texts) == ["1.00", "0.25", "1.00"] and axis.patches[0].get_xy() == (0.5, -0.5)
