"""Which sentences come next, and for which task: schedules, and batches of like length.

Goes with data.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .data import is_known

if TYPE_CHECKING:
    from .encoder import SentenceEncoder

SCHEDULES = ("alternating", "proportional", "temperature", "joint")
CHUNK = 50  # batches whose sentences are sorted by length together


@dataclass(frozen=True, eq=False)
class Batch:
    """Sentences that make one optimizer step, and the tasks whose labels count in it."""
    rows: np.ndarray  # (B,) positions in the data
    tasks: tuple[str, ...]


class Tokens:
    """The token ids of N sentences, padded batch by batch: what `fit` feeds the encoder."""

    def __init__(self, encoder: "SentenceEncoder", sentences: Sequence[str]) -> None:
        self.encoder = encoder
        self.token_ids = encoder.tokenize(sentences)
        self.lengths = np.array([len(ids) for ids in self.token_ids])  # (N,)

    def collate(self, rows: np.ndarray,
                device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Token ids (B, T) of B rows, and their mask (B, T): None where nothing is padded."""
        ids, mask = self.encoder.collate([self.token_ids[row] for row in rows])
        return ids.to(device), None if mask.all() else mask.to(device)


def plan_epoch(labels: Mapping[str, np.ndarray], schedule: str, batch_size: int, seed: int,
               epoch: int, lengths: np.ndarray | None = None,
               temperature: float = 2.0) -> list[Batch]:
    """List the batches of one epoch; a pure function of its arguments.

    - "joint": every sentence with any label once, and all its labels count.
    - "proportional": every label once, one task a batch, the batches of all tasks shuffled.
    - "alternating": one task a batch, the tasks strictly in turn, until the task with the most
      labels has used each once; a smaller task that runs out begins again, shuffled anew.
    - "temperature": as many batches as "proportional", a task with n labels having a share of
      them that goes with n ** (1 / temperature), at least one; shuffled (Raffel et al. 2020).

    Args:
        labels: {task: (N,) or (N, L)}, -100 or NaN where a sentence has no label.
        batch_size: sentences in a batch; where it does not divide their number, one batch of
            randomly chosen sentences is smaller.
        seed, epoch: decide the order.
        lengths: tokens of the N sentences, to put like lengths into a batch: sentences are
            shuffled, sorted within every 50 batches, and the batches shuffled; data of fewer
            are sorted as a whole, and much the same sentences meet in each epoch. None: only
            shuffled.
        temperature: at least 1; 1 is proportional, a large one gives all tasks the same share.

    Raises:
        ValueError: if an argument is out of range or a task has no label.

    >>> labels = {"genre": np.array([0, 1, 0, 1]), "sentiment": np.array([2, -100, 0, -100])}
    >>> [batch.tasks for batch in plan_epoch(labels, "alternating", 2, seed=0, epoch=0)]
    [('genre',), ('sentiment',), ('genre',), ('sentiment',)]

    Explained in Task_4.ipynb, section 4.3.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if batch_size < 1 or temperature < 1:
        raise ValueError("batch_size and temperature must be at least 1, got "
                         f"{batch_size} and {temperature}")
    rows = {task: np.flatnonzero(is_known(np.asarray(values)))
            for task, values in labels.items()}
    empty = [task for task, found in rows.items() if not len(found)]
    if empty or not rows:
        raise ValueError("labels must have a label for each task, got none for "
                         f"{empty or 'any'}")
    random = np.random.default_rng([seed, epoch])
    if schedule == "joint":
        labelled = np.unique(np.concatenate(list(rows.values())))
        one_pass = islice(_batches(labelled, batch_size, lengths, random),
                          _count(labelled, batch_size))
        return [Batch(chosen, tuple(labels)) for chosen in one_pass]
    streams, counts = {}, {}  # the batches of each task, and how many are one pass
    for task, found in rows.items():
        streams[task] = _batches(found, batch_size, lengths, random)
        counts[task] = _count(found, batch_size)
    if schedule == "alternating":
        return _in_turn(streams, max(counts.values()))
    if schedule == "temperature":
        counts = _shares(rows, sum(counts.values()), temperature)
    return _shuffled(streams, counts, random)


def _count(rows: np.ndarray, batch_size: int) -> int:
    return -(-len(rows) // batch_size)


def _in_turn(streams: Mapping[str, Iterator[np.ndarray]], turns: int) -> list[Batch]:
    plan = []
    for _ in range(turns):
        for task, stream in streams.items():
            plan.append(Batch(next(stream), (task,)))
    return plan


def _shuffled(streams: Mapping[str, Iterator[np.ndarray]], counts: Mapping[str, int],
              random: np.random.Generator) -> list[Batch]:
    """So many batches of each task, in random order."""
    plan = []
    for task, stream in streams.items():
        for chosen in islice(stream, counts[task]):
            plan.append(Batch(chosen, (task,)))
    return [plan[i] for i in random.permutation(len(plan))]


def _shares(rows: Mapping[str, np.ndarray], total: int, temperature: float) -> dict[str, int]:
    """Divide `total` batches among the tasks, at least one each; large remainders round up."""
    weights = {task: len(found) ** (1 / temperature) for task, found in rows.items()}
    exact, counts = {}, {}
    for task, weight in weights.items():
        exact[task] = total * weight / sum(weights.values())
        counts[task] = int(exact[task])
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
        for i in random.permutation(len(batches)):
            yield batches[i]


def count_labels(labels: Mapping[str, np.ndarray], batch: Batch) -> dict[str, int]:
    """How many labels each task has in a batch; a task without any is left out."""
    counts = {}
    for task in batch.tasks:
        number = int(is_known(labels[task][batch.rows]).sum())
        if number:
            counts[task] = number
    return counts


def passes(labels: Mapping[str, np.ndarray], plan: Sequence[Batch]) -> dict[str, float]:
    """How often each label of a task is used in a plan, on average."""
    used = Counter[str]()
    for batch in plan:
        used.update(count_labels(labels, batch))
    return {task: used[task] / is_known(values).sum() for task, values in labels.items()}


def take_labels(labels: Mapping[str, np.ndarray], tasks: Iterable[str], rows: np.ndarray,
                device: torch.device) -> dict[str, Tensor]:
    """The labels of some tasks for B rows, (B,) or (B, L) each."""
    return {task: torch.from_numpy(labels[task][rows]).to(device) for task in tasks}
