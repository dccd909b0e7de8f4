"""Losses: by hand, missing labels, gradients of mixed and split batches, weightings, bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_helpers.heads import ClassificationHead, RegressionHead
from mtl_helpers.losses import (
    StaticWeighting,
    TaskLoss,
    UncertaintyWeighting,
    check_labels,
    has_label,
    log_k_weights,
    task_losses,
)

GENRES = ["movie review", "product review", "news editorial", "tweet"]
NAN = math.nan


def make_heads():
    return {"genre": ClassificationHead(6, GENRES, hidden_dim=5, dropout=0.0),
            "sentiment": ClassificationHead(6, ["negative", "neutral", "positive"], dropout=0.0),
            "valence": RegressionHead(6, dropout=0.0)}


class TinyModel(torch.nn.Module):
    """A shared layer with three heads, in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.shared = torch.nn.Linear(4, 6)
        self.heads = torch.nn.ModuleDict(make_heads())
        self.double()

    def forward(self, inputs):
        shared = self.shared(inputs).tanh()
        return {task: head(shared) for task, head in self.heads.items()}


def make_batch(size=10, missing=0.4, seed=0):
    """Inputs, and labels of which about a share `missing` is missing in each task."""
    rng = np.random.default_rng(seed)
    labels = {"genre": rng.integers(4, size=size), "sentiment": rng.integers(3, size=size),
              "valence": rng.normal(size=size)}
    for values in labels.values():
        values[rng.random(size) < missing] = -100 if values.dtype == np.int64 else NAN
    inputs = torch.from_numpy(rng.normal(size=(size, 4)))
    return inputs, {task: torch.from_numpy(values) for task, values in labels.items()}


def gradient(model, total, *more):
    """Gradient of a scalar as one vector, with zeros where there is none."""
    parameters = [*model.parameters(), *more]
    gradients = torch.autograd.grad(total, parameters, allow_unused=True, retain_graph=True)
    return torch.cat([(torch.zeros_like(parameter) if part is None else part).flatten().double()
                      for parameter, part in zip(parameters, gradients, strict=True)])


def plain_sum(losses):
    return torch.stack([loss.mean for loss in losses.values()]).sum()


# Values

def test_losses_by_hand():
    logits = {"genre": torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 0]]),
              "valence": torch.tensor([1.0, 2.0, 3.0])}
    labels = {"genre": [0, 0, -100], "valence": [0.5, NAN, 5.0]}
    losses = task_losses(make_heads(), logits, labels)
    first = -math.log(math.e / (math.e + 3))
    second = -math.log(1 / (math.e**2 + 3))
    assert losses["genre"].sum.item() == pytest.approx(first + second)
    assert losses["genre"].mean.item() == pytest.approx((first + second) / 2)
    assert losses["valence"].sum.item() == pytest.approx(0.25 + 4)
    assert losses["valence"].mean.item() == pytest.approx((0.25 + 4) / 2)
    assert [loss.count.item() for loss in losses.values()] == [2, 2]
    assert list(losses) == ["genre", "valence"]


