"""Labelled sentences, splits that keep documents whole, and a guard against leakage."""

import math
import numbers
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations, repeat
from typing import Any, Self

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

MEND_BOOL = "two classes are ids: [-100 if one is None else int(one) for one in labels]"
MEND_LISTS = ("lists of names become 0 and 1, (N, L), by "
              "sklearn.preprocessing.MultiLabelBinarizer().fit_transform(labels)")


@dataclass(eq=False, repr=False)
class LabelledSentences:
    """N sentences with labels for any number of tasks.

    >>> data = LabelledSentences(["Good.", "Bad.", "A chair."], {"sentiment": [1, 0, -100]})
    >>> data.select(data.labels["sentiment"] == 0).sentences
    ['Bad.']

    Args:
        sentences: N strings.
        labels: {task: N labels}, in a list, an array, or a column of pandas or datasets. Known
            values decide: text becomes int64 class ids in sorted order (None, NaN, NA or "" is
            missing), whole numbers are such ids (-100 or NA is missing), real numbers become
            float32 values and (N, L) numbers float32 vectors (NaN is missing).
        groups: N document ids, or None where documents are not known.
        names: {task: class names}; give those of other data, or of a head, for the same ids.

    Raises:
        TypeError: If a sentence is no string.
        ValueError: If lengths differ, or a label or a document id is not valid.

    Explained in Task_1.ipynb, section 1.6.
    """
    sentences: list[str]
    labels: dict[str, np.ndarray]
    groups: Sequence[Hashable] | np.ndarray | None = None
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = self.sentences
        if getattr(texts, "ndim", 1) > 1 or isinstance(texts, str | dict | set):
            raise TypeError(f"sentences must be a list of strings, got {texts!r:.60}")
        self.sentences = list(texts)
        for i, text in enumerate(self.sentences):
            if not isinstance(text, str):
                raise TypeError(f"sentences[{i}] must be str, got {text!r} of {type(text)}")
        given, self.labels = self.labels, {}
        names, self.names = self.names or {}, {}
        for task, values in given.items():
            array, own = _read(f"labels[{task!r}]", values, names.get(task))
            self.labels[task] = _checked(f"labels[{task!r}]", array, len(self), own)
            if own is not None:
                self.names[task] = own
        if self.groups is not None:
            self.groups = list(self.groups)
            if len(self.groups) != len(self) or any(map(_is_missing, self.groups)):
                raise ValueError(f"groups must be {len(self)} document ids, "
                                 f"got {self.groups!r:.60}")

    def __len__(self) -> int:
        return len(self.sentences)

    def __repr__(self) -> str:
        return f"LabelledSentences({len(self):,} sentences, tasks: {', '.join(self.labels)})"

    def select(self, indices: Sequence[int] | np.ndarray) -> Self:
        """Return the sentences at `indices`: positions (M,), or a boolean mask (N,)."""
        rows = np.arange(len(self))[list(indices)]  # (M,)
        return type(self)([self.sentences[row] for row in rows],
                          {task: values[rows] for task, values in self.labels.items()},
                          self.groups and [self.groups[row] for row in rows], self.names)


def is_known(labels: np.ndarray) -> np.ndarray:
    """Mask (N,) of the sentences that have a label, of (N,) or any entry of (N, L)."""
    known = ~np.isnan(labels) if labels.dtype.kind == "f" else labels != -100
    return known.any(axis=1) if labels.ndim == 2 else known


def _is_missing(value: Any) -> bool:
    """Whether a single label is None, NaN, the NA of pandas, or empty text."""
    if isinstance(value, str | float | np.floating):
        return value == "" or value != value
    return value is None or type(value).__name__ == "NAType"


def _kind(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | numbers.Real):
        return "unknown"
    if isinstance(value, str):
        return "name"
    return "id" if isinstance(value, numbers.Integral) else "value"


