"""The solutions to the exercises: of Task 1 what they say, worked out, of Task 3 as they stand."""

from __future__ import annotations

import re

import documents
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from experiments.analysis import paired_test
from experiments.compare_encoders import fixed_sample, probe_scores
from experiments.records import read_records
from mtl_helpers import GENRES, SentenceEncoder

SWAPPED = [("The dog bit the man.", "The man bit the dog."),
           ("The teacher praised the student.", "The student praised the teacher."),
           ("The lawyer sued the company.", "The company sued the lawyer."),
           ("The hunter killed the bear.", "The bear killed the hunter."),
           ("The police chased the thief.", "The thief chased the police.")]


@pytest.fixture(scope="module")
def vectors() -> tuple[SentenceEncoder, list[np.ndarray]]:
    encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
    return encoder, [encoder.encode(data.sentences) for data in fixed_sample()]


def test_weighing_tokens_by_rarity_gains_nothing(vectors) -> None:
    encoder, plain = vectors
    train, test = fixed_sample()
    counts = torch.zeros(encoder.backbone.config.vocab_size)
    for ids in encoder.tokenize(train.sentences):
        counts[np.unique(ids)] += 1
    rarity = ((1 + len(train)) / (1 + counts)).log()  # (V,)

    @torch.no_grad()
    def weighted(sentences: list[str]) -> np.ndarray:
        ids = encoder.tokenize(sentences)
        order = np.argsort([len(row) for row in ids], kind="stable")  # like lengths meet
        found = np.empty((len(ids), encoder.embedding_dim), dtype=np.float32)
        for rows in np.array_split(order, len(order) // 25):
            batch, mask = encoder.collate([ids[row] for row in rows])
            weights = (rarity[batch] * mask)[..., None]  # (B, T, 1)
            states = encoder.backbone(batch, mask).last_hidden_state
            pooled = (states * weights).sum(dim=1)
            found[rows] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return found

    scores = probe_scores(weighted(train.sentences), weighted(test.sentences), train, test)
    base = probe_scores(*plain, train, test)
    for task in ("genre", "sentiment"):
        assert -0.02 < scores[task]["macro_f1"] - base[task]["macro_f1"] < 0


def test_who_does_what_to_whom_hardly_counts(vectors) -> None:
    encoder, _ = vectors
    pairs = encoder.encode([sentence for pair in SWAPPED for sentence in pair]).reshape(5, 2, -1)
    cosines = (pairs[:, 0] * pairs[:, 1]).sum(axis=-1)  # (5,)
    kinds = read_records("encoders")["all-MiniLM-L6-v2"]["cosine"]
    assert cosines.mean() > max(np.mean(values) for values in kinds.values())


def test_another_genre_costs_editorials_most_and_tweets_least(vectors) -> None:
    _, (inputs, outputs) = vectors
    train, test = fixed_sample()
    lost = {}
    for i, genre in enumerate(GENRES):
        others = np.flatnonzero(train.labels["genre"] != i)
        as_many = np.random.default_rng(0).choice(len(train), len(others), replace=False)
        own = test.labels["genre"] == i
        said = [LogisticRegression(max_iter=1000).fit(
                    inputs[rows], train.labels["sentiment"][rows]).predict(outputs[own])
                for rows in (as_many, others)]
        lost[genre] = paired_test(test.labels["sentiment"][own], *said,
                                  groups=list(test.select(np.flatnonzero(own)).groups))
    order = sorted(GENRES, key=lambda genre: lost[genre].difference)
    assert order[0] == "news editorial" and order[-1] == "tweet"
    assert [genre for genre in GENRES if lost[genre].high > 0] == ["tweet"]


SOLUTION = re.compile(r"^```py\n(.*?)^```\n\n```text\n(.*?)^```\n", flags=re.M | re.S)
SOLUTIONS = SOLUTION.findall((documents.ROOT / "Task_3.md").read_text(encoding="utf-8"))


def test_each_exercise_of_task_3_has_a_solution() -> None:
    page = (documents.ROOT / "Task_3.md").read_text(encoding="utf-8")
    exercises = page[page.index("## Exercises"):]
    assert len(SOLUTIONS) == len(re.findall(r"^\d\. ", exercises, flags=re.M)) == 3


@pytest.mark.parametrize(("code", "shown"), SOLUTIONS)
def test_a_solution_of_task_3_prints_what_stands_below_it(
        code: str, shown: str, capsys: pytest.CaptureFixture) -> None:
    exec(compile(code, "Task_3.md", "exec"), {})
    assert documents.text_difference(shown, capsys.readouterr().out, documents.TOLERANCE) == ""
