"""Which sentences come next, and for which task: schedules, and batches of like length."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

SCHEDULES = ("alternating", "proportional", "temperature", "joint")
CHUNK = 50  # batches whose sentences are sorted by length together


@dataclass(frozen=True, eq=False)
class Batch:
    """Sentences that make one optimizer step, and the tasks whose labels count in it."""
    rows: np.ndarray  # (B,) positions in the data
    tasks: tuple[str, ...]


def plan_epoch(labels: Mapping[str, np.ndarray], schedule: str, batch_size: int, seed: int,
               epoch: int, lengths: np.ndarray | None = None,
               temperature: float = 2.0) -> list[Batch]:
    """List the batches of one epoch; a pure function of its arguments.

    - "joint": every sentence with any label once, and all its labels count.
    - "proportional": every label once, one task a batch, the batches of all tasks shuffled.
    - "alternating": one task a batch, the tasks strictly in turn, until the task with the most
      labels has used each once; a smaller task that runs out begins again, shuffled anew.
    - "temperature": as many batches as "proportional", a task with n labels having a share of
      them that goes with n ** (1 / temperature), but at least one; shuffled (Raffel et al. 2020).

    Args:
        labels: {task: (N,)}, -100 or NaN where a sentence has no label.
        batch_size: sentences in a batch; where it does not divide their number, one batch of
            randomly chosen sentences is smaller.
        seed, epoch: decide the order.
        lengths: tokens of the N sentences, to put like lengths into a batch: sentences are
            shuffled, sorted within every 50 batches, and the batches shuffled; data of fewer are
            sorted as a whole, and much the same sentences meet in each epoch. None: only shuffled.
        temperature: at least 1; 1 is proportional, a large one gives every task the same share.

    Raises:
        ValueError: if an argument is out of range or a task has no label.

    Explained in Task_4.ipynb, "Which task comes next".
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if batch_size < 1 or temperature < 1:
        raise ValueError("batch_size and temperature must be at least 1, got "
                         f"{batch_size} and {temperature}")
    sizes = [len(values) for values in (*labels.values(), lengths) if values is not None]
    if len(set(sizes)) > 1:
        raise ValueError(f"labels and lengths must have one value a sentence each, got {sizes}")
    rows = {task: np.flatnonzero(_known(values)) for task, values in labels.items()}
    empty = [task for task, found in rows.items() if not len(found)]
    if empty or not rows:
        raise ValueError(f"labels must have a label for each task, got none for {empty or 'any'}")
    random = np.random.default_rng([seed, epoch])
    if schedule == "joint":
        rows = {"": np.unique(np.concatenate(list(rows.values())))}
        stream = _batches(rows[""], batch_size, lengths, random)
        return [Batch(next(stream), tuple(labels)) for _ in range(_count(rows[""], batch_size))]
    counts = {task: _count(found, batch_size) for task, found in rows.items()}  # one pass each
    if schedule == "temperature":
        counts = _shares({task: len(found) ** (1 / temperature) for task, found in rows.items()},
                         sum(counts.values()))
    if schedule == "alternating":
        counts = dict.fromkeys(rows, max(counts.values()))
    streams = {task: islice(_batches(found, batch_size, lengths, random), counts[task])
               for task, found in rows.items()}
    if schedule == "alternating":
        turns = zip(*streams.values(), strict=True)
        return [Batch(chosen, (task,)) for turn in turns
                for task, chosen in zip(rows, turn, strict=True)]
    batches = [Batch(chosen, (task,)) for task, stream in streams.items() for chosen in stream]
    return [batches[i] for i in random.permutation(len(batches))]


def _known(values: np.ndarray) -> np.ndarray:
    return ~np.isnan(values) if values.dtype.kind == "f" else values != -100  # (N,) bool


def _count(rows: np.ndarray, batch_size: int) -> int:
    return -(-len(rows) // batch_size)


def _shares(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Divide `total` batches by weight, each task at least one; largest remainders round up."""
    exact = {task: total * weight / sum(weights.values()) for task, weight in weights.items()}
    counts = {task: int(share) for task, share in exact.items()}
    by_remainder = sorted(exact, key=lambda task: counts[task] - exact[task])
    for task in by_remainder[: total - sum(counts.values())]:
        counts[task] += 1
    return {task: max(1, count) for task, count in counts.items()}


def _batches(rows: np.ndarray, batch_size: int, lengths: np.ndarray | None,
             random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the batches of endless passes over `rows`, each pass shuffled anew."""
    while True:
        order = random.permutation(rows)
        whole = len(order) - len(order) % batch_size
        batches = []
        for start in range(0, whole, CHUNK * batch_size):
            chunk = order[start : min(start + CHUNK * batch_size, whole)]
            if lengths is not None:
                chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
            batches += np.split(chunk, len(chunk) // batch_size)
        if whole < len(order):
            batches.append(order[whole:])
        yield from (batches[i] for i in random.permutation(len(batches)))


def split_rows(rows: np.ndarray, part: int, parts: int) -> tuple[np.ndarray, bool]:
    """One of several even parts of a batch, (B,) -> (about B / parts,), and whether it counts.

    A batch with fewer sentences than parts leaves some without any: they get a sentence that does
    not count, so that every process has something to compute.
    """
    own = rows[part::parts]
    return (own, True) if len(own) else (rows[:1], False)
