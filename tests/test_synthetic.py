"""Synthetic sentences: the settings hold, splits are apart, the best accuracy is the best one."""

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections import defaultdict
from fractions import Fraction
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.linear_model import LogisticRegression

from mtl_helpers import synthetic
from mtl_helpers.data import LabelledSentences, assert_no_leakage, overlap
from mtl_helpers.encoder import SentenceEncoder
from mtl_helpers.synthetic import SENTIMENTS, TOPICS, best_accuracy, make_sentences, oracle

TASKS = {"topic": len(TOPICS), "sentiment": len(SENTIMENTS)}
CLEAN: dict[str, float] = {}
NOISY = {"label_noise": 0.2}
OVERLAPPING = {"class_overlap": 0.3}
COMBINED = {"label_noise": 0.1, "class_overlap": 0.3, "class_imbalance": 4.0,
            "task_correlation": 0.5, "missing": 0.2}
EVERYTHING = {**COMBINED, "shifted_vocabulary": True, "split": "test", "seed": 7}


def digest(sentences, labels):
    content = [sentences, {task: ids.tolist() for task, ids in labels.items()}]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def sampling_error(share, n):
    return sqrt(share * (1 - share) / n)


# What is recorded here must come out in every process, on every platform, in every version.
RECORDED = {
    "clean": ({}, "57a957eea0db241ff0f28e01ef4a3e186b3dfa144357ed5a9cf5c5fbfb97c0aa"),
    "everything": (EVERYTHING, "02efd9efa8d9747ff0dc6b57e4b25b036a874694bc50d5deecf50f7bca6b9632"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_a_seed_gives_the_recorded_sample(name):
    arguments, recorded = RECORDED[name]
    assert digest(*make_sentences(200, **arguments)) == recorded


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_file_alone_gives_the_recorded_sample_under_any_hash_seed(tmp_path, hash_seed):
    shutil.copy(synthetic.__file__, tmp_path)
    code = ("import json, sys, synthetic\n"
            "assert not {'mtl_helpers', 'torch', 'sklearn', 'transformers'} & set(sys.modules)\n"
            f"for arguments in {[arguments for arguments, _ in RECORDED.values()]}:\n"
            "    sentences, labels = synthetic.make_sentences(200, **arguments)\n"
            "    print(json.dumps([sentences, {k: v.tolist() for k, v in labels.items()}]))\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, check=True,
                         capture_output=True, env={**environment, "PYTHONHASHSEED": hash_seed})
    found = [hashlib.sha256(line.encode()).hexdigest() for line in run.stdout.splitlines()]
    assert found == [recorded for _, recorded in RECORDED.values()]


def test_seed_split_and_vocabulary_each_give_another_sample():
    variants = ({}, {"seed": 1}, {"split": "test"}, {"split": "validation"},
                {"shifted_vocabulary": True})
    made = [make_sentences(100, **variant) for variant in variants]
    for (first, labels), (second, others) in itertools.combinations(made, 2):
        assert first != second
        assert labels["topic"].tolist() != others["topic"].tolist()


def test_it_leaves_global_random_state_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    make_sentences(10)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_sentences_read_like_sentences_and_labels_are_int64():
    data = LabelledSentences(*make_sentences(2000, class_overlap=0.5))
    assert len(set(data.sentences)) == len(data) == 2000
    for sentence in data.sentences:
        assert re.fullmatch(r"[A-Z][A-Za-z,:' -]+\.", sentence) and "  " not in sentence
        assert 9 <= len(sentence.split()) <= 30
    for task, classes in TASKS.items():
        assert data.labels[task].dtype == np.int64
        assert set(data.labels[task].tolist()) == set(range(classes))


def test_a_smaller_sample_is_the_beginning_of_a_larger_one():
    few, few_labels = make_sentences(50, **EVERYTHING)
    many, many_labels = make_sentences(300, **EVERYTHING)
    assert many[:50] == few
    for task in TASKS:
        np.testing.assert_array_equal(many_labels[task][:50], few_labels[task])


# Splits and vocabularies


@pytest.mark.parametrize("shifted_vocabulary", [False, True])
def test_no_split_shares_a_sentence_with_another_for_any_seed(shifted_vocabulary):
    splits = []
    for split, n in (("train", 12_000), ("validation", 4_000), ("test", 4_000)):
        made = [make_sentences(n, class_overlap=0.3, split=split, seed=seed,
                               shifted_vocabulary=shifted_vocabulary)[0] for seed in (0, 1)]
        splits.append(LabelledSentences(made[0] + made[1], {}))
    assert_no_leakage(*splits)
    words = [{" ".join(re.findall(r"\w+", sentence.lower())) for sentence in split.sentences}
             for split in splits]
    assert all(first.isdisjoint(second) for first, second in itertools.combinations(words, 2))


def test_the_split_of_a_sentence_says_nothing_about_its_classes():
    counts = {split: np.zeros((len(TOPICS), len(SENTIMENTS))) for split in synthetic.FIFTHS}
    topics, sentiments = synthetic._phrases(False)
    words = itertools.product(synthetic.FRAMES, synthetic.WHO, synthetic.WHEN)
    for frame, who, when in itertools.islice(words, 0, None, 5):
        for topic, sentiment in itertools.product(range(4), range(3)):
            for cue, verdict in itertools.product(topics[topic], sentiments[sentiment]):
                text = frame.format(who=who, when=when, topic=cue, sentiment=verdict)
                fifth = zlib.crc32(text.encode()) % 5
                for split, fifths in synthetic.FIFTHS.items():
                    counts[split][topic, sentiment] += fifth in fifths
    total = sum(counts.values())
    for split, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        np.testing.assert_allclose(counts[split] / total, share, atol=0.05)


def largest_sample(split):
    with pytest.raises(ValueError, match=r"n must be at most \d+ for these settings") as error:
        make_sentences(10**9, split=split)
    return int(re.findall(r"\d+", str(error.value))[0])


def test_thousands_of_sentences_exist_and_the_error_names_the_largest_n():
    assert largest_sample("train") > 50_000
    largest = largest_sample("test")
    assert largest > 18_000
    sentences, _ = make_sentences(largest, split="test")
    assert len(set(sentences)) == largest
    with pytest.raises(ValueError, match=f"n must be at most {largest} .* got {largest + 1}"):
        make_sentences(largest + 1, split="test")


def test_the_shifted_vocabulary_shares_no_content_word_with_the_other():
    plain, shifted = (
        set(re.findall(r"[a-z]{2,}", " ".join(topics + sentiments).lower())) - ENGLISH_STOP_WORDS
        for topics, sentiments in (
            (synthetic.TOPIC_CUES, synthetic.SENTIMENT_CUES),
            (synthetic.SHIFTED_TOPIC_CUES, synthetic.SHIFTED_SENTIMENT_CUES)))
    assert len(plain) > 60 and len(shifted) > 60
    assert plain & shifted == set()
    first, second = (make_sentences(3000, shifted_vocabulary=value)[0] for value in (False, True))
    assert overlap(LabelledSentences(first, {}), LabelledSentences(second, {})) == 0


# Settings, measured


def test_label_noise_replaces_labels_uniformly_and_changes_nothing_else():
    n = 6000
    sentences, clean = make_sentences(n)
    noisy_sentences, noisy = make_sentences(n, label_noise=0.3)
    assert noisy_sentences == sentences
    flipped = {task: noisy[task] != clean[task] for task in TASKS}
    for task, classes in TASKS.items():
        for label in range(classes):
            rows = clean[task] == label
            for other in range(classes):
                share = 0.7 if other == label else 0.3 / (classes - 1)
                found = (noisy[task][rows] == other).mean()
                assert abs(found - share) < 4 * sampling_error(share, rows.sum())
    both = (flipped["topic"] & flipped["sentiment"]).mean()
    assert abs(both - 0.09) < 4 * sampling_error(0.09, n)  # the tasks flip apart


def test_missing_labels_have_the_share_asked_for_and_change_nothing_else():
    n = 5000
    sentences, full = make_sentences(n, label_noise=0.2)
    same_sentences, partial = make_sentences(n, label_noise=0.2, missing=0.4)
    assert same_sentences == sentences
    absent = {task: partial[task] == -100 for task in TASKS}
    for task in TASKS:
        assert abs(absent[task].mean() - 0.4) < 4 * sampling_error(0.4, n)
        np.testing.assert_array_equal(partial[task][~absent[task]], full[task][~absent[task]])
    both = (absent["topic"] & absent["sentiment"]).mean()
    assert abs(both - 0.16) < 4 * sampling_error(0.16, n)
    assert all((ids == -100).all() for ids in make_sentences(20, missing=1)[1].values())


@pytest.mark.parametrize("task_correlation", [0.0, 0.8])
@pytest.mark.parametrize("class_imbalance", [1, 9.0, 100.0])
def test_class_shares_follow_the_imbalance_and_not_the_correlation(class_imbalance,
                                                                  task_correlation):
    n = 4000
    _, labels = make_sentences(n, class_imbalance=class_imbalance,
                               task_correlation=task_correlation)
    for task, classes in TASKS.items():
        shares = class_imbalance ** (-np.arange(classes) / (classes - 1))
        shares /= shares.sum()
        assert shares[0] / shares[-1] == pytest.approx(class_imbalance)
        found = np.bincount(labels[task], minlength=classes) / n
        for share, measured in zip(shares, found, strict=True):
            assert abs(measured - share) < 4 * sampling_error(share, n)


# By hand for equal shares: a topic owns a quarter of [0, 1], a sentiment a third of it.
TIED = np.array([[3, 0, 0], [1, 2, 0], [0, 2, 1], [0, 0, 3]]) / 12


def mutual_information(joint):
    """In nats, of a table (T, S) that sums to 1."""
    apart = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    held = joint > 0
    return float((joint[held] * np.log(joint[held] / apart[held])).sum())


@pytest.mark.parametrize("task_correlation", [0, 0.3, 0.7, 1])
def test_the_correlation_gives_the_joint_table_computed_by_hand(task_correlation):
    n = 6000
    expected = (1 - task_correlation) / 12 + task_correlation * TIED
    _, labels = make_sentences(n, task_correlation=task_correlation)
    found = np.zeros((4, 3))
    np.add.at(found, (labels["topic"], labels["sentiment"]), 1 / n)
    assert (found[expected == 0] == 0).all()
    np.testing.assert_array_less(np.abs(found - expected) * (expected > 0),
                                 4 * np.sqrt(expected * (1 - expected) / n) + 1e-9)
    assert mutual_information(found) == pytest.approx(mutual_information(expected), abs=0.02)


def test_more_correlation_is_more_mutual_information():
    tables = [(1 - share) / 12 + share * TIED for share in (0, 0.3, 0.7, 1)]
    information = [mutual_information(table) for table in tables]
    assert information[0] == pytest.approx(0)
    assert information == sorted(information) and information[-1] > 0.7
    np.testing.assert_allclose(tables[-1].sum(axis=0), 1 / 3)


# The best accuracy


def exact_best_accuracy(label_noise=0, class_overlap=0, class_imbalance=1, task_correlation=0):
    """Enumerate every draw of the definition in fractions; imbalance as the two lists of shares."""
    shares = {"topic": [Fraction(1, 4)] * 4, "sentiment": [Fraction(1, 3)] * 3}
    if class_imbalance != 1:
        root = round(class_imbalance ** (1 / 6))
        assert root**6 == class_imbalance
        for task, classes in TASKS.items():
            weights = [Fraction(1, root ** (6 // (classes - 1) * k)) for k in range(classes)]
            shares[task] = [weight / sum(weights) for weight in weights]

    def interval(task, label):
        return sum(shares[task][:label]), sum(shares[task][:label + 1])

    def cues(label, classes):
        yield {label}, 1 - class_overlap
        neighbours = [k for k in (label - 1, label + 1) if 0 <= k < classes]
        for neighbour in neighbours:
            yield {label, neighbour}, class_overlap / len(neighbours)

    mass = {task: defaultdict(Fraction) for task in TASKS}
    for topic, sentiment in itertools.product(range(4), range(3)):
        (low, high), (start, end) = interval("topic", topic), interval("sentiment", sentiment)
        together = max(min(high, end) - max(low, start), 0)
        pair = ((1 - task_correlation) * (high - low) * (end - start)
                + task_correlation * together)
        for (first, p_first), (second, p_second) in itertools.product(cues(topic, 4),
                                                                      cues(sentiment, 3)):
            seen = tuple(sorted(first)), tuple(sorted(second))
            for task, label in (("topic", topic), ("sentiment", sentiment)):
                for given_label in range(TASKS[task]):
                    kept = (1 - label_noise if given_label == label
                            else label_noise / (TASKS[task] - 1))
                    mass[task][seen, given_label] += pair * p_first * p_second * kept
    best = {}
    for task in TASKS:
        largest = defaultdict(Fraction)
        for (seen, _), value in mass[task].items():
            largest[seen] = max(largest[seen], value)
        best[task] = float(sum(largest.values()))
    return best


@pytest.mark.parametrize(("given_settings", "topic", "sentiment"), [
    ({}, 1, 1),
    ({"label_noise": 0.2}, 0.8, 0.8),
    ({"label_noise": 1}, 1 / 3, 1 / 2),  # never the clean class: any other one
    ({"label_noise": 0.75}, 0.25, 0.375),  # a topic label says nothing, a sentiment label negates
    ({"class_overlap": 0.3}, 0.8875, 0.9),  # the rarer side of each pair is lost
    ({"class_overlap": 1}, 0.625, 2 / 3),
    ({"class_overlap": 1, "task_correlation": 1}, 0.75, 5 / 6),
    ({"class_imbalance": 10, "task_correlation": 0.5, "missing": 0.3}, 1, 1),
])
def test_best_accuracy_is_what_one_computes_by_hand(given_settings, topic, sentiment):
    best = best_accuracy(**given_settings)
    assert best == pytest.approx({"topic": topic, "sentiment": sentiment}, abs=1e-9)


probabilities = st.integers(0, 20).map(lambda twentieths: Fraction(twentieths, 20))


@examples(max_examples=40)
@given(probabilities, probabilities, st.sampled_from([1, 64]), probabilities)
def test_best_accuracy_equals_enumeration_in_fractions(noise, shared, imbalance, correlation):
    exact = exact_best_accuracy(noise, shared, imbalance, correlation)
    found = best_accuracy(label_noise=float(noise), class_overlap=float(shared),
                          class_imbalance=imbalance, task_correlation=float(correlation))
    assert found == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("given_settings", [
    CLEAN, NOISY, OVERLAPPING, COMBINED, {"class_imbalance": 20.0}, {"task_correlation": 0.7},
    {"class_overlap": 0.6, "class_imbalance": 5.0},
    {"class_overlap": 0.6, "task_correlation": 0.9, "shifted_vocabulary": True},
    {"label_noise": 0.8, "class_overlap": 0.2},
], ids=str)
def test_the_oracle_reaches_the_best_accuracy(given_settings):
    n = 4000
    sentences, labels = make_sentences(n, split="test", seed=3, **given_settings)
    predicted = oracle(sentences, **given_settings)
    for task, best in best_accuracy(**given_settings).items():
        known = labels[task] != -100
        accuracy = (predicted[task] == labels[task])[known].mean()
        assert abs(accuracy - best) <= 4 * sampling_error(best, known.sum()) + 1e-9
        assert predicted[task].shape == (n,) and predicted[task].dtype == np.int64


def test_the_oracle_uses_one_task_as_evidence_for_the_other():
    given_settings = {"class_overlap": 0.6, "task_correlation": 0.9}
    sentences, labels = make_sentences(5000, **given_settings)
    informed = (oracle(sentences, **given_settings)["sentiment"] == labels["sentiment"]).mean()
    blind = (oracle(sentences, class_overlap=0.6)["sentiment"] == labels["sentiment"]).mean()
    assert informed > blind + 0.05


def test_the_oracle_refuses_sentences_that_the_settings_do_not_make():
    with pytest.raises(ValueError, match=r"sentences\[1\] must be .* got 'The sky is blue.'"):
        oracle([make_sentences(1)[0][0], "The sky is blue."])
    with pytest.raises(ValueError, match=r"sentences\[\d+\] must be"):
        oracle(make_sentences(50, class_overlap=1.0)[0])
    with pytest.raises(ValueError, match=r"sentences\[0\] must be"):
        oracle(make_sentences(1)[0], shifted_vocabulary=True)
    assert {task: len(ids) for task, ids in oracle([]).items()} == {"topic": 0, "sentiment": 0}


# A trained probe: logistic regression on frozen embeddings


@pytest.fixture(scope="module")
def embed():
    encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
    known = {}

    def embed(sentences):
        key = tuple(sentences)
        if key not in known:
            known[key] = encoder.encode(sentences, dtype=torch.bfloat16)  # (N, D)
        return known[key]

    return embed


def probe(embed, n_train, n_test, given_settings, **test_settings):
    """Return the test labels {task: (M,)} and what a probe predicts {task: (M,)}."""
    sentences, labels = make_sentences(n_train, **given_settings)
    test_sentences, test_labels = make_sentences(n_test, split="test", **given_settings,
                                                 **test_settings)
    assert set(sentences).isdisjoint(test_sentences)
    predicted = {}
    for task in TASKS:
        known = labels[task] != -100
        classifier = LogisticRegression(C=10, max_iter=2000)
        classifier.fit(embed(sentences)[known], labels[task][known])
        predicted[task] = classifier.predict(embed(test_sentences))
    return test_labels, predicted


def test_on_clean_sentences_a_probe_is_perfect_or_nearly(embed):
    labels, predicted = probe(embed, 800, 500, CLEAN)
    for task, best in best_accuracy(**CLEAN).items():
        assert best == 1
        assert (predicted[task] == labels[task]).mean() >= 0.99


def test_on_noisy_labels_a_probe_comes_within_two_points_of_the_best(embed):
    labels, predicted = probe(embed, 800, 500, NOISY)
    _, clean = make_sentences(500, split="test")  # the same sentences
    for task, best in best_accuracy(**NOISY).items():
        right = (predicted[task] == clean[task]).mean()
        expected = 0.8 * right + 0.2 / (TASKS[task] - 1) * (1 - right)  # over all draws of noise
        assert best - 0.02 <= expected <= best + 1e-9
        drawn = (predicted[task] == labels[task]).mean()
        assert abs(drawn - expected) <= 3 * sampling_error(best, 500)


@pytest.mark.parametrize("given_settings", [OVERLAPPING, COMBINED], ids=["overlap", "combined"])
def test_a_probe_exceeds_the_best_accuracy_on_no_setting(embed, given_settings):
    labels, predicted = probe(embed, 350, 200, given_settings)
    for task, best in best_accuracy(**given_settings).items():
        known = labels[task] != -100
        accuracy = (predicted[task] == labels[task])[known].mean()
        assert accuracy <= best + 3 * sampling_error(best, known.sum())
        assert accuracy >= best - 0.12  # it has learned most of what there is


def test_a_shifted_vocabulary_costs_a_probe_accuracy(embed):
    labels, predicted = probe(embed, 800, 200, CLEAN, shifted_vocabulary=True)
    assert (predicted["topic"] == labels["topic"]).mean() >= 0.9
    assert 0.6 <= (predicted["sentiment"] == labels["sentiment"]).mean() <= 0.99
    assert best_accuracy(shifted_vocabulary=True) == {"topic": 1, "sentiment": 1}


# Bad input

SHARE = "must be a float from 0 to 1"
WRONG = [("n", value, "must be an int of at least 1")
         for value in (0, -3, 2.0, "5", None, True, float("nan"))]
WRONG += [("seed", value, "must be an int of at least 0") for value in (-1, 1.5, "0", None, False)]
WRONG += [("split", value, "must be one of") for value in ("dev", "", None, 0, ["train"])]
SETTINGS = [(name, value, SHARE)
            for name in ("label_noise", "class_overlap", "task_correlation", "missing")
            for value in (-0.01, 1.01, float("nan"), float("inf"), "0.1", None, True)]
SETTINGS += [("class_imbalance", value, "must be a float from 1 to 1000")
             for value in (0.5, 0, -2, 1001, float("nan"), float("inf"), "2", None, True)]
SETTINGS += [("shifted_vocabulary", value, "must be True or False")
             for value in (1, 0.0, "no", None)]


@pytest.mark.parametrize(("name", "value", "valid"), WRONG + SETTINGS)
def test_a_wrong_argument_is_named_shown_and_told_what_is_valid(name, value, valid):
    with pytest.raises(ValueError, match=f"^{name} {valid}.*got {re.escape(repr(value))}$"):
        make_sentences(**{"n": 10, name: value})


@pytest.mark.parametrize(("name", "value", "valid"), SETTINGS)
def test_companions_refuse_the_same_settings(name, value, valid):
    for companion in (best_accuracy, lambda **given: oracle([], **given)):
        with pytest.raises(ValueError, match=f"^{name} {valid}.*got {re.escape(repr(value))}$"):
            companion(**{name: value})


def test_companions_refuse_settings_that_do_not_exist():
    for companion in (best_accuracy, lambda **given: oracle([], **given)):
        with pytest.raises(TypeError, match="noise"):
            companion(noise=0.1)


unit = st.floats(0, 1)


@examples(max_examples=25)
@given(n=st.integers(1, 8), seed=st.integers(0, 2**70), label_noise=unit, class_overlap=unit,
       class_imbalance=st.floats(1, 1000), task_correlation=unit, missing=unit,
       shifted_vocabulary=st.booleans(), split=st.sampled_from(["train", "validation", "test"]))
def test_valid_arguments_give_distinct_sentences_that_the_oracle_reads(n, seed, split, **given):
    sentences, labels = make_sentences(n, seed=seed, split=split, **given)
    assert (sentences, digest(sentences, labels)) == (
        sentences, digest(*make_sentences(n, seed=seed, split=split, **given)))
    assert len(set(sentences)) == n
    predicted, best = oracle(sentences, **given), best_accuracy(**given)
    for task, classes in TASKS.items():
        assert labels[task].shape == (n,) and labels[task].dtype == np.int64
        assert set(labels[task].tolist()) <= {-100, *range(classes)}
        assert set(predicted[task].tolist()) <= set(range(classes))
        assert 1 / classes - 1e-9 <= best[task] <= 1 + 1e-9
