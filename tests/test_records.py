"""The pages against the records: tables are generated, records are whole and can be computed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import compare_encoders, records, tables
from mtl_helpers import score_classification

ROOT = Path(__file__).resolve().parent.parent
ENCODERS = records.read_records("encoders")


@pytest.mark.parametrize("page", ["README.md", "Task_3.md"])
def test_the_page_shows_what_the_records_say(page) -> None:
    command = [sys.executable, "-m", "cogapp", "--check", page]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


TIMES = records.read_records("benchmarks")["documents"]["documents"]


@pytest.mark.parametrize("name", TIMES)
def test_a_document_says_how_long_it_took(name) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    told = re.search(r"How long it takes\.\*\* (?:About )?(\w+) minutes? on two CPU cores", text)[1]
    minutes = ["A", "two", "three", "four", "five", "six", "seven", "eight"].index(told) + 1
    assert minutes == max(1, round(TIMES[name] / 60))


def test_task_2_names_the_machine_of_its_speeds() -> None:
    said = "on two threads of an AMD EPYC processor"
    assert said in (ROOT / "Task_2.ipynb").read_text(encoding="utf-8")
    place = records.read_records("benchmarks")["sharing"]["environment"]
    assert (place["threads"], place["processor"]) == (2, "AMD EPYC")


def test_the_table_of_helpers_has_every_file_and_its_siblings() -> None:
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]]
            for line in tables.helpers().splitlines()[2:]]
    found = {name: rest for name, *rest in rows}
    assert found.keys() == {path.name for path in (ROOT / "mtl_helpers").glob("[a-z]*.py")}
    assert {len(row) for row in rows} == {4}
    assert found["model.py"][1] == "encoder.py and heads.py" and found["heads.py"][1] == ""
    assert found["encoder.py"][2] == "huggingface-hub, numpy, torch, transformers"


@pytest.fixture(scope="module")
def sample():
    return compare_encoders.fixed_sample()


@pytest.mark.parametrize("name", ENCODERS)
def test_recorded_scores_follow_from_the_recorded_predictions(name, sample) -> None:
    record, (_, test) = ENCODERS[name], sample
    for task, labels in compare_encoders.LABELS.items():
        scores = record["probe"][task]
        predicted = np.array([int(digit) for digit in scores["predicted"]])
        report = score_classification(test.labels[task], predicted, labels)
        assert abs(report.accuracy - scores["accuracy"]) < 1e-4
        assert abs(report.macro_f1 - scores["macro_f1"]) < 1e-4
        low, high = scores["macro_f1_interval"]
        assert low < scores["macro_f1"] < high
    assert abs(compare_encoders.separation(record["cosine"]) - record["separation"]) < 1e-3


def test_the_cheapest_record_can_be_computed_again(sample) -> None:
    fresh = compare_encoders.measure("TF-IDF", *sample)
    for task, scores in ENCODERS["TF-IDF"]["probe"].items():
        assert abs(fresh["probe"][task]["accuracy"] - scores["accuracy"]) <= 0.003
    assert fresh["cosine"] == ENCODERS["TF-IDF"]["cosine"]


def test_every_record_says_what_it_was_run_on() -> None:
    for path in (ROOT / "results").rglob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert {"torch", "transformers", "processor", "threads"} <= set(record["environment"]), path
        assert record["config"], path


def test_a_record_is_written_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "new" / "run.json"
    records.write_record(path, {"config": {"seed": 0}})
    before = path.read_text()
    with pytest.raises(TypeError):
        records.write_record(path, {"config": {object()}})
    assert path.read_text() == before and list(path.parent.iterdir()) == [path]


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(SystemExit, match="unknown models .*'no-such-model'"):
        compare_encoders.main(["no-such-model"])


def test_training_is_as_fast_as_it_must_be_and_scores_alike() -> None:
    found = records.read_records("benchmarks")
    for rows in found["train"]["rows"].values():
        ratios = rows["ours, equal setting"]["ratios"]
        assert np.median(ratios["Trainer"]) >= 1.8
        assert np.median(ratios["Trainer, length-grouped"]) >= 1.05
    for scores in found["train_scores"]["summary"]["ours, equal setting"].values():
        assert abs(scores["difference"]) <= 2 * scores["error_of_difference"]


def test_no_kill_changed_what_a_run_came_to() -> None:
    found = records.read_records("benchmarks")["kills"]
    assert found["kills"] >= 200 and found["inside_a_save"] >= 50
    assert found["runs"] == found["same_weights"] >= 4
