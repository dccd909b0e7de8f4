"""The recorded baselines: scores follow from predictions, and the cheap arms come out again."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from experiments import baselines, records
from experiments.train import LABELS, splits
from mtl_helpers import load_corpus, load_ratings, split_indices

RECORDS = records.read_records("baselines")
TWEETS = RECORDS.pop("vader-tweets")  # not of the test split


def test_vaders_classes_of_tweets_can_be_computed_again() -> None:
    corpus = load_corpus()
    tweets = np.flatnonzero(corpus.labels["genre"] == 3)
    assert len(TWEETS["predicted"]) == len(tweets) == 4200
    some = [corpus.sentences[row] for row in tweets[:300]]
    ids = baselines.vader_ids(baselines.vader_compound(some))
    assert TWEETS["predicted"][:300] == "".join(map(str, ids))


def test_every_arm_has_a_record_and_says_what_it_was() -> None:
    assert {*RECORDS, "vader-tweets"} == set(baselines.ARMS)
    for arm, record in RECORDS.items():
        learns = arm.partition("-")[0] in baselines.LEARNERS
        sentences = (len(splits()[0]) if arm.endswith("-all") else 4000) if learns else 0
        assert (record["config"]["arm"], record["config"]["sentences"]) == (arm, sentences)
        assert set(record["test"]) == (set(LABELS) if learns else {"sentiment"})


@pytest.mark.parametrize("arm", [arm for arm in RECORDS if arm != "human"])
def test_recorded_scores_follow_from_the_recorded_predictions(arm: str) -> None:
    test = splits()[2]
    for task, scores in RECORDS[arm]["test"].items():
        predicted = [int(digit) for digit in scores["predicted"]]
        assert len(predicted) == len(test) == 3556
        accuracy = accuracy_score(test.labels[task], predicted)
        macro_f1 = f1_score(test.labels[task], predicted, average="macro")
        assert scores["accuracy"] == pytest.approx(accuracy, abs=1e-5)
        assert scores["macro_f1"] == pytest.approx(macro_f1, abs=1e-5)


@pytest.mark.parametrize("arm", ["majority", "majority-all"])
def test_the_majority_scores_the_share_of_the_most_frequent_training_class(arm: str) -> None:
    train, _, test = splits()
    for task, scores in RECORDS[arm]["test"].items():
        counts = np.bincount(train.labels[task])
        share = (test.labels[task] == counts.argmax()).mean()
        assert scores["accuracy"] == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize("arm", ["tfidf", "tfidf-all", "embeddings", "embeddings-all"])
def test_the_chosen_strength_is_the_best_on_validation(arm: str) -> None:
    for task, strength in RECORDS[arm]["config"]["C"].items():
        reached = RECORDS[arm]["validation_macro_f1"][task]
        assert reached[str(strength)] == max(reached.values())
        assert list(map(float, reached)) == list(baselines.STRENGTHS)


def test_the_record_of_tfidf_can_be_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = set(RECORDS["tfidf"]["config"]["C"].values())
    monkeypatch.setattr(baselines, "STRENGTHS", sorted(chosen))
    fresh = baselines.tfidf(whole=False)
    for task, scores in RECORDS["tfidf"]["test"].items():
        for metric in ("accuracy", "macro_f1"):
            assert fresh["test"][task][metric] == pytest.approx(scores[metric], abs=0.003)


def test_the_rules_of_vader_give_their_record_again() -> None:
    assert baselines.vader()["test"] == RECORDS["vader"]["test"]


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
