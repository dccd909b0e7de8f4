"""Labelled sentences, splits and the guard against leakage."""

from collections import Counter
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_helpers.corpus import load_corpus
from mtl_helpers.data import LabelledSentences, assert_no_leakage, split_corpus, split_indices

TASKS = {"genre": [0, -100, 1], "valence": [0.5, float("nan"), -2.0]}


def test_labels_become_int64_and_float32_and_are_copied():
    ids, small = np.array(TASKS["genre"]), np.array([2, 0, 1], np.uint8)
    data = LabelledSentences(("a", "b", "c"), TASKS | {"genre": ids, "tone": small},
                             np.array(["x", "x", "y"]))
    ids[0] = 7
    assert len(data) == 3 and data.sentences == ["a", "b", "c"] and data.groups == ["x", "x", "y"]
    assert [values.dtype for values in data.labels.values()] == [np.int64, np.float32, np.int64]
    assert data.labels["genre"].tolist() == [0, -100, 1]
    np.testing.assert_array_equal(data.labels["valence"], np.array([0.5, np.nan, -2], np.float32))
    assert repr(data) == "LabelledSentences(3 sentences, tasks: genre, valence, tone)"


@pytest.mark.parametrize("indices", [[2, 0], np.array([2, 0]), (2, 0), [-1, 0]])
def test_select_takes_rows_in_the_order_given(indices):
    data = LabelledSentences(["a", "b", "c"], TASKS, ["x", "x", "y"])
    chosen = data.select(indices)
    assert chosen.sentences == ["c", "a"] and chosen.groups == ["y", "x"]
    assert chosen.labels["genre"].tolist() == [1, 0]
    assert chosen.labels["valence"].tolist() == [-2.0, 0.5]
    assert data.select(data.labels["genre"] == 1).sentences == ["c"], "or a mask"
    assert len(data.select([])) == 0 and data.select([]).labels["genre"].dtype == np.int64
    assert LabelledSentences(["a", "b"], {}).select([1]).groups is None


@given(rows=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 25), st.integers(0, 2),
                               st.booleans()), min_size=1, max_size=120), seed=st.integers(0, 5))
def test_splits_are_a_partition_that_shares_no_text_and_no_document(rows, seed):
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


def test_a_chain_of_documents_and_equal_texts_stays_together():
    chain = [("one", 1), ("two", 1), ("TWO", 2), ("three", 2), ("three ", 3), ("four", 3)]
    others = [(f"other {i}", 100 + i) for i in range(60)]
    sentences, groups = zip(*(chain + others), strict=True)
    for seed in range(5):
        splits = split_indices(LabelledSentences(list(sentences), {}, list(groups)), seed=seed)
        assert sorted(len(set(rows.tolist()) & set(range(6))) for rows in splits) == [0, 0, 6]


def test_single_sentences_are_split_to_within_one_of_every_label_combination():
    labels = {"genre": np.arange(2000) % 2, "sentiment": np.arange(2000) // 2 % 5}
    valence = {"valence": np.arange(2000) / 2000}  # a number is no class
    data = LabelledSentences([f"Sentence {i}" for i in range(2000)], labels | valence)
    for split, size in zip(split_corpus(data, (0.6, 0.2, 0.2)), (1200, 400, 400), strict=True):
        pairs = Counter(zip(*(split.labels[task].tolist() for task in labels), strict=True))
        assert abs(len(split) - size) <= 1
        assert all(abs(count - size / 10) <= 1 for count in pairs.values())


def test_the_split_of_the_corpus_is_the_recorded_one_without_leakage_and_by_both_labels():
    corpus = load_corpus()
    whole = np.bincount(3 * corpus.labels["genre"] + corpus.labels["sentiment"], minlength=12)
    digests = []
    for seed in (0, 1):
        rows = split_indices(corpus, seed=seed)
        text = " | ".join(",".join(map(str, chosen.tolist())) for chosen in rows)
        digests.append(sha256(text.encode()).hexdigest())
        splits = split_corpus(corpus, seed=seed)
        assert [len(split) for split in splits] == [16592, 3555, 3556] or seed
        assert_no_leakage(*splits)
        for split, chosen, share in zip(splits, rows, (0.70, 0.15, 0.15), strict=True):
            assert split.sentences == [corpus.sentences[row] for row in chosen]
            assert abs(len(split) - share * len(corpus)) < 2
            cells = np.bincount(3 * split.labels["genre"] + split.labels["sentiment"], minlength=12)
            assert np.abs(cells - share * whole).max() < 4  # sentences, of 84 to 3,543
    assert digests[0] == "75271ec9740e8b0cd2947cad41f574b4a164352aa798b25c0f8afc025ed20845"
    assert digests[1] != digests[0]


def test_the_guard_compares_every_pair_without_case_and_spaces_and_documents():
    train = LabelledSentences(["Good  Film.", "straße", "one"], {})
    test = LabelledSentences([" good film.\n", "STRASSE", "two", "three"], {})
    with pytest.raises(ValueError, match="50 % of the 4 sentences .* and 0 document"):
        assert_no_leakage(train, test)
    one, two = LabelledSentences(["a"], {}, [1]), LabelledSentences(["b"], {}, [2])
    assert_no_leakage(one, two, LabelledSentences(["c"], {}, [3]), LabelledSentences(["d"], {}))
    assert_no_leakage(one, LabelledSentences([], {}))
    with pytest.raises(ValueError, match="split 3 are also in split 2, and 1 document ids"):
        assert_no_leakage(one, two, LabelledSentences(["c", "d"], {}, [2, 2]))
