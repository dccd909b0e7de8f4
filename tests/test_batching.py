"""Schedules and batches of like length: what is seen, how often, in which order, without bias."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtl_helpers.batching import SCHEDULES, plan_epoch, split_rows


@st.composite
def labels(draw):
    """One to three tasks over up to 60 sentences, each task with a label or more."""
    size, seed = draw(st.integers(1, 60)), draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    made = {}
    for task in draw(st.sampled_from([["genre"], ["valence"], ["genre", "sentiment", "valence"]])):
        values = rng.normal(size=size) if task == "valence" else rng.integers(3, size=size)
        gone = rng.random(size) < draw(st.sampled_from([0, 0.3, 0.9]))
        gone[rng.integers(size)] = False
        values[gone] = math.nan if task == "valence" else -100
        made[task] = values
    return made


def known(values):
    return set(np.flatnonzero(~np.isnan(values) if values.dtype.kind == "f" else values != -100))


def rows_of(batches, task):
    """All rows of a task in the order of the plan."""
    return [int(row) for batch in batches if task in batch.tasks for row in batch.rows]


def same_plan(first, second):
    return [(batch.tasks, batch.rows.tolist()) for batch in first] == [
        (batch.tasks, batch.rows.tolist()) for batch in second]


def sized(**sizes):
    """Labels of tasks that no sentence shares, for so many sentences each."""
    owner = np.repeat(list(sizes), list(sizes.values()))
    return {task: np.where(owner == task, 0, -100) for task in sizes}


def counts(batches):
    return {task: sum(batch.tasks == (task,) for batch in batches)
            for task in dict.fromkeys(task for batch in batches for task in batch.tasks)}


# What is seen

@settings(max_examples=60)
@given(labels=labels(), batch_size=st.integers(1, 20), seed=st.integers(0, 99),
       schedule=st.sampled_from(["proportional", "joint"]), grouped=st.booleans())
def test_proportional_and_joint_use_every_label_once(labels, batch_size, seed, schedule, grouped):
    size = len(next(iter(labels.values())))
    lengths = np.random.default_rng(seed).integers(3, 30, size) if grouped else None
    batches = plan_epoch(labels, schedule, batch_size, seed, 0, lengths)
    for task, values in labels.items():
        used = rows_of(batches, task)
        if schedule == "joint":
            used = [row for row in used if row in known(values)]
        assert sorted(used) == sorted(known(values))
    if schedule == "joint":
        every = sorted(set().union(*map(known, labels.values())))
        assert sorted(np.concatenate([batch.rows for batch in batches])) == every
        assert {batch.tasks for batch in batches} == {tuple(labels)}
        assert sum(len(batch.rows) < batch_size for batch in batches) <= 1
    else:
        assert all(len(batch.tasks) == 1 for batch in batches)
        assert counts(batches) == {task: math.ceil(len(known(values)) / batch_size)
                                   for task, values in labels.items()}
    assert all(1 <= len(batch.rows) <= batch_size for batch in batches)


@settings(max_examples=60)
@given(labels=labels(), batch_size=st.integers(1, 20), seed=st.integers(0, 99))
def test_alternating_takes_turns_until_the_largest_task_is_through(labels, batch_size, seed):
    batches = plan_epoch(labels, "alternating", batch_size, seed, 0)
    tasks = list(labels)
    turns = max(math.ceil(len(known(values)) / batch_size) for values in labels.values())
    assert [batch.tasks for batch in batches] == [(task,) for task in tasks] * turns
    largest = max(labels, key=lambda task: len(known(labels[task])))
    assert sorted(rows_of(batches, largest)) == sorted(known(labels[largest]))
    for task, values in labels.items():
        used, n = rows_of(batches, task), len(known(values))
        for start in range(0, len(used) - n + 1, n):  # whole passes, one after another
            assert sorted(used[start : start + n]) == sorted(known(values))
        rest = used[len(used) - len(used) % n :]
        assert len(set(rest)) == len(rest)


def test_a_smaller_task_that_begins_again_is_shuffled_anew():
    used = rows_of(plan_epoch(sized(genre=90, topic=30), "alternating", 10, 0, 0), "topic")
    passes = [used[start : start + 30] for start in (0, 30, 60)]
    assert len(used) == 90 and len({tuple(one) for one in passes}) == 3


@settings(max_examples=60)
@given(labels=labels(), batch_size=st.integers(1, 20), temperature=st.floats(1, 50))
def test_temperature_divides_the_batches_by_powers_of_the_sizes(labels, batch_size, temperature):
    batches = plan_epoch(labels, "temperature", batch_size, 0, 0, temperature=temperature)
    total = sum(math.ceil(len(known(values)) / batch_size) for values in labels.values())
    powers = {task: len(known(values)) ** (1 / temperature) for task, values in labels.items()}
    for task, count in counts(batches).items():
        exact = total * powers[task] / sum(powers.values())
        assert count == 1 if exact < 1 and count <= 1 else math.floor(exact) <= count <= exact + 1
    assert list(sorted(counts(batches))) == sorted(labels)
    assert sum(counts(batches).values()) - total in range(len(labels))
    for task, values in labels.items():
        assert set(rows_of(batches, task)) <= known(values)


@pytest.mark.parametrize(("temperature", "expected"), [
    (1, {"genre": 90, "topic": 9, "tone": 1}), (2, {"genre": 70, "topic": 22, "tone": 8}),
    (1e9, {"genre": 34, "topic": 33, "tone": 33})])
def test_temperature_by_hand(temperature, expected):
    given = sized(genre=900, topic=90, tone=10)
    found = counts(plan_epoch(given, "temperature", 10, 0, 0, temperature=temperature))
    assert found == expected  # square roots: 30, 9.49, 3.16 of 42.65
    if temperature == 1:
        assert found == counts(plan_epoch(given, "proportional", 10, 0, 0))


def test_tasks_are_mixed_over_the_epoch():
    for schedule in ("proportional", "temperature"):
        batches = plan_epoch(sized(genre=1000, topic=1000), schedule, 10, 0, 0)
        first = [batch.tasks == ("genre",) for batch in batches]
        assert 30 < sum(first[:100]) < 70
        assert 60 < np.count_nonzero(np.diff(first)) < 140


# Order

@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_plan_is_a_function_of_seed_and_epoch(schedule):
    given = sized(genre=60, topic=25)
    lengths = np.arange(85) % 7
    before = np.random.get_state()[1].tolist()
    plans = {(seed, epoch): plan_epoch(given, schedule, 8, seed, epoch, lengths)
             for seed in range(3) for epoch in range(3)}
    assert same_plan(plan_epoch(given, schedule, 8, 2, 1, lengths), plans[2, 1])
    different = {str([batch.rows.tolist() for batch in plan]) for plan in plans.values()}
    assert len(different) == 9
    assert len({len(plan) for plan in plans.values()}) == 1, "as many steps in every epoch"
    assert np.random.get_state()[1].tolist() == before
    assert all((values == sized(genre=60, topic=25)[task]).all() for task, values in given.items())


# Batches of like length

LENGTHS = np.random.default_rng(0).lognormal(3, 0.7, 5003).astype(int) + 3


def padding(batches, lengths):
    slots = sum(lengths[batch.rows].max() * len(batch.rows) for batch in batches)
    return 1 - lengths.sum() / slots


def test_grouping_by_length_leaves_little_padding():
    given = {"genre": np.zeros(5003, dtype=int)}
    grouped = padding(plan_epoch(given, "joint", 32, 0, 0, LENGTHS), LENGTHS)
    shuffled = padding(plan_epoch(given, "joint", 32, 0, 0), LENGTHS)
    assert shuffled > 0.5 and grouped < shuffled / 5


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_order_of_batches_says_nothing_about_their_length(schedule):
    lengths = LENGTHS[:640]
    given = {"genre": np.zeros(640, dtype=int), "topic": np.where(np.arange(640) % 2, 0, -100)}
    correlations, positions = [], []
    for seed in range(60):
        batches = plan_epoch(given, schedule, 16, seed, 0, lengths)
        means = [lengths[batch.rows].mean() for batch in batches]
        correlations.append(stats.spearmanr(np.arange(len(means)), means).statistic)
        positions.append([means[0], means[-1]])
    standard_error = 1 / math.sqrt(len(means) * 60)
    assert abs(np.mean(correlations)) < 4 * standard_error
    assert np.ptp(correlations) > 0.1, "not the same order in every epoch"
    spread = np.std(positions, axis=0) / math.sqrt(60)
    assert (abs(np.mean(positions, axis=0) - np.mean(means)) < 4 * spread).all()


def test_every_sentence_is_as_likely_in_the_short_batch():
    lengths = LENGTHS[:103]
    given = {"genre": np.zeros(103, dtype=int)}
    short, places = [], []
    for seed in range(600):
        batches = plan_epoch(given, "joint", 10, seed, 0, lengths)
        (place,) = [i for i, batch in enumerate(batches) if len(batch.rows) == 3]
        short.append(batches[place].rows)
        places.append(place)
    rows = np.concatenate(short)
    error = lengths.std() / math.sqrt(len(rows))
    assert abs(lengths[rows].mean() - lengths.mean()) < 3 * error
    assert stats.chisquare(np.bincount(rows, minlength=103)).pvalue > 0.01
    assert stats.chisquare(np.bincount(places, minlength=11)).pvalue > 0.01


def test_batches_of_like_length_meet_other_neighbours_in_each_epoch():
    given = {"genre": np.zeros(5003, dtype=int)}
    meetings = [{frozenset(batch.rows.tolist())
                 for batch in plan_epoch(given, "joint", 32, 0, epoch, LENGTHS)}
                for epoch in range(2)]
    assert not meetings[0] & meetings[1]


# Parts of a batch, and bad input

@given(size=st.integers(1, 20), parts=st.integers(1, 8))
def test_parts_of_a_batch_are_even_and_none_is_without_a_sentence(size, parts):
    rows = np.random.default_rng(size).permutation(100)[:size]
    split = [split_rows(rows, part, parts) for part in range(parts)]
    counted = [own for own, counts in split if counts]
    assert sorted(np.concatenate(counted)) == sorted(rows)
    assert max(map(len, counted)) - min(map(len, counted)) <= 1
    assert all(own.tolist() == rows[:1].tolist() for own, counts in split if not counts)
    assert len(counted) == min(size, parts)


@pytest.mark.parametrize(("change", "message"), [
    ({"schedule": "random"}, "schedule must be one of alternating, .*got 'random'"),
    ({"batch_size": 0}, "batch_size and temperature must be at least 1, got 0 and"),
    ({"temperature": 0.5}, "at least 1, got 8 and 0.5"),
    ({"labels": {}}, "labels must have a label for each task, got none for any"),
    ({"labels": {"genre": np.array([0, 1]), "topic": np.array([-100, -100])}},
     r"got none for \['topic'\]"),
    ({"labels": {"valence": np.array([math.nan])}}, r"got none for \['valence'\]")])
def test_refused(change, message):
    arguments = {"labels": sized(genre=9), "schedule": "joint", "batch_size": 8, "seed": 0,
                 "epoch": 0}
    with pytest.raises(ValueError, match=message):
        plan_epoch(**arguments | change)
