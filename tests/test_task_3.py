"""The tables and figures of Task 3, against the records that they are made from."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import drift, studies, task_3
from experiments.records import read_records
from mtl_helpers import score_classification

PAGE = (Path(__file__).resolve().parent.parent / "Task_3.md").read_text(encoding="utf-8")
RECORDS = read_records("drift")
DRIFTED = [setting for setting in drift.jobs() if setting.name in RECORDS]


def test_tables_have_a_cell_for_each_column() -> None:
    for table in (task_3.policies(task_3.SCENARIOS), task_3.policies(task_3.DEPTHS),
                  task_3.policies(task_3.STAGES | task_3.RATES), task_3.choices(),
                  task_3.few_labels(), task_3.domains(), task_3.drifts(), task_3.speeds()):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_every_arm_of_the_page_is_one_of_a_study() -> None:
    known = {(setting.study, setting.arm) for setting, *_ in studies.ARMS}
    shown = (task_3.SCENARIOS, task_3.DEPTHS, task_3.STAGES, task_3.RATES, task_3.WHOLE)
    assert {arm for arms in shown for arm in arms.values()} <= known


@pytest.mark.parametrize("setting", DRIFTED, ids=lambda setting: setting.name)
def test_a_run_of_drift_is_what_it_says(setting) -> None:
    record = RECORDS[setting.name]
    steps = [row["step"] for row in record["macro_f1"]]
    assert steps == list(range(0, drift.STEPS + 1, drift.EVERY))
    assert (setting.frozen in record["labels"]) == (setting.method == "replay")
    met = sum(record["labels"].values())
    assert met == pytest.approx(drift.STEPS * 32, rel=0.02)
    if setting.method == "replay":
        assert record["labels"][setting.frozen] / met == pytest.approx(drift.REPLAYED, abs=0.02)
    scored = drift.scored_sentences()
    for when, row in (("before", 0), ("after", -1)):
        for task, said in record[when].items():
            ids = np.array([int(digit) for digit in said["predicted"]])
            score = score_classification(scored.labels[task], ids, drift.LABELS[task]).macro_f1
            assert score == pytest.approx(record["macro_f1"][row][task], abs=0.01)  # fp32 and bf16


@pytest.mark.parametrize("setting", DRIFTED, ids=lambda setting: setting.name)
def test_a_frozen_head_stays_to_the_bit_only_on_a_frozen_encoder(setting) -> None:
    record = RECORDS[setting.name]
    scores = {row[setting.frozen] for row in record["macro_f1"]}
    before, after = (record[when][setting.frozen] for when in ("before", "after"))
    assert (len(scores) == 1) == (before == after) == (setting.remedy == "encoder")


def test_the_runs_of_a_seed_start_from_one_model() -> None:
    starts: dict[tuple, set[str]] = {}
    for setting in DRIFTED:
        later = setting.remedy in drift.FREE  # from a repetition of the training, as the table says
        for task, said in RECORDS[setting.name]["before"].items():
            starts.setdefault((setting.seed, task, later), set()).add(said["sha256"])
    assert len(starts) == 18 and all(len(found) == 1 for found in starts.values())


@pytest.mark.parametrize("name", task_3.FIGURES)
def test_a_figure_shows_what_the_records_say(name) -> None:
    path = task_3.path_of(name)
    assert Image.open(path).text["records"] == task_3.drawn(task_3.FIGURES[name]())
    assert f"(results/figures/{path.name})" in PAGE


def test_the_page_is_not_too_long() -> None:
    prose = re.sub(r"^```.*?^```|<!--.*?-->|^\|.*?$", "", PAGE, flags=re.M | re.S)
    assert 500 < len(prose.split()) <= 2500