def test_agrees_with_torch_where_every_label_is_there():
    model = TinyModel()
    inputs, labels = make_batch(missing=0)
    logits = model(inputs)
    losses = task_losses(model.heads, logits, labels)
    for task in ("genre", "sentiment"):
        expected = torch.nn.functional.cross_entropy(logits[task], labels[task])
        torch.testing.assert_close(losses[task].mean, expected, rtol=1e-12, atol=0)
    expected = torch.nn.functional.mse_loss(logits["valence"], labels["valence"])
    torch.testing.assert_close(losses["valence"].mean, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    logits = {"genre": torch.randn(400, 4).to(dtype)}
    labels = {"genre": torch.zeros(400, dtype=torch.int64)}
    loss = task_losses(make_heads(), logits, labels)["genre"]
    assert loss.sum.dtype == torch.float32
    exact = task_losses(make_heads(), {"genre": logits["genre"].double()}, labels)["genre"]
    assert loss.mean.item() == pytest.approx(exact.mean.item(), rel=1e-5)


def test_has_label():
    assert has_label(torch.tensor([0, -100, 3])).tolist() == [True, False, True]
    assert has_label(torch.tensor([0.0, NAN, -100.0])).tolist() == [True, False, True]


# Missing labels

@pytest.mark.parametrize("task", ["genre", "sentiment", "valence"])
def test_a_missing_label_is_as_if_the_sentence_were_not_there(task):
    model = TinyModel()
    inputs, labels = make_batch()
    here = has_label(labels[task])
    assert 0 < here.sum() < len(here)
    masked = task_losses(model.heads, model(inputs), {task: labels[task]})[task]
    alone = task_losses(model.heads, model(inputs[here]), {task: labels[task][here]})[task]
    torch.testing.assert_close(masked.mean, alone.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient(model, masked.mean), gradient(model, alone.mean),
                               rtol=0, atol=1e-12)


@pytest.mark.parametrize("task", ["genre", "sentiment", "valence"])
@pytest.mark.parametrize("make_weighting", [
    lambda heads: StaticWeighting(dict.fromkeys(heads, 1.0)),
    lambda heads: StaticWeighting(log_k_weights(heads)), UncertaintyWeighting])
def test_a_task_without_labels_adds_exactly_nothing(task, make_weighting):
    model = TinyModel()
    inputs, labels = make_batch()
    weighting = make_weighting(model.heads)
    logits = model(inputs)
    without = {name: values for name, values in labels.items() if name != task}
    labels[task] = torch.full_like(labels[task], NAN if task == "valence" else -100)
    losses = task_losses(model.heads, logits, labels)
    assert losses[task].sum.item() == losses[task].mean.item() == losses[task].count.item() == 0
    assert not gradient(model, losses[task].mean).any()
    total = weighting(losses)
    total.backward()
    assert all(torch.equal(parameter.grad, torch.zeros_like(parameter))
               for parameter in model.heads[task].parameters())
    same = weighting(task_losses(model.heads, logits, without))
    torch.testing.assert_close(total, same, rtol=1e-15, atol=0)


@pytest.mark.parametrize("make_weighting", [
    lambda heads: StaticWeighting(dict.fromkeys(heads, 1.0)), UncertaintyWeighting])
def test_a_batch_without_any_label_costs_exactly_zero(make_weighting):
    model = TinyModel()
    inputs, _ = make_batch(size=3)
    weighting = make_weighting(model.heads)
    total = weighting(task_losses(model.heads, model(inputs), {
        "genre": [-100] * 3, "sentiment": [-100] * 3, "valence": [NAN] * 3}))
    assert total.item() == 0
    assert not gradient(model, total, *weighting.parameters()).any()


def test_extreme_labels_that_are_missing_leave_no_trace():
    logits = {"valence": torch.tensor([1e30, 1.0], requires_grad=True)}
    loss = task_losses(make_heads(), logits, {"valence": [NAN, 0.5]})["valence"]
    loss.mean.backward()
    assert loss.mean.item() == 0.25 and logits["valence"].grad.tolist() == [0.0, 1.0]


# Gradients

@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 12),
       missing=st.sampled_from([0, 0.3, 0.8, 1]))
def test_gradient_of_a_mixed_batch_is_the_sum_of_the_tasks_gradients(seed, size, missing):
    model = TinyModel()
    inputs, labels = make_batch(size, missing, seed)
    mixed = gradient(model, plain_sum(task_losses(model.heads, model(inputs), labels)))
    apart = torch.zeros_like(mixed)
    for task, values in labels.items():
        here = has_label(values)
        if here.any():
            logits = model(inputs[here])[task]
            apart += gradient(model, model.heads[task].loss(logits, values[here]).mean())
    torch.testing.assert_close(mixed, apart, rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 12), missing=st.sampled_from([0, 0.3, 0.8]),
       data=st.data())
def test_parts_of_a_split_batch_add_up_to_the_whole_batch(seed, size, missing, data):
    model = TinyModel()
    inputs, labels = make_batch(size, missing, seed)
    cut = data.draw(st.integers(1, size - 1))
    parts = [slice(0, cut), slice(cut, size)]
    counts = {task: int(has_label(values).sum()) for task, values in labels.items()}
    uncertainty = UncertaintyWeighting(model.heads).double()
    with torch.no_grad():
        for variance, value in zip(uncertainty.log_variances, (0.3, -0.7, 1.1), strict=True):
            variance.fill_(value)
    for weighting in (StaticWeighting(log_k_weights(model.heads)), uncertainty):
        own = list(weighting.parameters())
        whole = weighting(task_losses(model.heads, model(inputs), labels))
        totals = []
        for part in parts:
            part_labels = {task: values[part] for task, values in labels.items()}
            losses = task_losses(model.heads, model(inputs[part]), part_labels, batch_counts=counts)
            totals.append(weighting(losses))
        assert sum(total.item() for total in totals) == pytest.approx(whole.item(), abs=1e-9)
        summed = sum(gradient(model, total, *own) for total in totals)
        torch.testing.assert_close(summed, gradient(model, whole, *own), rtol=0, atol=1e-9)


