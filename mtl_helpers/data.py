"""Labelled sentences, splits that keep documents whole, and a guard against leakage."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from typing import Self

import numpy as np
from scipy.cluster.hierarchy import DisjointSet


@dataclass(eq=False, repr=False)
class LabelledSentences:
    """N sentences with labels for any number of tasks.

    >>> data = LabelledSentences(["Good.", "Bad.", "A chair."], {"sentiment": [1, 0, -100]})
    >>> data
    LabelledSentences(3 sentences, tasks: sentiment)
    >>> data.select(data.labels["sentiment"] == 0).sentences
    ['Bad.']

    Args:
        sentences: N strings.
        labels: {task: (N,)}; class ids become int64, with -100 where missing, and values to
            predict become float32, with NaN where missing. Or {task: (N, L)}, vectors, which
            become float32, too.
        groups: N document ids, or None where documents are not known.

    Raises:
        TypeError: If a sentence is no string.
        ValueError: If lengths differ, or a label or a document id is not valid.

    Explained in Task_1.ipynb, "The corpus".
    """
    sentences: list[str]
    labels: dict[str, np.ndarray]
    groups: Sequence[Hashable] | np.ndarray | None = None

    def __post_init__(self) -> None:
        if isinstance(self.sentences, str):
            raise TypeError(f"sentences must be a list of strings, got {self.sentences!r}")
        self.sentences = list(self.sentences)
        for i, text in enumerate(self.sentences):
            if not isinstance(text, str):
                raise TypeError(f"sentences[{i}] must be str, got {text!r} of {type(text)}")
        n = len(self)
        self.labels = {task: _checked(task, ids, n) for task, ids in self.labels.items()}
        if self.groups is not None:
            self.groups = list(self.groups)
            if len(self.groups) != n or any(g is None or g != g for g in self.groups):
                raise ValueError(f"groups must be {n} document ids, got {self.groups!r:.60}")

    def __len__(self) -> int:
        return len(self.sentences)

    def __repr__(self) -> str:
        return f"LabelledSentences({len(self):,} sentences, tasks: {', '.join(self.labels)})"

    def select(self, indices: Sequence[int] | np.ndarray) -> Self:
        """Return the sentences at `indices`: positions (M,), or a boolean mask (N,)."""
        rows = np.arange(len(self))[list(indices)]  # (M,)
        return type(self)([self.sentences[row] for row in rows],
                          {task: values[rows] for task, values in self.labels.items()},
                          self.groups and [self.groups[row] for row in rows])


def is_known(labels: np.ndarray) -> np.ndarray:
    """Mask (N,) of the sentences that have a label, of (N,) or any entry of (N, L)."""
    known = ~np.isnan(labels) if labels.dtype.kind == "f" else labels != -100
    return known.any(axis=1) if labels.ndim == 2 else known


def _checked(task: str, values: np.ndarray, n: int) -> np.ndarray:
    array = np.asarray(values)
    vectors = array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "iufb"
    if len(array.shape) == 0 or len(array) != n or not vectors and (
            array.ndim > 1 or array.dtype.kind not in "iuf"):
        raise ValueError(f"labels[{task!r}] must be ({n},) integers or floats, "
                         f"got {array.shape} {array.dtype}")
    floating = vectors or array.dtype.kind == "f"
    wrong = np.isinf(array) if floating else (array < 0) & (array != -100)
    if wrong.any():
        valid = "finite, or NaN" if floating else "class ids from 0, or -100"
        raise ValueError(f"labels[{task!r}] must be {valid}; got {array[wrong][0]}")
    return array.astype(np.float32 if floating else np.int64)


def split_indices(data: LabelledSentences, fractions: Sequence[float] = (0.70, 0.15, 0.15),
                  seed: int = 0) -> list[np.ndarray]:
    """Return the rows (M,) of training, validation and test splits that share no document.

    Sentences tied by a document or by equal text form a block. Blocks go, large ones first, to
    the split in which they disturb the shares least, also those of the class ids of all tasks
    together. Only integers decide, so that the split is the same on every machine.

    Args:
        fractions: three positive shares that sum to 1.
        seed: orders blocks of equal size.

    Raises:
        ValueError: If an argument is not valid, or there are too few blocks for three splits.

    Explained in Task_1.ipynb, "The corpus".
    """
    shares = [round(1_000_000 * fraction) for fraction in fractions]
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions must be three positive shares of sum 1, got {fractions}")

    def order(block: list[int]) -> tuple[int, bytes]:
        return -len(block), sha256(b"%d:%d" % (seed, block[0])).digest()

    columns = [ids for ids in data.labels.values() if ids.dtype == np.int64]
    classes = np.reshape(columns, (len(columns), len(data))).T  # (N, tasks)
    splits = np.empty(len(data), dtype=int)
    filled: list[Counter[Hashable]] = [Counter(), Counter(), Counter()]
    for block in sorted(_blocks(data), key=order):
        added: Counter[Hashable] = Counter(map(tuple, classes[block].tolist()))
        added["size"] = len(block)
        growth = []  # of the sum of squared counts, which is least where each has its share
        for have, share in zip(filled, shares, strict=True):
            grown = sum(n * (2 * have[key] + n) for key, n in added.items())
            growth.append(grown * math.lcm(*shares) // share)
        splits[block] = growth.index(min(growth))
        filled[splits[block[0]]].update(added)
    if len(np.unique(splits)) < 3:
        raise ValueError(f"data must have more documents or different sentences, got {data!r}")
    return [np.flatnonzero(splits == split) for split in range(3)]


def split_corpus(data: LabelledSentences, fractions: Sequence[float] = (0.70, 0.15, 0.15),
                 seed: int = 0) -> list[LabelledSentences]:
    """Return the training, validation and test split; arguments as in `split_indices`."""
    return list(map(data.select, split_indices(data, fractions, seed)))


def _blocks(data: LabelledSentences) -> list[list[int]]:
    """Return the rows of each set of sentences that documents or equal texts tie together."""
    tied = DisjointSet(range(len(data)))
    first_row: dict[Hashable, int] = {}
    for row, sentence in enumerate(data.sentences):
        group = row if data.groups is None else data.groups[row]
        for key in (("text", _normalised(sentence)), ("group", group)):
            tied.merge(first_row.setdefault(key, row), row)
    return list(map(sorted, tied.subsets()))


def _normalised(sentence: str) -> str:
    return " ".join(sentence.casefold().split())


def assert_no_leakage(*splits: LabelledSentences) -> None:
    """Raise a ValueError where two of the splits share sentences or documents: how many.

    Sentences are the same whatever their case and spaces.
    """
    if len(splits) < 2:
        raise TypeError("splits must be two or more, as in assert_no_leakage(train, test)")
    for (i, first), (j, second) in combinations(enumerate(splits, start=1), 2):
        seen = set(map(_normalised, first.sentences))
        found = sum(_normalised(sentence) in seen for sentence in second.sentences)
        documents = len(set(first.groups or ()) & set(second.groups or ()))
        if found or documents:
            share = f"{100 * found / len(second):.3g} % of the {len(second)} sentences"
            raise ValueError(f"{share} of split {j} are also in split {i}, and {documents} "
                             "document ids are in both")
