"""Labelled sentences, splits and the guard against leakage."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_helpers import data as data_module
from mtl_helpers.corpus import load_corpus
from mtl_helpers.data import (
    LabelledSentences,
    assert_no_leakage,
    overlap,
    split_corpus,
    split_indices,
)

TASKS = {"genre": [0, -100, 1], "valence": [0.5, float("nan"), -2.0]}


@pytest.fixture(scope="module")
def corpus() -> LabelledSentences:
    return load_corpus()


def digest(splits: list[np.ndarray]) -> str:
    text = " | ".join(",".join(map(str, rows.tolist())) for rows in splits)
    return sha256(text.encode()).hexdigest()


# LabelledSentences


def test_labels_become_int64_and_float32_and_keep_what_is_missing() -> None:
    data = LabelledSentences(("a", "b", "c"), TASKS, groups=np.array(["x", "x", "y"]))
    assert len(data) == 3 and data.sentences == ["a", "b", "c"] and data.groups == ["x", "x", "y"]
    assert data.labels["genre"].dtype == np.int64
    assert data.labels["genre"].tolist() == [0, -100, 1]
    assert data.labels["valence"].dtype == np.float32
    np.testing.assert_array_equal(data.labels["valence"], np.array([0.5, np.nan, -2], np.float32))
    assert repr(data) == "LabelledSentences(3 sentences, tasks: genre, valence)"


def test_labels_are_copied() -> None:
    ids = np.array([0, 1])
    data = LabelledSentences(["a", "b"], {"genre": ids})
    ids[0] = 7
    assert data.labels["genre"].tolist() == [0, 1]


@pytest.mark.parametrize("wrong", [None, float("nan"), b"bytes", 3, ["nested"], np.float64(1)])
def test_a_sentence_that_is_no_string_is_named(wrong: object) -> None:
    with pytest.raises(TypeError, match=rf"sentences\[1\] must be str, got {type(wrong).__name__}"):
        LabelledSentences(["fine", wrong], {})  # type: ignore[list-item]


def test_one_string_is_not_a_list_of_sentences() -> None:
    with pytest.raises(TypeError, match="must be a list of strings, got 'abc'"):
        LabelledSentences("abc", {})  # type: ignore[arg-type]


@pytest.mark.parametrize(("labels", "error", "message"), [
    ([0, 1], ValueError, r"labels\['genre'\] must have shape \(3,\), got \(2,\)"),
    ([[0], [1], [2]], ValueError, r"got \(3, 1\)"),
    (iter([0, 1, 2]), ValueError, r"got \(\)"),
    (["tweet", "tweet", "tweet"], TypeError, r"must be integers or floats, got <U5"),
    ([0, None, 1], TypeError, r"must be integers or floats, got object"),
    ([True, False, True], TypeError, r"must be integers or floats, got bool"),
    ([0, -1, 1], ValueError, r"must be class ids from 0, or -100; got -1"),
    ([0.0, float("inf"), 1.0], ValueError, r"must be finite, or NaN; got inf"),
])
def test_labels_that_do_not_fit_are_refused(labels: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        LabelledSentences(["a", "b", "c"], {"genre": labels})  # type: ignore[dict-item]


@pytest.mark.parametrize("groups", [[1, 2], [1, 2, 3, 4], [1, None, 2], [1, float("nan"), 2]])
def test_groups_that_do_not_fit_are_refused(groups: list) -> None:
    with pytest.raises(ValueError, match="groups must be 3 document ids"):
        LabelledSentences(["a", "b", "c"], {}, groups)


@pytest.mark.parametrize("indices", [[2, 0], np.array([2, 0]), (2, 0), [-1, 0]])
def test_select_takes_rows_in_the_order_given(indices: list[int]) -> None:
    chosen = LabelledSentences(["a", "b", "c"], TASKS, ["x", "x", "y"]).select(indices)
    assert chosen.sentences == ["c", "a"] and chosen.groups == ["y", "x"]
    assert chosen.labels["genre"].tolist() == [1, 0]
    assert chosen.labels["valence"].tolist() == [-2.0, 0.5]


def test_select_takes_a_mask_nothing_or_data_without_groups() -> None:
    data = LabelledSentences(["a", "b", "c"], TASKS)
    assert data.select(data.labels["genre"] == 1).sentences == ["c"]
    assert len(data.select([])) == 0 and data.select([]).labels["genre"].dtype == np.int64
    assert data.select([1]).groups is None


@pytest.mark.parametrize("indices", [[3], [0.5], [True, False]])
def test_select_refuses_what_is_no_row(indices: list) -> None:
    with pytest.raises(IndexError):
        LabelledSentences(["a", "b", "c"], TASKS).select(indices)


# Splits


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 25), st.integers(0, 2), st.booleans()),
        min_size=1, max_size=120,
    ),
    seed=st.integers(0, 5),
)
def test_splits_are_a_partition_that_shares_no_text_and_no_document(
    rows: list[tuple[int, int, int, bool]], seed: int
) -> None:
    sentences = [f"Sentence {text}" if big else f"  sentence   {text} " for text, _, _, big in rows]
    data = LabelledSentences(sentences, {"task": [c for _, _, c, _ in rows]},
                             [document for _, document, _, _ in rows])
    try:
        splits = split_indices(data, seed=seed)
    except ValueError as error:
        assert "more documents or different sentences" in str(error)
        return
    assert sorted(np.concatenate(splits).tolist()) == list(range(len(data)))
    assert all((np.diff(chosen) > 0).all() for chosen in splits)
    assert_no_leakage(*(data.select(chosen) for chosen in splits))


def test_a_chain_of_documents_and_equal_texts_stays_together() -> None:
    chain = [("one", 1), ("two", 1), ("TWO", 2), ("three", 2), ("three ", 3), ("four", 3)]
    others = [(f"other {i}", 100 + i) for i in range(60)]
    sentences, groups = zip(*(chain + others), strict=True)
    for seed in range(5):
        splits = split_indices(LabelledSentences(list(sentences), {}, list(groups)), seed=seed)
        assert sorted(len(set(rows.tolist()) & set(range(6))) for rows in splits) == [0, 0, 6]


def test_single_sentences_are_split_to_within_one_of_every_label_combination() -> None:
    labels = {"genre": np.arange(2000) % 2, "sentiment": np.arange(2000) // 2 % 5}
    data = LabelledSentences([f"Sentence {i}" for i in range(2000)], labels)
    for split, size in zip(split_corpus(data, (0.6, 0.2, 0.2)), (1200, 400, 400), strict=True):
        pairs = Counter(zip(*(split.labels[task].tolist() for task in labels), strict=True))
        assert abs(len(split) - size) <= 1
        assert all(abs(count - size / 10) <= 1 for count in pairs.values())


def test_stratify_chooses_the_tasks() -> None:
    labels = {"genre": np.arange(300) % 2, "row": np.arange(300), "valence": np.zeros(300)}
    data = LabelledSentences([f"Sentence {i}" for i in range(300)], labels)
    splits = split_corpus(data, stratify=["genre"])
    assert [len(split) for split in splits] == [210, 45, 45]
    for split in splits:
        assert abs(split.labels["genre"].sum() - len(split) / 2) <= 1
    assert [len(split) for split in split_corpus(data, stratify=[])] == [210, 45, 45]


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.3), (0.7, 0.3, 0.0), (0.7, 0.2, 0.2), (2, -0.5, -0.5)]
)
def test_fractions_are_checked(fractions: tuple[float, ...]) -> None:
    data = LabelledSentences([f"Sentence {i}" for i in range(20)], {})
    with pytest.raises(ValueError, match="fractions must be three positive shares"):
        split_corpus(data, fractions)


@pytest.mark.parametrize("stratify", [["topic"], ["valence"], "genre"])
def test_stratify_is_checked(stratify: list[str]) -> None:
    data = LabelledSentences(["a", "b", "c"], TASKS)
    with pytest.raises(ValueError, match=r"stratify must name integer tasks among \['genre'\]"):
        split_corpus(data, stratify=stratify)


def test_too_few_different_sentences_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="more documents or different sentences"):
        split_corpus(LabelledSentences(["a", "b", "c"] * 20, {}))
    with pytest.raises(ValueError, match="more documents or different sentences"):
        split_corpus(LabelledSentences([], {}))


SCATTERED = """
from hashlib import sha256
import data
words = [sha256(str(i % 900).encode()).hexdigest() for i in range(1000)]
made = data.LabelledSentences(words, {"task": [len(set(word)) for word in words]},
                              ["document " + word[:2] for word in words])