def test_a_mean_of_means_would_be_wrong():
    model = TinyModel()
    inputs, labels = make_batch(size=9, missing=0)
    labels["genre"][1:4] = -100

    def genre_loss(part):
        genres = {"genre": labels["genre"][part]}
        return task_losses(model.heads, model(inputs[part]), genres)["genre"]

    whole = genre_loss(slice(0, 9)).mean
    parts = [genre_loss(slice(0, 4)), genre_loss(slice(4, 9))]
    mean_of_means = (parts[0].mean + parts[1].mean) / 2
    assert abs(mean_of_means.item() - whole.item()) > 0.01
    pooled = sum(part.sum for part in parts) / sum(part.count for part in parts)
    assert pooled.item() == pytest.approx(whole.item(), rel=1e-12)


# Weightings

def mean_loss(value, count=10):
    """A TaskLoss whose mean is value."""
    count = torch.tensor(count)
    return TaskLoss(torch.as_tensor(value, dtype=torch.float64) * count, count, count)


def test_static_weighting():
    losses = {"genre": mean_loss(1.2), "valence": mean_loss(0.5)}
    assert StaticWeighting({"genre": 2.0, "valence": 0.0})(losses).item() == pytest.approx(2.4)
    weighting = StaticWeighting({"valence": 3, "genre": 1, "not in this batch": 9})
    assert weighting(losses).item() == pytest.approx(2.7)


def test_with_log_k_a_uniform_guess_costs_one_in_every_classification():
    heads = make_heads()
    weights = log_k_weights(heads)
    assert weights == {"genre": 1 / math.log(4), "sentiment": 1 / math.log(3), "valence": 1.0}
    logits = {"genre": torch.zeros(5, 4), "sentiment": torch.zeros(5, 3)}
    losses = task_losses(heads, logits, {"genre": [0, 1, 2, 3, 0], "sentiment": [0, 1, 2, 0, 1]})
    for task in losses:
        alone = StaticWeighting(weights)({task: losses[task]})
        assert alone.item() == pytest.approx(1, rel=1e-6)


def uncertainty_of(task, s):
    weighting = UncertaintyWeighting(make_heads()).double()
    with torch.no_grad():
        weighting.log_variances[list(make_heads()).index(task)].fill_(s)
    return weighting


@pytest.mark.parametrize("s", [-1.5, 0.0, 0.8])
def test_uncertainty_of_a_regression_is_the_gaussian_likelihood(s):
    errors = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
    noise = torch.distributions.Normal(0.0, torch.tensor(math.exp(s / 2), dtype=torch.float64))
    expected = -noise.log_prob(errors).mean() - math.log(2 * math.pi) / 2
    loss = mean_loss((errors**2).mean(), 3)
    total = uncertainty_of("valence", s)({"valence": loss})
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("s", [-0.4, 0.0, 0.4])
def test_uncertainty_of_a_classification_is_the_scaled_softmax_up_to_the_papers_approximation(s):
    torch.manual_seed(0)
    logits = torch.randn(50, 4, dtype=torch.float64)
    ids = torch.arange(50) % 4
    entropy = torch.nn.functional.cross_entropy
    exact = entropy(logits * math.exp(-s), ids)
    total = uncertainty_of("genre", s)({"genre": mean_loss(entropy(logits, ids))})
    # What Kendall et al. drop: log of (1/sigma) sum exp(f/sigma^2) over (sum exp f)^(1/sigma^2).
    precision = math.exp(-s)
    dropped = (logits * precision).logsumexp(1) - precision * logits.logsumexp(1) - s / 2
    dropped = dropped.mean()
    assert exact.item() == pytest.approx((total + dropped).item(), rel=1e-12)
    assert (dropped.item() == pytest.approx(0, abs=1e-12)) == (s == 0)


@pytest.mark.parametrize(("task", "best"), [("genre", math.log(2 * 0.7)),
                                            ("valence", math.log(0.7))])
def test_the_learned_variance_settles_where_the_formula_says(task, best):
    weighting = uncertainty_of(task, 0.0)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        weighting({task: mean_loss(0.7)}).backward()
        optimizer.step()
    learned = weighting.log_variances[list(make_heads()).index(task)].item()
    assert learned == pytest.approx(best, abs=1e-3)


def test_uncertainty_of_a_task_that_is_absent_does_not_move():
    weighting = UncertaintyWeighting(make_heads())
    empty = TaskLoss(torch.tensor(0.0), torch.tensor(0), torch.tensor(0))
    weighting({"genre": mean_loss(0.2), "sentiment": empty}).backward()
    genre, sentiment, valence = (variance.grad for variance in weighting.log_variances)
    assert genre == pytest.approx(0.5 - 0.2) and sentiment == 0 and valence is None


def test_uncertainty_is_saved_with_its_state_dict():
    weighting = uncertainty_of("genre", 0.25).float()
    again = UncertaintyWeighting(make_heads())
    again.load_state_dict(weighting.state_dict())
    assert [variance.item() for variance in again.log_variances] == [0.25, 0, 0]