def _read(what: str, given: Any, names: Sequence[str] | None
          ) -> tuple[np.ndarray, list[str] | None]:
    """Labels as an array of numbers, and the names of the class ids if they have any."""
    if isinstance(given, str | dict | set):
        raise ValueError(f"{what} must be a list or an array, got {given!r:.60}")
    given = given.tolist() if isinstance(given, np.ma.MaskedArray) else given  # None: masked
    try:
        array = np.asarray(given)
        if array.dtype.kind not in "iufb":  # such as a column of arrays
            array = np.asarray(list(given))
    except (TypeError, ValueError):  # such as rows of several lengths
        array = np.asarray(None)
    whole = getattr(getattr(given, "dtype", None), "kind", None) in ("i", "u")
    if array.dtype.kind not in ("iub" if whole else "iufb"):  # pandas makes NA in Int64 NaN
        array, names = _from_elements(what, [*given] if np.iterable(given) else [given], names)
    if names is not None and array.dtype.kind == "f" and not is_known(array).any():
        array = np.full(len(array), -100)  # an empty column, read as NaN
    return array, None if names is None else list(names)


def _from_elements(what: str, elements: list[Any], names: Sequence[str] | None
                   ) -> tuple[np.ndarray, Sequence[str] | None]:
    """The same for N names, or for numbers of which some are None or NA."""
    missing = np.array([_is_missing(one) for one in elements], dtype=bool)
    known = [elements[row] for row in np.flatnonzero(~missing)]
    found: dict[str, Any] = {}  # one of each kind
    for one in known:
        found.setdefault(_kind(one), one)
    if len(found) > 1 and set(found) != {"id", "value"}:
        first, second, *_ = found.values()
        raise ValueError(f"{what} must be of one kind, got {first!r} and {second!r}")
    if "unknown" in found:
        mend = MEND_BOOL if isinstance(known[0], bool | np.bool_) else MEND_LISTS
        raise ValueError(f"{what} must be numbers or names, got {known[0]!r:.60}; {mend}")
    if "name" in found:
        names = sorted(set(map(str, known))) if names is None else names
        place = {name: i for i, name in enumerate(names)}
        for one in known:
            if one not in place:
                raise ValueError(f"{what} must be among {list(names)!r:.200}, got {one!r}")
        known = [place[one] for one in known]
    real = "value" in found
    array = np.full(len(elements), np.nan if real else -100, float if real else np.int64)
    array[~missing] = known
    return array, names


def _checked(what: str, array: np.ndarray, n: int, names: list[str] | None) -> np.ndarray:
    """Labels of n sentences as int64 ids or float32 values."""
    if array.shape == (n, 1):
        raise ValueError(f"{what} must be (N,) labels, got (N, 1); give np.ravel(labels)")
    if array.shape != (n,) and (array.ndim != 2 or len(array) != n):
        raise ValueError(f"{what} must be ({n},) or, for vectors, ({n}, L), got {array.shape}")
    if array.ndim == 1 and array.dtype == bool:
        raise ValueError(f"{what} must be numbers or names, got bool; {MEND_BOOL}")
    if array.ndim == 2 or array.dtype.kind == "f":
        array = array.astype(np.float32)
        right, valid = ~np.isinf(array), "finite, or NaN"
        if names is not None:
            raise ValueError(f"{what} must be ids, as names has {names!r:.40}; got floats")
    else:
        right, valid = (array == -100) | (array >= 0), "class ids from 0, or -100, or floats"
        if names is not None:
            right &= array < len(names)
            valid = f"ids of the {len(names)} names, or -100"
        array = array.astype(np.int64)
    if not right.all():
        raise ValueError(f"{what} must be {valid}; got {array[~right][0]}")
    return array


