"""The solutions that stand under the exercises of Task 1, executed, and what they say."""

from __future__ import annotations

import re
from typing import Any

import documents
import numpy as np
import pytest

from experiments.compare_encoders import fixed_sample
from experiments.records import read_records
from mtl_helpers import SentenceEncoder

CELLS = documents.read(documents.ROOT / "Task_1.ipynb").cells
SOLUTION = re.compile(r"<details><summary>Solution (\d)</summary>.*?```python\n(.*?)```", re.S)
SOLUTIONS = {number: code for cell in CELLS for number, code in SOLUTION.findall(cell.source)}


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that a reader of the page has at its end, as far as the solutions need them."""
    (imports,) = [cell.source for cell in CELLS if "\nfrom mtl_helpers import" in cell.source]
    names: dict[str, Any] = {}
    exec(imports, names)
    names["encoder"] = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
    names["train"], names["test"] = fixed_sample()
    return names


def solved(number: str, page: dict[str, Any]) -> dict[str, Any]:
    names = dict(page)
    exec(compile(SOLUTIONS[number], f"Task 1, solution {number}", "exec"), names)
    return names


@pytest.mark.documents
def test_weighing_tokens_by_rarity_gains_nothing(page) -> None:
    rare = solved("1", page)["rare"]
    base = read_records("encoders")["all-MiniLM-L6-v2"]["probe"]
    for task in ("genre", "sentiment"):
        assert -0.025 < rare[task]["macro_f1"] - base[task]["macro_f1"] < 0


def test_who_does_what_to_whom_hardly_counts(page) -> None:
    swapped = solved("2", page)["swapped"]
    kinds = read_records("encoders")["all-MiniLM-L6-v2"]["cosine"]
    assert swapped.mean() > max(np.mean(values) for values in kinds.values())


@pytest.mark.documents
def test_negations_as_wrong_partners_move_those_of_other_sentences_away(page) -> None:
    after = {kind: np.mean(values) for kind, values in solved("3", page)["after"].items()}
    record = read_records("contrastive")["negations-0"]["cosine_after"]
    assert after["negated"] < after["paraphrase"] - 0.1
    for kind, values in record.items():
        assert abs(after[kind] - np.mean(values)) < 0.1, kind
