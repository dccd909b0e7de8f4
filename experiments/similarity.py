"""What training to classify does to similarity, and what one task more keeps of it.

    python -m experiments.similarity --stsb FILE [--stsb-test FILE] [--part 1/2]
    python -m experiments.similarity --list

FILE is the dev split of STS-B (Cer et al. 2017), which is in no package: a CSV file without a
header, a row for each pair: sentence, sentence, score from 0 to 5. Records have none of its
sentences. A run that is recorded in build/runs/similarity is skipped.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr

from experiments.compare_encoders import PAIRS, cosines, separation
from experiments.keepers import average_with, published_vectors
from experiments.records import add_record, find_record, read_records
from experiments.studies import HEADLINE, part_of
from experiments.train import Setting, course, scores, splits, train
from mtl_helpers import SentenceEncoder, resolve_dtype

MODEL = "all-MiniLM-L6-v2"
# The file has captions first (625 pairs), then forum posts (375), then news (500), so the
# halves differ: compare a score with that of the encoder as it came on the same half.
CHOOSING = slice(0, 750)  # the pairs by which a setting may be chosen
REPORTING = slice(750, 1500)  # the pairs of which a page tells the score
NEIGHBOURS = 10
COSINES = 10.0  # weight of the task that keeps cosines, whose loss is that much smaller

BASE = Setting("similarity", "base")
ARMS = [  # the run, how many seeds it has, and what the table calls it
    (replace(BASE, arm="published", passes=0), 1, "the encoder as it came"),
    (BASE, 5, "sorting alone"),
    (replace(BASE, arm="kept-1", similarity=1.0), 5, "SimilarityHead, weight 1"),
    (replace(BASE, arm="kept-0.3", similarity=0.3), 5, "SimilarityHead, weight 0.3"),
    (replace(BASE, arm="kept-5", similarity=5.0), 5, "SimilarityHead, weight 5"),
    (replace(BASE, arm="sentences-200", sentences=200), 3, "200 sentences"),
    (replace(BASE, arm="sentences-1000", sentences=1000), 3, "1,000 sentences"),
    (replace(BASE, arm="layers-3", policy="layers-3"), 3, "3 layers frozen"),
    (replace(BASE, arm="layers-5", policy="layers-5"), 3, "5 layers frozen"),
    (replace(BASE, arm="rate-3e-05", encoder_lr=3e-5), 3, "learning rate 3e-5"),
    (replace(BASE, arm="rate-0.0003", encoder_lr=3e-4), 3, "learning rate 3e-4"),
    (replace(BASE, arm="sentences-all", sentences=None, passes=HEADLINE), 3,
     "16,592 sentences, four times the steps"),
    (replace(BASE, arm="cosines", similarity=COSINES, keeps="cosines"), 3,
     "cosines within a batch kept"),
    (replace(BASE, arm="l2-sp", keeps="l2-sp"), 1, "L2-SP (weights pulled back)"),
    (replace(BASE, arm="average", keeps="average"), 1, "averaged weights (before and after)"),
    (replace(BASE, arm="unlabelled", similarity=1.0, keeps="unlabelled", sentences=None,
             passes=HEADLINE), 1, "SimilarityHead also for 12,592 sentences without labels"),
    # Few sentences: the heads first, then everything, as in Task 3, whose runs these are again.
    *((replace(BASE, arm=f"few-{count}", sentences=count, policy="lp-ft", select="mean",
               similarity=None), 3, f"{count} sentences, the heads first") for count in (50, 200)),
    *((replace(BASE, arm=f"few-{count}-kept", sentences=count, policy="lp-ft", select="mean",
               similarity=1.0), 3, f"{count} sentences, the heads first, SimilarityHead")
      for count in (50, 200)),
]


class SentencePairs(NamedTuple):
    """The pairs of a file of STS-B."""
    first: list[str]
    second: list[str]
    scores: np.ndarray  # (N,) from 0 to 5


def jobs() -> Iterator[Setting]:
    """All runs: the first seed of every arm, then the second of every arm, and so on."""
    for seed in range(max(seeds for _, seeds, _ in ARMS)):
        for setting, seeds, _ in ARMS:
            if seed < seeds:
                yield replace(setting, seed=seed)


def records() -> list[dict[str, Any]]:
    """The record of every run that has been made."""
    return list(read_records("similarity").values())


def read_pairs(path: Path) -> SentencePairs:
    """The sentence pairs of a CSV file, in its order.

    Raises:
        ValueError: if a row is not two sentences and a score from 0 to 5.
    """
    firsts, seconds, values = [], [], []
    with open(path, encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            try:
                first, second, score = row
                values.append(float(score))
            except ValueError:
                raise ValueError(f"{path}, row {number}: must be two sentences and a score, "
                                 f"got {row}") from None
            firsts.append(first)
            seconds.append(second)
    if not all(0 <= value <= 5 for value in values):
        raise ValueError(f"{path}: scores must be 0 to 5, got {min(values)} to {max(values)}")
    return SentencePairs(firsts, seconds, np.array(values))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, D) divided by their lengths."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pair_cosines(encoder: SentenceEncoder, pairs: SentencePairs) -> np.ndarray:
    """The cosine of the two sentences of each pair, (N,)."""
    first, second = unit(encoder.encode(pairs.first)), unit(encoder.encode(pairs.second))
    return (first * second).sum(axis=1)


def agreement(found: np.ndarray, true: np.ndarray) -> float:
    """Spearman's correlation of cosines (N,) with the scores that people gave (N,)."""
    return round(float(spearmanr(found, true).statistic), 5)


