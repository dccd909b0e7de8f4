"""What Task_1.ipynb needs beside its cells: poolings of one pass, rows of tables, neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from experiments.compare_encoders import LABELS, MODELS
from experiments.records import read_records
from mtl_helpers import LabelledSentences, SentenceEncoder, pool

AT_ONCE = 64  # sentences in a batch
SCORES = ("vectors", "genre, % right", "sentiment, % right", "sentiment, macro-F1",
          "95 % interval")
MODEL_COLUMNS = ("model", "million weights", "sentences/s", "genre, % right",
                 "sentiment, macro-F1", "95 % interval")
COMPARED = {"all-MiniLM-L6-v2": "all-MiniLM-L6-v2", "all-mpnet-base-v2": "all-mpnet-base-v2",
            "random-weights": "random weights", "TF-IDF": "TF-IDF"}
KINDS = {"paraphrase": "paraphrase", "synonym": "a synonym", "negated": "negation",
         "related": "same topic", "unrelated": "unrelated"}


@torch.inference_mode()
def poolings(encoder: SentenceEncoder, sentences: list[str]) -> dict[str, np.ndarray]:
    """Mean, CLS and max of the same token vectors, (N, D) each, not scaled to length 1.

    The transformer runs once, on sentences of similar length together.
    """
    token_ids = encoder.tokenize(sentences)
    lengths = np.array([len(row) for row in token_ids])
    found = {}
    for name in ("mean", "cls", "max"):
        found[name] = np.empty((len(sentences), encoder.embedding_dim), dtype=np.float32)
    order = np.argsort(lengths, kind="stable")
    device = next(encoder.parameters()).device
    with encoder.eager_attention(lengths):
        for start in range(0, len(order), AT_ONCE):
            rows = order[start : start + AT_ONCE]
            input_ids, attention_mask = encoder.collate([token_ids[row] for row in rows])
            attention_mask = attention_mask.to(device)
            output = encoder.backbone(input_ids.to(device), attention_mask)
            tokens = output.last_hidden_state  # (B, T, D)
            for name, vectors in found.items():
                vectors[rows] = pool(tokens, attention_mask, name).cpu().numpy()
    return found


def score_row(name: str, scores: dict[str, Any]) -> tuple[object, ...]:
    """A row under SCORES, in points, from what `probe_scores` gives."""
    genre, sentiment = scores["genre"], scores["sentiment"]
    return (name, 100 * genre["accuracy"], 100 * sentiment["accuracy"],
            100 * sentiment["macro_f1"], interval(sentiment["macro_f1_interval"]))


def score_rows(scores: dict[str, dict[str, Any]]) -> list[tuple[object, ...]]:
    """The rows of several probes by name."""
    return [score_row(name, found) for name, found in scores.items()]


def interval(ends: list[float]) -> str:
    """The ends of an interval in points."""
    low, high = ends
    return f"{100 * low:.1f}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{100 * high:.1f}"


def commonest_row(train: LabelledSentences, test: LabelledSentences) -> tuple[object, ...]:
    """How often the commonest class of the training sentences is right, under SCORES."""
    right = []
    for task in LABELS:
        commonest = np.bincount(train.labels[task]).argmax()
        right.append(100 * float((test.labels[task] == commonest).mean()))
    return ("always the commonest class", *right, None, None)


def model_rows() -> list[tuple[object, ...]]:
    """The recorded scores of every model that has a record, under MODEL_COLUMNS."""
    records = read_records("encoders")
    speeds = read_records("benchmarks")["models"]["rows"]
    rows = []
    for name in MODELS:
        if name in records:
            record, scores = records[name], records[name]["probe"]
            weights = record["parameters"] / 1e6 if record["parameters"] else None
            speed = round(speeds[name]) if name in speeds else None
            rows.append((name, weights, speed, 100 * scores["genre"]["accuracy"],
                         100 * scores["sentiment"]["macro_f1"],
                         interval(scores["sentiment"]["macro_f1_interval"])))
    return rows


def recorded_cosines() -> dict[str, dict[str, np.ndarray]]:
    """{model: {kind of pair: the recorded cosines of its sixteen pairs}}."""
    found = {}
    for name in COMPARED:
        cosines = read_records("encoders")[name]["cosine"]
        found[name] = {kind: np.array(values) for kind, values in cosines.items()}
    return found


def nearer(cosines: dict[str, np.ndarray]) -> int:
    """How many negations are closer to the sentence than its paraphrase is."""
    return int((cosines["negated"] > cosines["paraphrase"]).sum())


def cosine_rows() -> list[tuple[object, ...]]:
    """The mean recorded cosine of each kind of pair, a column a model, and `nearer`."""
    found = recorded_cosines()
    rows: list[tuple[object, ...]] = []
    for kind, title in KINDS.items():
        rows.append((title, *(float(cosines[kind].mean()) for cosines in found.values())))
    counts = [f"{nearer(cosines)}\N{NO-BREAK SPACE}of\N{NO-BREAK SPACE}16"
              for cosines in found.values()]
    return [*rows, ("negations closer than the paraphrase", *counts)]


def same_label(points: np.ndarray, ids: np.ndarray) -> float:
    """Share in % of each point's ten nearest neighbours, points (N, 2), that have its label."""
    nearest = NearestNeighbors(n_neighbors=10).fit(points).kneighbors(return_distance=False)
    return float(100 * (ids[nearest] == ids[:, None]).mean())  # (N, 10) == (N, 1)


def by_chance(ids: np.ndarray) -> float:
    """Share in % of pairs of equal labels, if two sentences are drawn."""
    shares = np.bincount(ids) / len(ids)
    return float(100 * (shares**2).sum())
