"""The recorded baselines, whose cheap arms come out again, and the linear probe."""

import numpy as np
import pytest
from scipy import sparse
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from experiments import baselines, records
from experiments.probe import linear_probe
from experiments.train import LABELS, splits

RECORDS = records.read_records("baselines")


def test_every_arm_has_a_record_and_says_what_it_was():
    assert RECORDS.keys() == baselines.ARMS.keys()
    train, _, test = splits()
    for arm in RECORDS.keys() - {"vader-tweets"}:
        record, learns = RECORDS[arm], arm.partition("-")[0] in baselines.LEARNERS
        sentences = (len(train) if arm.endswith("-all") else 4000) if learns else 0
        assert (record["config"]["arm"], record["config"]["sentences"]) == (arm, sentences)
        assert set(record["test"]) == (set(LABELS) if learns else {"sentiment"})
        for task, strength in record["config"].get("C", {}).items():
            reached = record["validation_macro_f1"][task]
            assert reached[str(strength)] == max(reached.values())
            assert list(map(float, reached)) == list(baselines.STRENGTHS)
        for task, scores in record["test"].items():
            if arm.startswith("majority"):
                share = (test.labels[task] == np.bincount(train.labels[task]).argmax()).mean()
                assert scores["accuracy"] == pytest.approx(share, abs=1e-5)


def test_the_cheap_arms_come_out_again(monkeypatch):
    chosen = set(RECORDS["tfidf"]["config"]["C"].values())
    monkeypatch.setattr(baselines, "STRENGTHS", sorted(chosen))
    fresh = baselines.tfidf(whole=False)
    for task, scores in RECORDS["tfidf"]["test"].items():
        for metric in ("accuracy", "macro_f1"):
            assert fresh["test"][task][metric] == pytest.approx(scores[metric], abs=0.003)
    assert baselines.vader()["test"] == RECORDS["vader"]["test"]
    assert baselines.vader_tweets()["predicted"] == RECORDS["vader-tweets"]["predicted"]
    assert baselines.human()["test"] == RECORDS["human"]["test"]


def clouds(n, k=4, seed=0):
    """Embeddings (N, 6) around a centre for each of K classes, and the classes in turn."""
    true = np.arange(n) % k
    return np.eye(6)[true] + np.random.default_rng(seed).normal(size=(n, 6)), true


def test_a_probe_has_the_strength_that_is_best_on_a_held_out_quarter():
    embeddings, true = clouds(200)
    others = clouds(100, seed=1)[0]
    splitter = StratifiedShuffleSplit(1, test_size=0.25, random_state=0)
    ((fitted, held),) = splitter.split(embeddings, true)
    found = {}
    for c in (0.1, 1, 10, 100):
        probe = LogisticRegression(C=c, max_iter=2000).fit(embeddings[fitted], true[fitted])
        predicted = probe.predict(embeddings[held])
        found[c] = metrics.f1_score(true[held], predicted, average="macro")
    best = LogisticRegression(C=max(found, key=found.get), max_iter=2000).fit(embeddings, true)
    predicted = linear_probe(embeddings, true, others)
    np.testing.assert_array_equal(predicted, best.predict(others))
    masked = np.append(true, [-100, -100])
    more = sparse.csr_array(np.vstack([embeddings, np.full((2, 6), 50.0)]))
    assert (linear_probe(more, masked, sparse.csr_array(others)) == predicted).all()


def test_a_probe_of_too_few_sentences_to_hold_some_out_has_strength_one():
    others = clouds(100, seed=1)[0]
    for n, extra in ((12, []), (7, []), (40, [5])):
        embeddings, true = clouds(n)
        true[: len(extra)] = extra  # a class of one sentence
        plain = LogisticRegression(max_iter=2000).fit(embeddings, true)
        assert (linear_probe(embeddings, true, others) == plain.predict(others)).all(), n
