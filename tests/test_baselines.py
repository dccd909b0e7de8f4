"""The recorded baselines: the cheap arms come out again."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import baselines, records
from experiments.train import LABELS, splits
from mtl_helpers import load_corpus, load_ratings, split_indices

RECORDS = records.read_records("baselines")


def test_every_arm_has_a_record_and_says_what_it_was() -> None:
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


def test_the_record_of_tfidf_can_be_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = set(RECORDS["tfidf"]["config"]["C"].values())
    monkeypatch.setattr(baselines, "STRENGTHS", sorted(chosen))
    fresh = baselines.tfidf(whole=False)
    for task, scores in RECORDS["tfidf"]["test"].items():
        for metric in ("accuracy", "macro_f1"):
            assert fresh["test"][task][metric] == pytest.approx(scores[metric], abs=0.003)


def test_the_rules_of_vader_give_their_records_again() -> None:
    assert baselines.vader()["test"] == RECORDS["vader"]["test"]
    assert baselines.vader_tweets()["predicted"] == RECORDS["vader-tweets"]["predicted"]


def test_the_human_record_comes_out_again_rater_by_rater() -> None:
    human = RECORDS["human"]["test"]
    assert baselines.human()["test"] == human
    agreed = []  # of all ratings, which agree with the others of their sentence
    for row in load_ratings()[split_indices(load_corpus(), seed=0)[2]]:
        given = row[~np.isnan(row)].astype(np.float64)
        others = [np.delete(given, rater).mean() for rater in range(len(given))]
        own, true = (np.where(np.abs(v) <= 0.5, 0, np.sign(v)) for v in (given, others))
        agreed += (own == true).tolist()
    assert human["sentiment"]["accuracy"] == pytest.approx(np.mean(agreed), abs=1e-5)
