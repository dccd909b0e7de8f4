"""Synthetic sentences: settings hold, splits are apart, the best accuracy is the best one."""

import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mtl_helpers import synthetic
from mtl_helpers.data import LabelledSentences, assert_no_leakage
from mtl_helpers.synthetic import SENTIMENTS, TOPICS, best_accuracy, make_sentences, oracle

unit = st.floats(0, 1)
TASKS = {"topic": len(TOPICS), "sentiment": len(SENTIMENTS)}
EVERYTHING = {"label_noise": 0.1, "class_overlap": 0.3, "missing": 0.2, "split": "test", "seed": 7}


def sampling_error(share, n):
    return sqrt(share * (1 - share) / n)


# What is recorded here must come out in every process, on every platform, in every version.
RECORDED = [({}, "57a957eea0db241ff0f28e01ef4a3e186b3dfa144357ed5a9cf5c5fbfb97c0aa"),
            (EVERYTHING, "b8d3840a37277f3832eac43fc79e75d543863d5c31b589a4ee2b678511d81dd2")]


def test_the_file_alone_gives_the_recorded_samples_under_any_hash_seed(tmp_path):
    shutil.copy(synthetic.__file__, tmp_path)
    code = ("import json, sys, synthetic\n"
            "assert not {'mtl_helpers', 'torch', 'sklearn'} & set(sys.modules)\n"
            f"for arguments in {[arguments for arguments, _ in RECORDED]}:\n"
            "    sentences, labels = synthetic.make_sentences(200, **arguments)\n"
            "    print(json.dumps([sentences, {k: v.tolist() for k, v in labels.items()}]))\n")
    environment = {key: value for key, value in os.environ.items() if key[:6] != "PYTHON"}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, check=True,
                         capture_output=True, env=environment)
    found = [hashlib.sha256(line.encode()).hexdigest() for line in run.stdout.splitlines()]
    assert found == [recorded for _, recorded in RECORDED]


def test_seed_and_split_each_give_another_sample_and_leave_global_random_state_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    made = [make_sentences(100, **variant) for variant in (
        {}, {"seed": 1}, {"split": "test"}, {"split": "validation"})]
    for (first, labels), (second, others) in itertools.combinations(made, 2):
        assert first != second
        assert labels["topic"].tolist() != others["topic"].tolist()
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    few, many = (make_sentences(n, **EVERYTHING) for n in (50, 300))
    assert many[0][:50] == few[0] and many[1]["topic"][:50].tolist() == few[1]["topic"].tolist()


def test_sentences_read_like_sentences_and_no_split_shares_one_with_another():
    splits = []
    for split, n in (("train", 6_000), ("validation", 2_000), ("test", 2_000)):
        first, second = (make_sentences(n, class_overlap=0.3, split=split, seed=seed)[0]
                         for seed in (0, 1))
        splits.append(LabelledSentences(first + second, {}))
        for sentence in first:
            assert re.fullmatch(r"[A-Z][A-Za-z,:' -]+\.", sentence) and "  " not in sentence
            assert 9 <= len(sentence.split()) <= 30
    words = [{" ".join(re.findall(r"\w+", sentence.lower())) for sentence in split.sentences}
             for split in splits]
    assert all(first.isdisjoint(second) for first, second in itertools.combinations(words, 2))
    assert_no_leakage(*splits)


def test_thousands_of_sentences_exist_and_the_error_names_the_largest_n():
    with pytest.raises(ValueError, match=r"n must be at most \d+ for these") as error:
        make_sentences(10**9, split="test")
    largest = int(re.findall(r"\d+", str(error.value))[0])
    sentences, _ = make_sentences(largest, split="test")
    assert len(set(sentences)) == largest > 18_000
    with pytest.raises(ValueError, match=f"n must be at most {largest} "):
        make_sentences(largest + 1, split="test")


