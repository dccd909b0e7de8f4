"""The recorded baselines: the cheap arms come out again."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import baselines, records
from experiments.train import LABELS, splits

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


def test_the_cheap_arms_come_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = set(RECORDS["tfidf"]["config"]["C"].values())
    monkeypatch.setattr(baselines, "STRENGTHS", sorted(chosen))
    fresh = baselines.tfidf(whole=False)
    for task, scores in RECORDS["tfidf"]["test"].items():
        for metric in ("accuracy", "macro_f1"):
            assert fresh["test"][task][metric] == pytest.approx(scores[metric], abs=0.003)
    assert baselines.vader()["test"] == RECORDS["vader"]["test"]
    assert baselines.vader_tweets()["predicted"] == RECORDS["vader-tweets"]["predicted"]
    assert baselines.human()["test"] == RECORDS["human"]["test"]