def concatenate(*parts: LabelledSentences) -> LabelledSentences:
    """Return the sentences of all data sets in turn, with the tasks of all.

    A task is missing where a data set lacks it; two kinds of label, or names in one data set
    only, are a ValueError. Class names become the sorted union, and ids follow them. Documents
    of two data sets differ; where only some have ids, each other sentence is one of its own.
    """
    sentences: list[str] = []
    groups: list[Hashable] = []
    grouped = any(part.groups is not None for part in parts)
    tasks: dict[str, None] = {}  # in the order in which they come
    for number, part in enumerate(parts):
        sentences += part.sentences
        own = zip(range(len(part))) if part.groups is None else part.groups
        groups += zip(repeat(number), own)
        tasks |= dict.fromkeys(part.labels)
    labels, names = {}, {}
    for task in tasks:
        labels[task], union = _joined(task, parts)
        if union:
            names[task] = union
    return LabelledSentences(sentences, labels, groups if grouped else None, names)


def _joined(task: str, parts: Sequence[LabelledSentences]) -> tuple[np.ndarray, list[str]]:
    """Labels of a task in all data sets, and the sorted union of their names, if any."""
    holders = [part for part in parts if task in part.labels]
    known = [part for part in holders if is_known(part.labels[task]).any()] or holders[:1]
    first, columns = known[0].labels[task], []
    union = sorted(set().union(*(part.names.get(task, ()) for part in known)))
    for part in parts:
        column = np.full_like(first, np.nan if first.dtype.kind == "f" else -100,
                              shape=(len(part), *first.shape[1:]))
        if part in known:
            column = part.labels[task]
            alike = column.dtype == first.dtype and column.shape[1:] == first.shape[1:]
            if not alike or bool(union) != (task in part.names):
                raise ValueError(
                    f"labels[{task!r}] must be of one kind, with names in all or none, got "
                    f"{column[:1]} of {part.names.get(task)} and {first[:1]} of {union}")
        if union and task in part.names:
            place = np.searchsorted(union, part.names[task])
            column = np.where(column < 0, column, np.take(place, column, mode="clip"))
        columns.append(column)
    return np.concatenate(columns), union


def split_indices(data: LabelledSentences, fractions: Sequence[float] = (0.70, 0.15, 0.15),
                  seed: int = 0) -> list[np.ndarray]:
    """Return the rows (M,) of training, validation and test splits that share no document.

    Sentences tied by a document or by equal text form a block. Blocks go, large ones first, to
    the split in which they disturb the shares least, also those of the class ids of all tasks
    together. Only integers decide, so that the split is the same on every machine.

    Args:
        fractions: three positive shares that sum to 1, else a ValueError.
        seed: orders blocks of equal size; there must be three blocks or more.

    Explained in Task_1.ipynb, section 1.6.
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
    blocks = sorted(_blocks(data), key=order)
    if len(blocks) < 3:
        raise ValueError("data must have more documents or different sentences: three splits "
                         f"need three that share none, got {len(blocks)} in {data!r}")
    for rest, block in zip(range(len(blocks), 0, -1), blocks, strict=True):
        added: Counter[Hashable] = Counter(map(tuple, classes[block].tolist()))
        added["size"] = len(block)
        growth = []  # of the sum of squared counts, which is least where each has its share
        for have, share in zip(filled, shares, strict=True):
            grown = sum(n * (2 * have[key] + n) for key, n in added.items())
            growth.append(grown * math.lcm(*shares) // share)
        empty = [split for split in range(3) if not filled[split]]
        chosen = min(empty if rest == len(empty) else range(3), key=growth.__getitem__)
        splits[block] = chosen
        filled[chosen].update(added)
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
    """The text by which sentences are the same, however it is spelled in Unicode."""
    text = unicodedata.normalize("NFKC", sentence)
    shown = "".join(one for one in text if unicodedata.category(one) != "Cf")
    return " ".join(shown.casefold().split())


def assert_no_leakage(*splits: LabelledSentences) -> None:
    """Raise a ValueError where two splits share documents, or sentences however spelled."""
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
