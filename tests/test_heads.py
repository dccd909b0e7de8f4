"""Heads: shapes, what they compute by hand, reproducible weights, refused arguments."""

import json
import math
import re

import numpy as np
import pytest
import torch

from mtl_helpers.heads import ClassificationHead, Head, Prediction, RegressionHead

SENTIMENTS = ["negative", "neutral", "positive"]


@pytest.mark.parametrize("hidden_dim", [None, 5])
@pytest.mark.parametrize("sentences", [0, 1, 7])
def test_shapes(hidden_dim, sentences):
    embeddings = torch.randn(sentences, 8)
    assert ClassificationHead(8, SENTIMENTS, hidden_dim)(embeddings).shape == (sentences, 3)
    assert RegressionHead(8, hidden_dim)(embeddings).shape == (sentences,)


def test_a_linear_head_is_a_matrix_product_and_a_hidden_layer_adds_gelu():
    embeddings = torch.randn(4, 8)
    linear = ClassificationHead(8, SENTIMENTS).eval()
    weight, bias = linear.parameters()
    torch.testing.assert_close(linear(embeddings), embeddings @ weight.T + bias)

    deep = ClassificationHead(8, SENTIMENTS, hidden_dim=5).eval()
    weight_1, bias_1, weight_2, bias_2 = deep.parameters()
    hidden = torch.nn.functional.gelu(embeddings @ weight_1.T + bias_1)
    torch.testing.assert_close(deep(embeddings), hidden @ weight_2.T + bias_2)


@pytest.mark.parametrize("hidden_dim", [None, 16])
def test_dropout_acts_in_training_only(hidden_dim):
    torch.manual_seed(0)
    embeddings = torch.randn(4, 8)
    head = ClassificationHead(8, SENTIMENTS, hidden_dim, dropout=0.5)
    assert not torch.equal(head(embeddings), head(embeddings))
    head.eval()
    assert torch.equal(head(embeddings), head(embeddings))
    without = ClassificationHead(8, SENTIMENTS, hidden_dim, dropout=0.0)
    assert torch.equal(without(embeddings), without(embeddings))


def test_torch_manual_seed_fixes_the_initial_weights():
    def weights(seed):
        torch.manual_seed(seed)
        head = ClassificationHead(8, SENTIMENTS, hidden_dim=5)
        return torch.nn.utils.parameters_to_vector(head.parameters())

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_an_untrained_head_costs_about_log_k():
    torch.manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(300, 384))
    head = ClassificationHead(384, SENTIMENTS).eval()
    loss = head.loss(head(embeddings), torch.arange(300) % 3).mean()
    assert loss.item() == pytest.approx(math.log(3), abs=0.01)


def test_loss_is_one_number_a_sentence_and_agrees_with_a_calculation_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]], dtype=torch.float64)
    losses = ClassificationHead(8, SENTIMENTS).loss(logits, torch.tensor([0, 2]))
    by_hand = [-math.log(math.exp(2) / (math.exp(2) + 1 + math.exp(-1))), math.log(3)]
    np.testing.assert_allclose(losses.numpy(), by_hand, rtol=1e-12)

    values = torch.tensor([1.0, -0.5], dtype=torch.float64)
    losses = RegressionHead(8).loss(values, torch.tensor([3.0, -1.0]))
    np.testing.assert_allclose(losses.numpy(), [4.0, 0.25], rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_decode_gives_names_ids_and_probabilities(dtype):
    logits = torch.tensor([[2.0, 0.0, -1.0], [-1.0, 0.0, 3.0], [0.0, 1.0, 0.0]], dtype=dtype)
    prediction = ClassificationHead(8, SENTIMENTS).decode(logits)
    assert prediction.labels == ["negative", "positive", "neutral"]
    assert prediction.ids.tolist() == [0, 2, 1] and prediction.ids.dtype == np.int64
    assert prediction.probabilities.dtype == np.float32
    expected = np.exp([2.0, 0.0, -1.0]) / np.exp([2.0, 0.0, -1.0]).sum()
    np.testing.assert_allclose(prediction.probabilities[0], expected, rtol=1e-6)
    assert prediction.values is None


def test_decode_of_a_regression_and_of_no_sentence():
    prediction = RegressionHead(8).decode(torch.tensor([0.5, -2.0], dtype=torch.float64))
    assert prediction.values.dtype == np.float32 and prediction.values.tolist() == [0.5, -2.0]
    assert prediction.labels is prediction.ids is prediction.probabilities is None
    empty = ClassificationHead(8, SENTIMENTS).decode(torch.zeros(0, 3))
    assert empty.labels == [] and empty.ids.shape == (0,) and empty.probabilities.shape == (0, 3)


@pytest.mark.parametrize("head", [
    ClassificationHead(8, SENTIMENTS, hidden_dim=5, dropout=0.3), ClassificationHead(8, ("a", "b")),
    RegressionHead(8, hidden_dim=5), RegressionHead(8, dropout=0.0)])
def test_config_survives_json_and_builds_the_same_head(head):
    again = type(head)(**json.loads(json.dumps(head.config)))
    assert again.config == head.config and repr(again) == repr(head)
    assert getattr(again, "labels", None) == getattr(head, "labels", None)


def test_labels_of_a_head_are_its_own_copy():
    names = ["a", "b"]
    head = ClassificationHead(8, names)
    names.append("c")
    assert head.labels == head.config["labels"] == ["a", "b"]


def test_the_contract_alone_is_not_a_head():
    head = Head(8, output_dim=3)
    with pytest.raises(NotImplementedError):
        head.loss(torch.zeros(1, 3), torch.zeros(1))
    with pytest.raises(NotImplementedError):
        head.decode(torch.zeros(1, 3))


def test_a_new_kind_of_head_is_one_small_class():
    class CountHead(Head):
        """A count of 0 or more, from a softplus."""
        likelihood = "gaussian"

        def forward(self, embeddings):
            return torch.nn.functional.softplus(super().forward(embeddings)).squeeze(-1)

        def loss(self, logits, labels):
            return (logits - labels) ** 2

        def decode(self, logits):
            return Prediction(values=logits.round().numpy())

    head = CountHead(8, hidden_dim=4).eval()
    with torch.no_grad():
        values = head(torch.randn(6, 8))
    assert values.shape == (6,) and (values > 0).all()
    assert CountHead(**head.config).config == head.config


@pytest.mark.parametrize("labels", [
    [], ["only"], ["a", "b", "a"], "abc", None, 3, [0, 1], ["a", None], ["a", ""], {"a": 0}])
def test_refused_label_lists(labels):
    message = re.escape(f"labels must list two or more different names, got {labels!r}")
    with pytest.raises(ValueError, match=message):
        ClassificationHead(8, labels)


@pytest.mark.parametrize("arguments", [
    {"embedding_dim": 0}, {"embedding_dim": -1}, {"embedding_dim": 8.0}, {"embedding_dim": True},
    {"embedding_dim": None}, {"embedding_dim": "8"}, {"embedding_dim": 8, "hidden_dim": 0},
    {"embedding_dim": 8, "hidden_dim": 2.5}])
def test_refused_dimensions(arguments):
    with pytest.raises(ValueError, match="embedding_dim and hidden_dim must be positive ints, got"):
        RegressionHead(**arguments)
    with pytest.raises(ValueError, match="embedding_dim and hidden_dim must be positive ints, got"):
        ClassificationHead(labels=SENTIMENTS, **arguments)


@pytest.mark.parametrize("dropout", [1, 1.5, -0.1, math.nan])
def test_refused_dropout(dropout):
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1, got"):
        RegressionHead(8, dropout=dropout)