def test_classes_noise_and_missing_labels_are_drawn_uniformly_and_apart():
    n = 6000
    sentences, clean = make_sentences(n)
    pairs = np.bincount(3 * clean["topic"] + clean["sentiment"], minlength=12) / n
    assert (np.abs(pairs - 1 / 12) < 4 * sampling_error(1 / 12, n)).all()
    noisy_sentences, noisy = make_sentences(n, label_noise=0.3)
    assert noisy_sentences == sentences
    for task, classes in TASKS.items():
        for label in range(classes):
            rows = clean[task] == label
            for other in range(classes):
                share = 0.7 if other == label else 0.3 / (classes - 1)
                found = (noisy[task][rows] == other).mean()
                assert abs(found - share) < 4 * sampling_error(share, rows.sum())
    both = np.all([noisy[task] != clean[task] for task in TASKS], axis=0).mean()
    assert abs(both - 0.09) < 4 * sampling_error(0.09, n)  # the tasks flip apart
    same_sentences, partial = make_sentences(n, label_noise=0.3, missing=0.4)
    assert same_sentences == sentences
    for task in TASKS:
        known = partial[task] != -100
        assert abs(known.mean() - 0.6) < 4 * sampling_error(0.6, n)
        np.testing.assert_array_equal(partial[task][known], noisy[task][known])
    both = np.all([partial[task] == -100 for task in TASKS], axis=0).mean()
    assert abs(both - 0.16) < 4 * sampling_error(0.16, n)


@pytest.mark.parametrize(("given_settings", "topic", "sentiment"), [
    ({"missing": 0.3}, 1, 1), ({"label_noise": 0.2}, 0.8, 0.8),
    ({"label_noise": 1}, 1 / 3, 1 / 2),  # never the clean class: any other one
    ({"label_noise": 0.75}, 0.25, 0.375),  # of topics says nothing, of sentiments negates
    ({"class_overlap": 0.3}, 0.8875, 0.9), ({"class_overlap": 1}, 0.625, 2 / 3),
    # Both: by enumeration of every draw in fractions.
    ({"label_noise": 0.1, "class_overlap": 0.3, "missing": 0.2}, 321 / 400, 163 / 200),
    ({"label_noise": 0.5, "class_overlap": 0.7}, 33 / 80, 53 / 120),
    ({"label_noise": 0.6, "class_overlap": 0.9}, 133 / 400, 37 / 100),
    ({"label_noise": 0.8, "class_overlap": 0.2}, 4 / 15, 2 / 5)])
def test_best_accuracy_by_hand_is_what_the_oracle_reaches(given_settings, topic, sentiment):
    found = best_accuracy(**given_settings)
    assert found == pytest.approx({"topic": topic, "sentiment": sentiment}, abs=1e-9)
    sentences, labels = make_sentences(4000, split="test", seed=3, **given_settings)
    predicted = oracle(sentences, **given_settings)
    for task, best in found.items():
        known = labels[task] != -100
        accuracy = (predicted[task] == labels[task])[known].mean()
        assert abs(accuracy - best) <= 4 * sampling_error(best, known.sum()) + 1e-9
        assert predicted[task].dtype == np.int64


@examples(max_examples=25)
@given(n=st.integers(1, 8), seed=st.integers(0, 2**70), label_noise=unit, class_overlap=unit,
       missing=unit, split=st.sampled_from(["train", "validation", "test"]))
def test_valid_arguments_give_distinct_sentences_that_oracle_reads(n, seed, split, **given):
    sentences, labels = make_sentences(n, seed=seed, split=split, **given)
    assert len(set(sentences)) == n
    predicted, best = oracle(sentences, **given), best_accuracy(**given)
    for task, classes in TASKS.items():
        assert labels[task].shape == (n,) and labels[task].dtype == np.int64
        assert set(labels[task].tolist()) <= {-100, *range(classes)}
        assert set(predicted[task].tolist()) <= set(range(classes))
        assert 1 / classes - 1e-9 <= best[task] <= 1 + 1e-9
