"""Schedules and batches of like length: what is seen, how often, in which order, without bias."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tiny import make_data, make_encoder

from mtl_helpers.batching import SCHEDULES, Batch, Tokens, count_labels, plan_epoch, take_labels
from mtl_helpers.evaluation import is_known
from mtl_helpers.losses import Processes

LENGTHS = np.random.default_rng(0).lognormal(3, 0.7, 5003).astype(int) + 3


def drawn_labels(size, tasks, gone, seed):
    """Labels of tasks, a share of them missing, but one at least there."""
    rng, made = np.random.default_rng(seed), {}
    for task in tasks:
        values = rng.normal(size=size) if task == "valence" else rng.integers(3, size=size)
        missing = rng.random(size) < gone
        missing[rng.integers(size)] = False
        values[missing] = math.nan if task == "valence" else -100
        made[task] = values
    return made


def rows_of(batches, task):
    """All rows of a task in the order of the plan."""
    return [int(row) for batch in batches if task in batch.tasks for row in batch.rows]


def sized(**sizes):
    """Labels of tasks that no sentence shares, for so many sentences each."""
    owner = np.repeat(list(sizes), list(sizes.values()))
    return {task: np.where(owner == task, 0, -100) for task in sizes}


def counts(batches):
    return dict(Counter(task for batch in batches for task in batch.tasks))


@settings(max_examples=60)
@given(size=st.integers(1, 60), gone=st.sampled_from([0, 0.3, 0.9]),
       tasks=st.sampled_from([["genre"], ["valence"], ["genre", "sentiment", "valence"]]),
       batch_size=st.integers(1, 20), seed=st.integers(0, 99),
       temperature=st.floats(1, 50), grouped=st.booleans())
def test_every_schedule_uses_what_it_promises(
        size, gone, tasks, batch_size, seed, temperature, grouped):
    labels = drawn_labels(size, tasks, gone, seed)
    lengths = np.random.default_rng(seed).integers(3, 30, 60) if grouped else None
    there = {task: np.flatnonzero(is_known(values)).tolist() for task, values in labels.items()}
    passes = {task: math.ceil(len(rows) / batch_size) for task, rows in there.items()}
    plans = {schedule: plan_epoch(labels, schedule, batch_size, seed, 0, lengths, temperature)
             for schedule in SCHEDULES}
    assert all(1 <= len(batch.rows) <= batch_size for plan in plans.values() for batch in plan)
    joint = plans["joint"]
    assert sorted(np.concatenate([batch.rows for batch in joint])) == sorted(
        set().union(*there.values()))
    assert {batch.tasks for batch in joint} == {tuple(labels)}
    assert sum(len(batch.rows) < batch_size for batch in joint) <= 1
    assert counts(plans["proportional"]) == passes
    assert [batch.tasks for batch in plans["alternating"]] == [
        (task,) for task in labels] * max(passes.values())
    for task, rows in there.items():
        assert sorted(rows_of(plans["proportional"], task)) == rows
        used, n = rows_of(plans["alternating"], task), len(rows)
        for start in range(0, len(used) - n + 1, n):  # whole passes, one after another
            assert sorted(used[start : start + n]) == rows
        rest = used[len(used) - len(used) % n :]
        assert len(set(rest)) == len(rest) and set(rest) <= set(rows)
    found, total = counts(plans["temperature"]), sum(passes.values())
    powers = {task: len(rows) ** (1 / temperature) for task, rows in there.items()}
    for task, count in found.items():
        exact = total * powers[task] / sum(powers.values())
        assert count == 1 if exact < 1 and count <= 1 else math.floor(exact) <= count <= exact + 1
        assert set(rows_of(plans["temperature"], task)) <= set(there[task])
    assert found.keys() == labels.keys() and sum(found.values()) - total in range(len(labels))


def test_a_smaller_task_that_begins_again_is_shuffled_anew():
    used = rows_of(plan_epoch(sized(genre=90, topic=30), "alternating", 10, 0, 0), "topic")
    passes = [used[start : start + 30] for start in (0, 30, 60)]
    assert len(used) == 90 and len({tuple(one) for one in passes}) == 3


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_plan_is_a_function_of_seed_and_epoch(schedule):
    given = sized(genre=60, topic=25)
    lengths = np.arange(85) % 7
    before = np.random.get_state()[1].tolist()

    def plan(seed, epoch):
        return str([(batch.tasks, batch.rows.tolist())
                    for batch in plan_epoch(given, schedule, 8, seed, epoch, lengths)])

    plans = {(seed, epoch): plan(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert plan(2, 1) == plans[2, 1] and len(set(plans.values())) == 9
    assert len({text.count("(") for text in plans.values()}) == 1, "as many steps in every epoch"
    assert np.random.get_state()[1].tolist() == before
    assert all((values == sized(genre=60, topic=25)[task]).all() for task, values in given.items())


def test_grouping_by_length_leaves_little_padding_and_mixes_neighbours():
    given, padding = {"genre": np.zeros(5003, dtype=int)}, []
    plans = [plan_epoch(given, "joint", 32, 0, epoch, lengths)
             for epoch, lengths in ((0, LENGTHS), (1, LENGTHS), (0, None))]
    for plan in plans:
        slots = sum(LENGTHS[batch.rows].max() * len(batch.rows) for batch in plan)
        padding.append(1 - LENGTHS.sum() / slots)
    assert padding[2] > 0.5 and padding[0] < padding[2] / 5
    first, second = ({frozenset(batch.rows.tolist()) for batch in plan} for plan in plans[:2])
    assert not first & second, "other neighbours in each epoch"


def test_neither_the_order_of_batches_nor_the_short_one_says_anything_about_length():
    lengths = LENGTHS[:103]
    short, places, ends = [], [], []
    for seed in range(600):
        batches = plan_epoch({"genre": np.zeros(103, dtype=int)}, "joint", 10, seed, 0, lengths)
        (place,) = [i for i, batch in enumerate(batches) if len(batch.rows) == 3]
        short.append(batches[place].rows)
        places.append(place)
        ends.append([lengths[batch.rows].mean() for batch in (batches[0], batches[-1])])
    rows = np.concatenate(short)
    error = lengths.std() / math.sqrt(len(rows))
    assert abs(lengths[rows].mean() - lengths.mean()) < 3 * error
    assert stats.chisquare(np.bincount(rows, minlength=103)).pvalue > 0.01
    assert stats.chisquare(np.bincount(places, minlength=11)).pvalue > 0.01
    error = np.std(ends, axis=0) / math.sqrt(600)
    assert (abs(np.mean(ends, axis=0) - lengths.mean()) < 3 * error).all()


@given(size=st.integers(1, 20), number=st.integers(1, 8))
def test_parts_of_a_batch_are_even_and_a_very_small_one_is_shared(size, number):
    rows = np.random.default_rng(size).permutation(100)[:size]
    parts, shares = [], set()
    for rank in range(number):
        process = Processes.__new__(Processes)
        process.rank, process.number = rank, number
        parts.append(process.rows(rows))
        shares.add(process.share(rows))
    if size < number:
        assert all(part is rows for part in parts) and shares == {1}
    else:
        assert sorted(np.concatenate(parts)) == sorted(rows) and shares == {number}
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_tokens_and_labels_of_a_batch_are_those_of_its_rows():
    data, encoder, device = make_data(), make_encoder(), torch.device("cpu")
    tokens = Tokens(encoder, data.sentences)
    rows = np.array([5, 0, 30])
    expected, padding = encoder.collate(encoder.tokenize([data.sentences[row] for row in rows]))
    ids, mask = tokens.collate(rows, device)
    assert torch.equal(ids, expected) and torch.equal(mask, padding)
    assert tokens.lengths[rows].tolist() == mask.sum(dim=1).tolist()
    assert tokens.collate(rows[:1], device)[1] is None, "nothing is padded"
    batch = Batch(rows, ("genre", "sentiment", "valence"))
    assert count_labels(data.labels, batch) == {"genre": 3, "sentiment": 2}
    assert count_labels(data.labels, Batch(rows, ("sentiment",))) == {"sentiment": 2}
    (taken,) = take_labels(data.labels, ["sentiment"], rows, device).values()
    assert taken.tolist() == data.labels["sentiment"][rows].tolist()
