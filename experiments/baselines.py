"""What training the encoder has to beat, and what single raters reach, all on the test split.

    python -m experiments.baselines

Records every arm that has no record yet, in the study baselines. An arm without "-all" learns
from the 4,000 training sentences of `experiments.train`, one with it from the training split.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from experiments.compare_encoders import embed
from experiments.raters import leave_one_rater_out
from experiments.records import add_record, find_record
from experiments.train import LABELS, SENTENCES, Setting, splits, training_data
from mtl_helpers import (
    GENRES,
    LabelledSentences,
    SentenceEncoder,
    load_corpus,
    load_ratings,
    score_classification,
    split_indices,
)

STRENGTHS = (0.3, 1, 3, 10, 30, 100, 300)  # C of logistic regression
BAND = 0.5  # mean ratings from -0.5 to 0.5 are neutral
THRESHOLD = 0.05  # compound scores from here on are positive or negative, as the package says


def scored(test: LabelledSentences, predicted: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Accuracy, macro-F1 and the predicted ids of the test sentences, by task."""
    found = {}
    for task, ids in predicted.items():
        report = score_classification(test.labels[task], ids, LABELS[task])
        found[task] = {"accuracy": round(report.accuracy, 5),
                       "macro_f1": round(report.macro_f1, 5),
                       "predicted": "".join(map(str, ids))}
    return found


def training_sentences(whole: bool) -> LabelledSentences:
    """The fixed training sentences, or the whole training split."""
    return training_data(Setting("baselines", "", sentences=None if whole else SENTENCES))


def majority(whole: bool) -> dict[str, Any]:
    """Always the most frequent class of the training sentences."""
    train, test = training_sentences(whole), splits()[2]
    predicted = {task: np.full(len(test), np.bincount(train.labels[task]).argmax())
                 for task in LABELS}
    return {"config": {"sentences": len(train)}, "test": scored(test, predicted)}


def logistic_regression(encoder: SentenceEncoder | None, whole: bool) -> dict[str, Any]:
    """Logistic regression on frozen embeddings, or on TF-IDF vectors where there is no encoder.

    The C of each task is the one with the best macro-F1 on the validation split; of those that are
    equal to five digits, the smallest.
    """
    train, (_, validation, test) = training_sentences(whole), splits()
    train_vectors, vectors = embed(encoder, train.sentences, validation.sentences + test.sentences)
    held_out, test_vectors = vectors[:len(validation)], vectors[len(validation):]
    strengths, reached, predicted = {}, {}, {}
    for task in LABELS:
        found = {}
        for strength in STRENGTHS:
            probe = LogisticRegression(C=strength, max_iter=2000)
            probe.fit(train_vectors, train.labels[task])
            score = f1_score(validation.labels[task], probe.predict(held_out), average="macro")
            found[strength] = round(float(score), 5), probe
        reached[task] = {str(strength): score for strength, (score, _) in found.items()}
        strengths[task] = best = max(STRENGTHS, key=lambda strength: found[strength][0])
        predicted[task] = found[best][1].predict(test_vectors)
    return {"config": {"sentences": len(train), "C": strengths},
            "validation_macro_f1": reached, "test": scored(test, predicted)}


def tfidf(whole: bool) -> dict[str, Any]:
    """Logistic regression on TF-IDF vectors of words and pairs of words."""
    return logistic_regression(None, whole)


def embeddings(whole: bool) -> dict[str, Any]:
    """Logistic regression on frozen embeddings of all-MiniLM-L6-v2."""
    return logistic_regression(SentenceEncoder.from_pretrained("all-MiniLM-L6-v2"), whole)


def vader_compound(sentences: list[str]) -> np.ndarray:
    """VADER's score of each sentence, (N,), from -1 to 1."""
    analyzer = SentimentIntensityAnalyzer()
    return np.array([analyzer.polarity_scores(text)["compound"] for text in sentences])


def vader_ids(compound: np.ndarray) -> np.ndarray:
    return 1 + (compound >= THRESHOLD).astype(int) - (compound <= -THRESHOLD)


def vader_tweets() -> dict[str, Any]:
    """VADER's classes of all tweets of the corpus, whatever split they are in."""
    corpus = load_corpus()
    tweets = corpus.select(corpus.labels["genre"] == GENRES.index("tweet"))
    predicted = vader_ids(vader_compound(tweets.sentences))
    return {"config": {"threshold": THRESHOLD, "sentences": len(tweets)},
            "predicted": "".join(map(str, predicted))}


def vader() -> dict[str, Any]:
    """The rules of VADER, which learn nothing; made with this corpus at hand (Hutto & Gilbert)."""
    test = splits()[2]
    ids = vader_ids(vader_compound(test.sentences))
    return {"config": {"sentences": 0, "threshold": THRESHOLD},
            "test": scored(test, {"sentiment": ids})}


def human() -> dict[str, Any]:
    """Single raters against the mean of the others, all ratings alike."""
    ratings = load_ratings()[split_indices(load_corpus(), seed=0)[2]].astype(np.float64)
    report = leave_one_rater_out(ratings, BAND)
    return {"config": {"sentences": 0, "band": BAND},
            "test": {"sentiment": {"accuracy": round(report.accuracy, 5),
                                   "macro_f1": round(report.macro_f1, 5)}}}


LEARNERS = {"majority": majority, "tfidf": tfidf, "embeddings": embeddings}
ARMS: dict[str, Callable[[], dict[str, Any]]] = {
    "vader": vader, "vader-tweets": vader_tweets, "human": human,
    **{name: functools.partial(learn, False) for name, learn in LEARNERS.items()},
    **{f"{name}-all": functools.partial(learn, True) for name, learn in LEARNERS.items()},
}


def main() -> None:
    for arm, measure in ARMS.items():
        if not find_record("baselines", arm):
            record = measure()
            config = {"arm": arm, "split_seed": 0} | record["config"]
            add_record("baselines", arm, record | {"config": config})
            print(f"{arm}: recorded", flush=True)


if __name__ == "__main__":
    main()