def nearest(vectors: np.ndarray, count: int) -> np.ndarray:
    """Rows of the nearest other vectors by cosine, (N, count); of equals the earlier first."""
    units = unit(vectors)
    found = units @ units.T  # (N, D) -> (N, N)
    np.fill_diagonal(found, -np.inf)
    return np.argsort(-found, axis=1, kind="stable")[:, :count]


def neighbours_kept(before: np.ndarray, after: np.ndarray, count: int = NEIGHBOURS) -> float:
    """The mean share of a vector's nearest neighbours that are so before and after, 0 to 1."""
    kept = 0
    for old, new in zip(nearest(before, count), nearest(after, count), strict=True):
        kept += len(np.intersect1d(old, new))
    return kept / (count * len(before))


def measure(encoder: SentenceEncoder, dev: SentencePairs,
            test: SentencePairs | None = None) -> dict[str, Any]:
    """Scores of similarity in float32, and the dev pairs' cosines in ten-thousandths."""
    found = pair_cosines(encoder, dev)
    stsb = {"choosing": agreement(found[CHOOSING], dev.scores[CHOOSING]),
            "reporting": agreement(found[REPORTING], dev.scores[REPORTING]),
            "dev": agreement(found, dev.scores)}
    if test is not None:
        stsb["test"] = agreement(pair_cosines(encoder, test), test.scores)
    by_kind, test_sentences = cosines(encoder, []), splits()[2].sentences
    kept = neighbours_kept(published_vectors(tuple(test_sentences)), encoder.encode(test_sentences))
    return {
        "stsb": stsb, "separation": round(separation(by_kind), 4),
        "mean_cosine": {kind: round(float(np.mean(by_kind[kind])), 4) for kind in PAIRS},
        "neighbours_kept": round(kept, 5),
        "dev_cosines": " ".join(f"{10_000 * value:.0f}" for value in found)}


def run(setting: Setting, dev: SentencePairs, test: SentencePairs | None) -> dict[str, Any]:
    """Train, unless the run has no passes, and return the record."""
    start = time.perf_counter()
    found: dict[str, Any] = {"config": asdict(setting)}
    if setting.passes:
        model, histories = train(setting, progress=False)
        encoder, used = model.encoder, histories[-1].config
        if setting.keeps == "average":
            average_with(encoder, SentenceEncoder.from_pretrained(MODEL))
        dtype = resolve_dtype(next(model.parameters()).device, used["dtype"]) or torch.float32
        found["config"]["dtype"] = str(dtype).removeprefix("torch.")
        found["config"]["head_lr"] = used["head_lr"]
        found |= course(setting, histories) | scores(model, dtype)
    else:
        encoder = SentenceEncoder.from_pretrained(MODEL)
    found |= measure(encoder, dev, test)
    return found | {"seconds": round(time.perf_counter() - start, 1)}


def recorded(setting: Setting) -> bool:
    """Whether a run has a record.

    Raises:
        ValueError: if that record is of other settings.
    """
    record = find_record(setting.study, setting.name)
    if not record:
        return False
    there = record["config"]
    wanted = json.loads(json.dumps(asdict(setting)))
    if wanted != {name: there.get(name) for name in wanted}:
        raise ValueError(f"{setting.name} is recorded with other settings: {there}")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stsb", type=Path, metavar="FILE", help="the dev split of STS-B")
    parser.add_argument("--stsb-test", type=Path, metavar="FILE", help="its test split")
    parser.add_argument("--part", default="1/1", type=part_of,
                        help="I/N: the I-th of N machines or processes")
    parser.add_argument("--list", action="store_true", help="tell the runs and make none")
    given = parser.parse_args()
    own, parts = given.part
    chosen = list(jobs())[own - 1 :: parts]
    if given.list:
        for setting in chosen:
            print(setting.name, "recorded" if recorded(setting) else "to be made")
        return
    if not given.stsb:
        parser.error("a run needs --stsb FILE")
    dev = read_pairs(given.stsb)
    if len(dev.scores) != REPORTING.stop:
        parser.error(f"--stsb must have {REPORTING.stop} pairs, got {len(dev.scores)}")
    test = read_pairs(given.stsb_test) if given.stsb_test else None
    for setting in chosen:
        if not recorded(setting):
            found = run(setting, dev, test)
            add_record(setting.study, setting.name, found)
            shown = found["stsb"], found["neighbours_kept"], found["separation"]
            print(setting.name, *shown, found["seconds"], "s", flush=True)


if __name__ == "__main__":
    main()
