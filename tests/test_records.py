"""The pages against the records: tables are generated, records are whole and can be computed."""

import json
import os
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
STUDIES = sorted(path.stem for path in (ROOT / "results").glob("*.jsonl"))
PLACE = {"processor": "any", "threads": 1}


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
    for study in [*STUDIES, "benchmarks"]:
        for record in records.read_records(study).values():
            assert {"torch", "transformers", "processor", "threads"} <= set(record["environment"])
            assert record["config"]


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """A folder for records of its own."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(records, "RUNS", tmp_path / "build")
    monkeypatch.setattr(records, "environment", lambda: PLACE)
    return tmp_path


def add(seed: int, rate: float = 1e-4, score: float = 0.5) -> None:
    config = {"arm": "joint", "encoder_lr": rate, "seed": seed}
    records.add_record("arms", f"joint-{rate:g}-{seed}", {"config": config, "score": score})


def test_a_record_is_written_whole_or_not_at_all(empty) -> None:
    add(0)
    path, = (empty / "build" / "arms").iterdir()
    with pytest.raises(TypeError):
        records.write_record(path, {"config": {object()}})
    assert json.loads(path.read_text())["score"] == 0.5 and [*path.parent.iterdir()] == [path]


def test_a_record_is_found_in_both_places_and_only_a_deleted_line_is_made_anew(empty) -> None:
    for seed, rate in ((10, 3e-4), (2, 3e-4), (0, 3e-5)):
        add(seed, rate)
    waiting = records.read_records("arms")
    assert records.collect() == records.collect() == []
    names = ["joint-3e-05-0", "joint-0.0003-2", "joint-0.0003-10"]  # by rate and seed
    found = records.read_records("arms")
    assert found == waiting and list(found) == names
    assert found[names[0]]["environment"] == PLACE and records.find_record("arms", "x") is None

    path = empty / "results" / "arms.jsonl"
    first, second, third = path.read_text().splitlines(keepends=True)
    fourth = third.replace("10", "11")
    add(2, 3e-4, score=0.6)
    add(11, 3e-4)
    again = empty / "build" / "arms" / f"{names[1]}.json"
    assert records.collect() == [again] and again.is_file()
    assert path.read_text() == first + second + third + fourth
    assert records.find_record("arms", names[1])["score"] == 0.5
    path.write_text(first + third + fourth)
    assert records.collect() == [] and not again.exists()
    assert path.read_text() == first + second.replace("0.5}", "0.6}") + third + fourth


def test_a_collect_that_is_killed_anywhere_loses_nothing(empty, monkeypatch) -> None:
    for moment in range(5):  # before it writes two files, and removes three
        monkeypatch.setattr(records, "RESULTS", empty / f"results-{moment}")
        for seed in range(3):
            add(seed)
        expected, left = records.read_records("arms"), [True] * moment

        def killed(change, left=left):
            return lambda *given: left.pop() and change(*given)

        with monkeypatch.context() as patch, pytest.raises(IndexError):
            patch.setattr(os, "replace", killed(os.replace))
            patch.setattr(Path, "unlink", killed(Path.unlink))
            records.collect()
        assert records.read_records("arms") == expected
        assert records.collect() == [] and records.collected("arms") == expected
        assert not list((empty / "build").rglob("*.json"))


WORKER = """
import os, sys, time
from pathlib import Path
from experiments import records

records.RESULTS, records.RUNS = Path("results"), Path("build")
records.environment = lambda: {"threads": 1}
if sys.argv[1] == "collect":
    os.fsync = lambda file: time.sleep(0.2)  # so that two meet
    sys.exit(len(records.collect()))
for seed in range(int(sys.argv[1]), 30, 2):
    if not records.find_record("arms", f"{seed}"):
        print(seed, flush=True)
        if seed == 6 and "slow" in sys.argv:
            os.fsync = lambda file: time.sleep(600)
        config = {"arm": "joint", "seed": seed}
        records.add_record("arms", f"{seed}", {"config": config, "predicted": "012" * 200_000})
"""


def test_of_two_processes_one_is_killed_and_goes_on_while_two_collect(tmp_path) -> None:
    def start(*words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, *words], cwd=tmp_path, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)

    first, second = start("0", "slow"), start("1")
    with first:
        assert [int(first.stdout.readline()) for _ in range(4)] == [0, 2, 4, 6]
        first.kill()  # while it writes
    second.communicate()
    together = [start("0"), start("collect"), start("collect")]
    made, *_ = (process.communicate()[0].split() for process in together)
    assert made == [str(seed) for seed in range(6, 30, 2)]
    last = start("collect")
    last.communicate()
    assert [process.returncode for process in (second, *together, last)] == [0] * 5
    text = (tmp_path / "results" / "arms.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["name"] for line in lines] == [str(seed) for seed in range(30)]
    assert {len(line["predicted"]) for line in lines} == {600_000}
    assert not list((tmp_path / "build").rglob("*.json"))


def test_the_files_are_what_collect_makes_of_their_records(tmp_path) -> None:
    for study in STUDIES:
        path = tmp_path / f"{study}.jsonl"
        records._write_lines(path, records.collected(study))
        assert path.read_text() == (ROOT / "results" / path.name).read_text(), path.name
    made = json.loads((tmp_path / "environments.json").read_text())
    known = json.loads((ROOT / "results" / "environments.json").read_text())
    assert known | made == known


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
