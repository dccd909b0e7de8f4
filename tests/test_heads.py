"""Heads and losses: by hand, missing labels, gradients of mixed and split batches, weightings."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_helpers.data import is_known
from mtl_helpers.heads import ClassificationHead, Head, RegressionHead
from mtl_helpers.losses import (
    WEIGHTINGS,
    StaticWeighting,
    TaskLoss,
    UncertaintyWeighting,
    check_labels,
    has_label,
    make_weighting,
    masked_losses,
    task_losses,
)

GENRES = ["movie review", "product review", "news editorial", "tweet"]
SENTIMENTS = ["negative", "neutral", "positive"]
TASKS = ("genre", "sentiment", "valence")
NAN = math.nan
MISSING = {"genre": -100, "sentiment": -100, "valence": NAN}
close = torch.testing.assert_close


def make_heads():
    return {"genre": ClassificationHead(6, GENRES, hidden_dim=5, dropout=0.0),
            "sentiment": ClassificationHead(6, SENTIMENTS, dropout=0.0),
            "valence": RegressionHead(6, dropout=0.0)}


def make_batch(size=10, missing=0.4, seed=0):
    """Heads, embeddings, and labels of which about this share is missing in each task."""
    torch.manual_seed(0)
    heads, rng = torch.nn.ModuleDict(make_heads()).double(), np.random.default_rng(seed)
    labels = {"genre": rng.integers(4, size=size), "sentiment": rng.integers(3, size=size),
              "valence": rng.normal(size=size)}
    for task, values in labels.items():
        values[rng.random(size) < missing] = MISSING[task]
    embeddings = torch.from_numpy(rng.normal(size=(size, 6))).requires_grad_()
    return heads, embeddings, {task: torch.from_numpy(values) for task, values in labels.items()}


def logits_of(heads, embeddings):
    return {task: head(embeddings) for task, head in heads.items()}


def gradient(total, *tensors):
    """Gradient of a scalar as one vector, with zeros where there is none."""
    found = torch.autograd.grad(total, tensors, retain_graph=True, allow_unused=True,
                                materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize("sentences", [0, 1, 7])
def test_heads_are_matrix_products_and_a_hidden_layer_adds_gelu(sentences):
    embeddings = torch.randn(sentences, 8)
    linear = ClassificationHead(8, SENTIMENTS).eval()
    weight, bias = linear.parameters()
    close(linear(embeddings), embeddings @ weight.T + bias)
    deep = RegressionHead(8, hidden_dim=5).eval()
    weight_1, bias_1, weight_2, bias_2 = deep.parameters()
    hidden = torch.nn.functional.gelu(embeddings @ weight_1.T + bias_1)
    close(deep(embeddings), (hidden @ weight_2.T + bias_2)[:, 0])


@pytest.mark.parametrize("hidden_dim", [None, 16])
def test_dropout_acts_in_training_only_and_a_seed_fixes_the_weights(hidden_dim):
    embeddings, heads = torch.randn(4, 8), []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        heads.append(ClassificationHead(8, SENTIMENTS, hidden_dim, dropout=0.5))
    head = heads[0]
    assert not torch.equal(head(embeddings), head(embeddings))
    first, second, other = (head.eval()(embeddings) for head in heads)
    assert torch.equal(first, second) and not torch.equal(first, other)
    kinds = [type(module) for module in head.modules()]
    assert kinds.count(torch.nn.Dropout) == kinds.count(torch.nn.Linear), "one before each"


def test_an_untrained_head_costs_about_log_k():
    torch.manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(300, 384))
    head = ClassificationHead(384, SENTIMENTS).eval()
    losses = head.loss(head(embeddings), torch.arange(300) % 3)
    assert losses.mean().item() == pytest.approx(math.log(3), abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_decode_gives_names_ids_and_probabilities_or_values(dtype):
    logits = torch.tensor([[2.0, 0.0, -1.0], [-1.0, 0.0, 3.0], [0.0, 1.0, 0.0],
                           [1.0, 0.0, 1.0]], dtype=dtype)
    head = ClassificationHead(8, SENTIMENTS)
    prediction = head.decode(logits)
    assert prediction.labels == ["negative", "positive", "neutral", "negative"]
    assert prediction.ids.tolist() == [0, 2, 1, 0] and prediction.ids.dtype == np.int64
    assert prediction.probabilities.dtype == np.float32 and prediction.values is None
    expected = np.exp([2.0, 0.0, -1.0]) / np.exp([2.0, 0.0, -1.0]).sum()
    np.testing.assert_allclose(prediction.probabilities[0], expected, rtol=1e-6)
    empty = head.decode(logits[:0])
    assert empty.labels == [] and empty.ids.shape == (0,) and empty.probabilities.shape == (0, 3)
    prediction = RegressionHead(8).decode(torch.tensor([0.5, -2.0], dtype=dtype))
    assert prediction.values.dtype == np.float32 and prediction.values.tolist() == [0.5, -2.0]
    assert prediction.labels is prediction.ids is prediction.probabilities is None


@pytest.mark.parametrize("head", [
    ClassificationHead(8, SENTIMENTS, hidden_dim=5, dropout=0.3), ClassificationHead(8, ("b", "a")),
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


def test_the_contract_alone_is_no_head_and_a_new_kind_is_one_small_class():
    class CountHead(Head):
        likelihood = "gaussian"

        def forward(self, embeddings):
            return torch.nn.functional.softplus(super().forward(embeddings)).squeeze(-1)

        def loss(self, logits, labels):
            return (logits - labels) ** 2

    with pytest.raises(NotImplementedError):
        Head(8, output_dim=3).loss(torch.zeros(1, 3), torch.zeros(1, 3))
    head = CountHead(8, hidden_dim=4).eval()
    logits = head(torch.randn(6, 8))
    assert logits.shape == (6,) and (logits > 0).all()
    assert CountHead(**head.config).config == head.config
    loss = task_losses({"count": head}, {"count": logits}, {"count": torch.full((6,), 2.0)})
    close(loss["count"].mean, ((logits - 2) ** 2).mean())


def test_losses_by_hand():
    logits = {"genre": torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 0]]),
              "valence": torch.tensor([1.0, 1e30, 3.0], requires_grad=True)}
    labels = {"genre": [0, 0, -100], "valence": [0.5, NAN, 5.0]}
    losses = task_losses(make_heads(), logits, labels)
    first, second = -math.log(math.e / (math.e + 3)), -math.log(1 / (math.e**2 + 3))
    by_hand = {"genre": first + second, "valence": 0.25 + 4}
    assert list(losses) == list(by_hand)
    for task, expected in by_hand.items():
        assert losses[task].sum.item() == pytest.approx(expected)
        assert losses[task].mean.item() == pytest.approx(expected / 2)
        assert losses[task].count.item() == losses[task].batch_count.item() == 2
    losses["valence"].mean.backward()
    assert logits["valence"].grad.tolist() == [0.5, 0.0, -2.0], "no trace of what is missing"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    logits = torch.randn(400, 4).to(dtype)
    labels = {"genre": torch.zeros(400, dtype=torch.int64)}
    loss = task_losses(make_heads(), {"genre": logits}, labels)["genre"]
    assert loss.sum.dtype == torch.float32
    exact = task_losses(make_heads(), {"genre": logits.double()}, labels)["genre"]
    assert loss.mean.item() == pytest.approx(exact.mean.item(), rel=1e-5)


@pytest.mark.parametrize("values", [
    np.array([0, -100, 3]), np.array([0, -100, 3], np.int32), np.array([0.0, NAN, -100.0]),
    np.array([0, NAN, math.inf], np.float32)])
def test_tensors_and_arrays_agree_on_what_is_missing(values):
    assert has_label(torch.from_numpy(values)).tolist() == [True, False, True]
    assert is_known(values).tolist() == [True, False, True]


@pytest.mark.parametrize("labels", [
    {"genre": [0, 3]}, {"genre": [-100, -100]}, {"genre": np.array([3, -100], dtype=np.int32)},
    {"genre": torch.tensor([3, 0], dtype=torch.uint8)}, {"valence": [NAN, NAN]},
    {"valence": np.array([1, 2], dtype=np.float32)}, {"valence": np.array([NAN, -3.5])}])
def test_accepted_labels(labels):
    heads = make_heads()
    check_labels(heads, labels, 2)
    logits = {task: head(torch.zeros(2, 6)) for task, head in heads.items()}
    (loss,), (same,) = (function(heads, logits, labels).values()
                        for function in (task_losses, masked_losses))
    assert loss.mean.isfinite() and torch.equal(loss.sum, same.sum)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_task_without_labels_adds_exactly_nothing(task, name):
    heads, embeddings, labels = make_batch()
    weighting, logits = make_weighting(name, heads), logits_of(heads, embeddings)
    every = [embeddings, *heads.parameters(), *weighting.double().parameters()]
    without = {other: values for other, values in labels.items() if other != task}
    labels[task] = torch.full_like(labels[task], MISSING[task])
    losses = task_losses(heads, logits, labels)
    assert losses[task].sum.item() == losses[task].mean.item() == losses[task].count.item() == 0
    assert not gradient(losses[task].mean, *every).any()
    total = weighting(losses)
    assert not gradient(total, *heads[task].parameters()).any()
    close(total, weighting(task_losses(heads, logits, without)), rtol=1e-15, atol=0)

    nothing = {other: torch.full((10,), value) for other, value in MISSING.items()}
    total = weighting(task_losses(heads, logits, nothing))
    assert total.item() == 0 and not gradient(total, *every).any()
    none = [{other: values[:0] for other, values in given.items()} for given in (logits, nothing)]
    assert weighting(task_losses(heads, *none)).item() == 0, "of no sentence at all"


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 12),
       missing=st.sampled_from([0, 0.3, 0.8, 1]), data=st.data())
def test_gradients_add_up_over_tasks_and_over_the_parts_of_a_batch(seed, size, missing, data):
    heads, embeddings, labels = make_batch(size, missing, seed)
    logits, every = logits_of(heads, embeddings), [embeddings, *heads.parameters()]
    mixed = gradient(make_weighting("sum", heads)(task_losses(heads, logits, labels)), *every)
    apart = torch.zeros_like(mixed)
    for task, values in labels.items():
        here = has_label(values)
        if here.any():
            each = heads[task].loss(heads[task](embeddings[here]), values[here])
            apart += gradient(each.mean(), *every)
    close(mixed, apart, rtol=0, atol=1e-9)

    cut = data.draw(st.integers(1, size - 1))
    counts = {task: int(has_label(values).sum()) for task, values in labels.items()}
    uncertainty = make_weighting("uncertainty", heads).double()
    with torch.no_grad():
        for variance, value in zip(uncertainty.log_variances, (0.3, -0.7, 1.1), strict=True):
            variance.fill_(value)
    for weighting in (StaticWeighting({"genre": 0.7, "sentiment": 2, "valence": 1}), uncertainty):
        learned, totals = [*every, *weighting.parameters()], []
        whole = weighting(task_losses(heads, logits, labels))
        for part in (slice(0, cut), slice(cut, size)):
            given = {task: values[part] for task, values in labels.items()}
            losses = masked_losses(heads, logits_of(heads, embeddings[part]), given, counts)
            totals.append(weighting(losses))
        assert sum(total.item() for total in totals) == pytest.approx(whole.item(), abs=1e-9)
        summed = sum(gradient(total, *learned) for total in totals)
        close(summed, gradient(whole, *learned), rtol=0, atol=1e-9)


def mean_loss(value, count=10):
    """A TaskLoss whose mean is value."""
    count = torch.tensor(count)
    return TaskLoss(torch.as_tensor(value, dtype=torch.float64) * count, count, count)


def uncertainty_of(task, s):
    weighting = UncertaintyWeighting(make_heads()).double()
    with torch.no_grad():
        weighting.log_variances[TASKS.index(task)].fill_(s)
    return weighting


def test_static_weighting():
    losses = {"genre": mean_loss(1.2), "valence": mean_loss(0.5)}
    assert StaticWeighting({"genre": 2.0, "valence": 0.0})(losses).item() == pytest.approx(2.4)
    weighting = make_weighting({"valence": 3, "genre": 1, "sentiment": 9}, make_heads())
    assert weighting(losses).item() == pytest.approx(2.7), "each its own, whatever the order"


@pytest.mark.parametrize("s", [-0.7, 0.0, 0.4])
def test_uncertainty_is_the_gaussian_likelihood_or_nearly_the_scaled_softmax(s):
    errors = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
    noise = torch.distributions.Normal(0.0, torch.tensor(math.exp(s / 2), dtype=torch.float64))
    expected = -noise.log_prob(errors).mean() - math.log(2 * math.pi) / 2
    total = uncertainty_of("valence", s)({"valence": mean_loss((errors**2).mean(), 3)})
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)

    torch.manual_seed(0)
    logits, ids = torch.randn(50, 4, dtype=torch.float64), torch.arange(50) % 4
    entropy, precision = torch.nn.functional.cross_entropy, math.exp(-s)
    total = uncertainty_of("genre", s)({"genre": mean_loss(entropy(logits, ids))})
    # What Kendall et al. drop: log of (1/sigma) sum exp(f/sigma^2) over (sum exp f)^(1/sigma^2).
    dropped = (logits * precision).logsumexp(1) - precision * logits.logsumexp(1) - s / 2
    exact = entropy(logits * precision, ids)
    assert exact.item() == pytest.approx((total + dropped.mean()).item(), rel=1e-12)
    assert (dropped.mean().item() == pytest.approx(0, abs=1e-12)) == (s == 0)


def test_the_variance_of_a_task_that_is_absent_does_not_move():
    weighting = UncertaintyWeighting(make_heads())
    empty = TaskLoss(torch.tensor(0.0), torch.tensor(0), torch.tensor(0))
    weighting({"genre": mean_loss(0.2), "sentiment": empty}).backward()
    genre, sentiment, valence = (variance.grad for variance in weighting.log_variances)
    assert genre == pytest.approx(0.5 - 0.2) and sentiment == 0 and valence is None
