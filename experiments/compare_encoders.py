"""Encoders compared without training them: linear probes, cosines of sentence pairs, floors.

    python -m experiments.compare_encoders [NAME ...]

Records every model that is at hand and has no record yet, in the study encoders. Explained in
Task_1.ipynb, which measures the models it finds again and compares them with these records.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import AutoModel, PreTrainedConfig

from experiments.join_mpnet import FOLDER as JOINED_MPNET
from experiments.probe import linear_probe
from experiments.records import add_record, find_record
from mtl_helpers import (
    GENRES,
    SENTIMENTS,
    LabelledSentences,
    SentenceEncoder,
    bootstrap_interval,
    load_corpus,
    score_classification,
    split_corpus,
)

LABELS = {"genre": GENRES, "sentiment": SENTIMENTS}
N_TRAIN, N_TEST = 2000, 1000
PAIRS: dict[str, list[list[str]]] = json.loads(
    Path(__file__).with_name("sentence_pairs.json").read_text(encoding="utf-8")
)
# The model hub's name of each model, or where its weights come from; in the order of the table.
MODELS = {
    "all-MiniLM-L6-v2": "all-MiniLM-L6-v2",
    "paraphrase-mpnet-base-v2": "paraphrase-mpnet-base-v2",
    "bert-base-nli-mean-tokens": "bert-base-nli-mean-tokens",
    "all-mpnet-base-v2": str(JOINED_MPNET),
    "random-weights": "all-MiniLM-L6-v2",
    "TF-IDF": "",
}
# Mean over 14 sentence-embedding sets, from the model page of sentence-transformers.
PUBLISHED = {
    "all-mpnet-base-v2": 69.57,
    "all-MiniLM-L6-v2": 68.06,
    "paraphrase-mpnet-base-v2": 67.97,
}


def fixed_sample() -> tuple[LabelledSentences, LabelledSentences]:
    """2,000 training and 1,000 test sentences of the corpus, the same on every machine."""
    train, _, test = split_corpus(load_corpus(), seed=0)
    draw = np.random.default_rng(0)
    return (
        train.select(draw.choice(len(train), N_TRAIN, replace=False)),
        test.select(draw.choice(len(test), N_TEST, replace=False)),
    )


def randomised(encoder: SentenceEncoder, seed: int = 0) -> SentenceEncoder:
    """The same architecture, tokenizer and pooling with weights that were never trained."""
    config: PreTrainedConfig = encoder.backbone.config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = AutoModel.from_config(config)
    return SentenceEncoder(
        backbone.eval(), encoder.tokenizer, encoder.pooling, encoder.normalize, encoder.max_length
    )


def load(name: str) -> SentenceEncoder | None:
    """The encoder of a row of the table; None for TF-IDF, which has no encoder.

    Raises:
        OSError: if the model is not at hand and the model hub can't be reached.
    """
    if name == "TF-IDF":
        return None
    encoder = SentenceEncoder.from_pretrained(MODELS[name])
    return randomised(encoder) if name == "random-weights" else encoder


def embed(encoder: SentenceEncoder | None, train: list[str], others: list[str]) -> tuple[Any, Any]:
    """Unit vectors of both lists; TF-IDF learns its words from the first."""
    if encoder is not None:
        return encoder.encode(train), encoder.encode(others)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return words.fit_transform(train), words.transform(others)


def cosines(encoder: SentenceEncoder | None, train: list[str]) -> dict[str, list[float]]:
    """The cosine of each sentence pair, by kind of pair."""
    first = [pair[0] for pairs in PAIRS.values() for pair in pairs]
    second = [pair[1] for pairs in PAIRS.values() for pair in pairs]
    vectors = embed(encoder, train, first + second)[1]
    vectors = vectors if isinstance(vectors, np.ndarray) else vectors.toarray()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(lengths > 0, lengths, 1)
    values = iter((vectors[: len(first)] * vectors[len(first) :]).sum(axis=1).tolist())
    return {kind: [round(next(values), 4) for _ in pairs] for kind, pairs in PAIRS.items()}


def separation(found: dict[str, list[float]]) -> float:
    """How far paraphrases lie above unrelated pairs, in standard deviations (Cohen's d)."""
    above, below = np.array(found["paraphrase"]), np.array(found["unrelated"])
    spread = np.sqrt((above.var(ddof=1) + below.var(ddof=1)) / 2)
    return float((above.mean() - below.mean()) / spread)


def probe_scores(train_vectors: Any, test_vectors: Any, train: LabelledSentences,
                 test: LabelledSentences) -> dict[str, dict[str, Any]]:
    """Accuracy and macro-F1 of a linear probe for each task, with 95 % bootstrap intervals."""
    scores = {}
    for task, labels in LABELS.items():
        predicted = linear_probe(train_vectors, train.labels[task], test_vectors)
        report = score_classification(test.labels[task], predicted, labels)
        interval = bootstrap_interval(test.labels[task], predicted, "macro_f1", groups=test.groups)
        scores[task] = {
            "accuracy": round(report.accuracy, 4),
            "macro_f1": round(report.macro_f1, 4),
            "macro_f1_interval": [round(interval.low, 4), round(interval.high, 4)],
            "predicted": "".join(map(str, predicted)),
        }
    return scores


def measure(name: str, train: LabelledSentences, test: LabelledSentences) -> dict[str, Any]:
    """The record of one row: size, probe scores and cosines."""
    encoder = load(name)
    train_vectors, test_vectors = embed(encoder, train.sentences, test.sentences)
    found = cosines(encoder, train.sentences)
    parameters = 0 if encoder is None else sum(p.numel() for p in encoder.parameters())
    return {
        "config": {"model": name, "train": N_TRAIN, "test": N_TEST, "split_seed": 0},
        "parameters": parameters,
        "embedding_dim": train_vectors.shape[1],
        "separation": round(separation(found), 3),
        "cosine": found,
        "probe": probe_scores(train_vectors, test_vectors, train, test),
    }


def main(names: list[str]) -> None:
    unknown = set(names) - set(MODELS)
    if unknown:
        sys.exit(f"unknown models {sorted(unknown)}; valid are {', '.join(MODELS)}")
    train, test = fixed_sample()
    for name in names or MODELS:
        if find_record("encoders", name):
            print(f"{name}: recorded already")
            continue
        try:
            record = measure(name, train, test)
        except OSError as error:
            print(f"{name}: not at hand ({error})")
            continue
        add_record("encoders", name, record)
        print(f"{name}: recorded")


if __name__ == "__main__":
    main(sys.argv[1:])