print([sha256(str(rows.tolist()).encode()).hexdigest()[:16] for rows in data.split_indices(made)])
"""


@pytest.mark.parametrize("hash_seed", ["0", "1", "4294967295"])
def test_a_split_does_not_depend_on_the_hash_seed(hash_seed: str) -> None:
    folder = Path(data_module.__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", SCATTERED], cwd=folder, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(folder)},
    )
    assert result.stdout.strip() == "['16ef3c0c1b0ee155', '4f9c0a81e5ff995b', 'df741a152828789c']"


# Splits of the real corpus


def test_the_split_of_the_corpus_is_the_recorded_one(corpus: LabelledSentences) -> None:
    splits = split_indices(corpus)
    assert [len(rows) for rows in splits] == [16592, 3555, 3556]
    assert digest(splits) == "75271ec9740e8b0cd2947cad41f574b4a164352aa798b25c0f8afc025ed20845"
    assert digest(split_indices(corpus, seed=1)) != digest(splits)
    for rows, split in zip(splits, split_corpus(corpus), strict=True):
        assert split.sentences == [corpus.sentences[row] for row in rows]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_corpus_is_split_without_leakage_and_by_both_labels(
    corpus: LabelledSentences, seed: int
) -> None:
    splits = split_corpus(corpus, seed=seed)
    assert sum(map(len, splits)) == len(corpus) == 23703
    assert_no_leakage(*splits)
    whole = np.bincount(3 * corpus.labels["genre"] + corpus.labels["sentiment"], minlength=12)
    for split, share in zip(splits, (0.70, 0.15, 0.15), strict=True):
        assert abs(len(split) - share * len(corpus)) < 2
        cells = np.bincount(3 * split.labels["genre"] + split.labels["sentiment"], minlength=12)
        assert np.abs(cells - share * whole).max() < 4  # sentences, of 84 to 3,543


def test_a_random_split_of_the_corpus_would_leak(corpus: LabelledSentences) -> None:
    rows = np.random.default_rng(0).permutation(len(corpus))
    train, test = corpus.select(rows[:16592]), corpus.select(rows[16592:])
    assert 0 < overlap(train, test) < 0.02
    with pytest.raises(ValueError, match="7.. document ids are in both"):
        assert_no_leakage(train, test)


def test_the_corpus_is_split_in_two_seconds(corpus: LabelledSentences) -> None:
    start = time.process_time()
    split_corpus(corpus)
    assert time.process_time() - start < 2


# The guard


def test_three_sentences_repeated_twenty_times_leak_completely() -> None:
    rows = list(range(60))
    random.Random(0).shuffle(rows)
    data = LabelledSentences(["I like it.", "I hate it.", "It is a chair."] * 20, {})
    train, test = data.select(rows[:42]), data.select(rows[42:])
    assert overlap(train, test) == 1
    with pytest.raises(ValueError, match="^100 % of the 18 sentences of split 2 are also in"):
        assert_no_leakage(train, test)


def test_the_guard_compares_without_case_and_spaces_and_reports_shares() -> None:
    train = LabelledSentences(["Good  Film.", "straße", "one"], {})
    test = LabelledSentences([" good film.\n", "STRASSE", "two", "three"], {})
    assert overlap(train, test) == 0.5
    with pytest.raises(ValueError, match="50 % of the 4 sentences"):
        assert_no_leakage(train, test)


def test_the_guard_compares_every_pair_and_documents() -> None:
    one, two = LabelledSentences(["a"], {}, [1]), LabelledSentences(["b"], {}, [2])
    assert_no_leakage(one, two, LabelledSentences(["c"], {}, [3]), LabelledSentences(["d"], {}))
    with pytest.raises(ValueError, match="split 3 are also in split 2, and 1 document ids"):
        assert_no_leakage(one, two, LabelledSentences(["c", "d"], {}, [2, 2]))
    assert overlap(one, LabelledSentences([], {})) == 0