@pytest.mark.parametrize("weights", [{"genre": -1.0}, {"genre": NAN}, {"genre": math.inf}])
def test_refused_weights(weights):
    with pytest.raises(ValueError, match="weights must be finite and not negative, got {'genre'"):
        StaticWeighting(weights)


@pytest.mark.parametrize("weighting", [StaticWeighting({"genre": 1.0}),
                                       UncertaintyWeighting({"genre": make_heads()["genre"]})])
@pytest.mark.parametrize("losses", [{}, {"genre": mean_loss(1.0), "topic": mean_loss(1.0)}])
def test_refused_losses(weighting, losses):
    with pytest.raises(ValueError, match=r"losses has the tasks \[.*\]; valid are \['genre'\]"):
        weighting(losses)


# Bad input

@pytest.mark.parametrize(("labels", "error", "message"), [
    ({"genre": [0, 4]}, ValueError, r"labels\['genre'\] must be integers 0 to 3, or -100 .*got 4"),
    ({"genre": [-1, 0]}, ValueError, r"labels\['genre'\] must be integers 0 to 3, .*got -1"),
    ({"sentiment": [0, 3]}, ValueError, r"labels\['sentiment'\] must be integers 0 to 2.*got 3"),
    ({"genre": [0.0, 1.0]}, TypeError, r"labels\['genre'\] must be integers.*got torch.float32"),
    ({"genre": [0, NAN]}, TypeError, r"labels\['genre'\] must be integers.*got torch.float32"),
    ({"genre": [True, False]}, TypeError, r"labels\['genre'\] must be integers.*got torch.bool"),
    ({"genre": ["tweet", "a"]}, TypeError, r"labels\['genre'\] must be integers.*got \['tweet'"),
    ({"genre": np.array(["a", "b"])}, TypeError, r"labels\['genre'\] must be integers.*got array"),
    ({"genre": [0, None]}, TypeError, r"labels\['genre'\] must be integers.*got \[0, None\]"),
    ({"genre": None}, TypeError, r"labels\['genre'\] must be integers.*got None"),
    ({"valence": [1, 2]}, TypeError, r"labels\['valence'\] must be finite floats.*got torch.int64"),
    ({"valence": [1.0, math.inf]}, ValueError, r"labels\['valence'\] must be finite floats.*inf"),
    ({"genre": [0]}, ValueError, r"labels\['genre'\] .* each of the 2 sentences, got shape \(1,\)"),
    ({"genre": [0, 1, 2]}, ValueError, r"labels\['genre'\] .* each of the 2 sentences.*\(3,\)"),
    ({"genre": [[0], [1]]}, ValueError, r"labels\['genre'\] .* each of the 2 sentences.*\(2, 1\)"),
    ({"genre": 0}, ValueError, r"labels\['genre'\] .* each of the 2 sentences, got shape \(\)"),
    ({"topic": [0, 0]}, ValueError,
     r"labels has the tasks \['topic'\]; valid are \['genre', 'sentiment', 'valence'\]"),
    ({"genre": [0, 0], "Sentiment": [0, 0]}, ValueError, r"tasks \['genre', 'Sentiment'\]; valid"),
    ({}, ValueError, r"labels has the tasks \[\]; valid are"),
])
def test_refused_labels(labels, error, message):
    heads = make_heads()
    with pytest.raises(error, match=message):
        check_labels(heads, labels, 2)
    logits = {task: head(torch.zeros(2, 6)) for task, head in heads.items()}
    with pytest.raises(error, match=message):
        task_losses(heads, logits, labels)


@pytest.mark.parametrize("labels", [
    {"genre": [0, 3]}, {"genre": [-100, -100]}, {"genre": np.array([3, -100], dtype=np.int32)},
    {"genre": torch.tensor([3, 0], dtype=torch.uint8)}, {"valence": np.array([NAN, -3.5])},
    {"valence": np.array([1, 2], dtype=np.float32)}, {"valence": [NAN, NAN]}])
def test_accepted_labels(labels):
    heads = make_heads()
    check_labels(heads, labels, 2)
    logits = {task: head(torch.zeros(2, 6)) for task, head in heads.items()}
    assert all(loss.mean.isfinite() for loss in task_losses(heads, logits, labels).values())


def test_no_sentence_at_all():
    heads = make_heads()
    logits = {task: head(torch.zeros(0, 6)) for task, head in heads.items()}
    labels = {"genre": torch.zeros(0, dtype=torch.int64), "valence": torch.zeros(0)}
    assert [loss.mean.item() for loss in task_losses(heads, logits, labels).values()] == [0, 0]
