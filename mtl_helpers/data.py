"""Labelled sentences, splits that keep documents and duplicates whole, a guard against leakage."""

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
    """N sentences with labels for any number of tasks. Explained in Task_1.ipynb, "The corpus".

    Args:
        sentences: N strings.
        labels: {task: (N,)}; class ids become int64, with -100 where missing, and values to
            predict become float32, with NaN where missing.
        groups: N document ids, or None where documents are not known.

    Raises:
        TypeError: If a sentence is no string, or labels are neither integers nor floats.
        ValueError: If lengths differ, or a label or a document id is not valid.
    """
    sentences: list[str]
    labels: dict[str, np.ndarray]
    groups: Sequence[Hashable] | np.ndarray | None = None

    def __post_init__(self) -> None:
        if isinstance(self.sentences, (str, bytes)):
            raise TypeError(f"sentences must be a list of strings, got {self.sentences!r}")
        self.sentences = list(self.sentences)
        for i, text in enumerate(self.sentences):
            if not isinstance(text, str):
                raise TypeError(f"sentences[{i}] must be str, got {type(text).__name__}: {text!r}")
        self.labels = {task: _checked(task, ids, len(self)) for task, ids in self.labels.items()}
        if self.groups is not None:
            self.groups = list(self.groups)
            if len(self.groups) != len(self) or any(g is None or g != g for g in self.groups):
                raise ValueError(f"groups must be {len(self)} document ids, none of them missing, "
                                 f"got {len(self.groups)} values")

    def __len__(self) -> int:
        return len(self.sentences)

    def __repr__(self) -> str:
        return f"LabelledSentences({len(self):,} sentences, tasks: {', '.join(self.labels)})"

    def select(self, indices: Sequence[int] | np.ndarray) -> Self:
        """Return the sentences at `indices`: positions (M,), or a boolean mask (N,)."""
        chosen = np.asarray(indices)
        rows = np.arange(len(self))[chosen if chosen.size else []]  # (M,)
        return type(self)([self.sentences[row] for row in rows],
                          {task: values[rows] for task, values in self.labels.items()},
                          self.groups and [self.groups[row] for row in rows])


def _checked(task: str, values: np.ndarray, n: int) -> np.ndarray:
    array = np.asarray(values)
    if array.shape != (n,):
        raise ValueError(f"labels[{task!r}] must have shape ({n},), got {array.shape}")
    if array.dtype.kind not in "iuf":
        raise TypeError(f"labels[{task!r}] must be integers or floats, got {array.dtype}")
    floating = array.dtype.kind == "f"
    wrong = np.isinf(array) if floating else (array < 0) & (array != -100)
    if wrong.any():
        valid = "finite, or NaN" if floating else "class ids from 0, or -100"
        raise ValueError(f"labels[{task!r}] must be {valid}; got {array[wrong][0]}")
    return array.astype(np.float32 if floating else np.int64)


def split_indices(data: LabelledSentences, fractions: Sequence[float] = (0.70, 0.15, 0.15),
                  seed: int = 0, stratify: Sequence[str] | None = None) -> list[np.ndarray]:
    """Return the rows (M,) of training, validation and test splits that share no document or text.

    Sentences tied by a document or by equal text form a block. Blocks go, large ones first, to the
    split in which they disturb the shares least. Only integers decide, so that the split is the
    same on every machine. Explained in Task_1.ipynb, "The corpus".

    Args:
        fractions: three positive shares that sum to 1.
        seed: orders blocks of equal size.
        stratify: integer tasks whose combined labels get equal shares; None means all of them.

    Raises:
        ValueError: If an argument is not valid, or there are too few blocks for three splits.
    """
    shares = [round(1_000_000 * fraction) for fraction in fractions]
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions must be three positive shares of sum 1, got {fractions}")
    known = [task for task, values in data.labels.items() if values.dtype == np.int64]
    if not set(stratify or ()) <= set(known):
        raise ValueError(f"stratify must name integer tasks among {known}, got {stratify!r}")
    columns = [data.labels[task].tolist() for task in (known if stratify is None else stratify)]
    filled: list[Counter[Hashable]] = [Counter() for _ in shares]
    rows: list[list[int]] = [[] for _ in shares]
    order = [sha256(b"%d:%d" % (seed, row)).digest() for row in range(len(data))]
    for block in sorted(_blocks(data), key=lambda block: (-len(block), order[block[0]])):
        added: Counter[Hashable] = Counter(tuple(c[row] for c in columns) for row in block)
        added["size"] = len(block)
        # The sum of squared counts divided by share is least where every count has its share.
        growth = [sum(n * (2 * have[key] + n) for key, n in added.items()) for have in filled]
        best = min(range(3), key=lambda i: growth[i] * math.lcm(*shares) // shares[i])
        filled[best].update(added)
        rows[best] += block
    if not all(rows):
        raise ValueError(f"data must have more documents or different sentences, got {data!r}")
    return [np.array(sorted(chosen), dtype=np.int64) for chosen in rows]


def split_corpus(data: LabelledSentences, fractions: Sequence[float] = (0.70, 0.15, 0.15),
                 seed: int = 0, stratify: Sequence[str] | None = None) -> list[LabelledSentences]:
    """Return the training, validation and test split; arguments as in `split_indices`."""
    return [data.select(rows) for rows in split_indices(data, fractions, seed, stratify)]


def _blocks(data: LabelledSentences) -> list[list[int]]:
    """Return the rows of each set of sentences that documents or equal texts tie together."""
    tied = DisjointSet(range(len(data)))
    first_row: dict[Hashable, int] = {}
    for row, sentence in enumerate(data.sentences):
        group = row if data.groups is None else data.groups[row]
        for key in (("text", _normalised(sentence)), ("group", group)):
            tied.merge(first_row.setdefault(key, row), row)
    return [sorted(block) for block in tied.subsets()]


def _normalised(sentence: str) -> str:
    return " ".join(sentence.casefold().split())


def overlap(train: LabelledSentences, test: LabelledSentences) -> float:
    """Return the share of test sentences that occur in `train`, whatever their case and spaces."""
    seen = {_normalised(sentence) for sentence in train.sentences}
    return sum(_normalised(sentence) in seen for sentence in test.sentences) / max(len(test), 1)


def assert_no_leakage(*splits: LabelledSentences) -> None:
    """Raise a ValueError where two of the splits share sentences or documents, and say how many."""
    if len(splits) < 2:
        raise TypeError("splits must be two or more LabelledSentences, as in "
                        f"assert_no_leakage(train, test), got {len(splits)} of them")
    for (i, first), (j, second) in combinations(enumerate(splits, start=1), 2):
        share = 100 * overlap(first, second)
        documents = len(set(first.groups or ()) & set(second.groups or ()))
        if share or documents:
            raise ValueError(f"{share:.3g} % of the {len(second)} sentences of split {j} are also "
                             f"in split {i}, and {documents} document ids are in both")
