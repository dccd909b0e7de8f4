"""Records: kept whole, with scores that follow from them, and shown on the pages."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cogapp import Cog
from PIL import Image

from experiments import compare_encoders, drift, records, task_3_figures, task_4, train

ROOT = Path(__file__).resolve().parent.parent
STUDIES = sorted(path.stem for path in (ROOT / "results").glob("*.jsonl"))
ENCODERS, BENCHMARKS = map(records.read_records, ("encoders", "benchmarks"))
GENERATED = ("README.md", "Task_3.md", "benchmarks/README.md")
TASK_3 = (ROOT / "Task_3.md").read_text(encoding="utf-8")
PLACE = {"processor": "any", "threads": 1}


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A folder for records of its own."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(records, "RUNS", tmp_path / "build")
    monkeypatch.setattr(records, "environment", lambda: PLACE)
    return tmp_path


def add(seed, rate=1e-4, score=0.5):
    config = {"arm": "joint", "encoder_lr": rate, "seed": seed}
    records.add_record("arms", f"joint-{rate:g}-{seed}", {"config": config, "score": score})


def test_a_record_is_found_in_both_places_and_only_a_deleted_line_is_made_anew(empty):
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


def test_a_collect_that_is_killed_anywhere_loses_nothing(empty, monkeypatch):
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
            os.fsync = lambda file: print("writes", flush=True) or time.sleep(600)
        config = {"arm": "joint", "seed": seed}
        records.add_record("arms", f"{seed}", {"config": config, "predicted": "012" * 200_000})
"""


def test_of_two_processes_one_is_killed_and_goes_on_while_two_collect(tmp_path):
    def start(*words):
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, *words], cwd=tmp_path, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)

    first, second = start("0", "slow"), start("1")
    with first:
        assert [first.stdout.readline().strip() for _ in range(5)] == [*"0246", "writes"]
        first.kill()
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


def test_the_files_are_what_collect_makes_of_their_records(tmp_path):
    for study in STUDIES:
        path = tmp_path / f"{study}.jsonl"
        records._write_lines(path, records.collected(study))
        assert path.read_text() == (ROOT / "results" / path.name).read_text(), path.name
    made = json.loads((tmp_path / "environments.json").read_text())
    known = json.loads((ROOT / "results" / "environments.json").read_text())
    assert known | made == known
    for place in [*made.values(), *(record["environment"] for record in BENCHMARKS.values())]:
        assert place.keys() >= {"torch", "transformers", "processor", "threads"}


def predicted():
    """Of each prediction its place, what is true, its row, and how exact its scores are."""
    test, sample = train.splits()[2], compare_encoders.fixed_sample()[1]
    for study in STUDIES:
        data = {"encoders": sample, "drift": drift.scored_sentences()}.get(study, test)
        for name, record in records.read_records(study).items():
            for part, exact, step in (("test", 1e-5, None), ("probe", 1e-4, None),
                                      ("before", 0.01, 0), ("after", 0.01, -1)):
                for task, row in record.get(part, {}).items():
                    if step is not None:
                        row = row | {"macro_f1": record["macro_f1"][step][task]}
                    if "predicted" in row:
                        yield (study, name, part, task), data.labels[task], row, exact


def test_recorded_scores_follow_from_recorded_predictions():
    wrong, count = [], 0
    for place, true, row, exact in predicted():
        if isinstance(row["predicted"], list):  # with two digits
            found, exact = {"pearson": np.corrcoef(true, row["predicted"])[0, 1]}, 1e-3
        else:
            ids = np.array([*map(int, row["predicted"])])
            counts = np.bincount(4 * true + ids, minlength=16).reshape(4, 4)
            sums, right = counts.sum(axis=0) + counts.sum(axis=1), counts.diagonal()
            found = {"accuracy": right.sum() / len(true),
                     "macro_f1": (2 * right[sums > 0] / sums[sums > 0]).mean()}
        wrong += [(place, metric) for metric in found.keys() & row.keys()
                  if abs(found[metric] - row[metric]) > exact]
        count += 1
    assert not wrong and count > 700


def test_the_records_of_encoders_can_be_computed_again():
    fresh = compare_encoders.measure("TF-IDF", *compare_encoders.fixed_sample())
    assert fresh["cosine"] == ENCODERS["TF-IDF"]["cosine"]
    for task, scores in ENCODERS["TF-IDF"]["probe"].items():
        assert abs(fresh["probe"][task]["accuracy"] - scores["accuracy"]) <= 0.003
    with pytest.raises(SystemExit, match=r"unknown models \['no-such-model'\]"):
        compare_encoders.main(["no-such-model"])
    for record in ENCODERS.values():
        assert abs(compare_encoders.separation(record["cosine"]) - record["separation"]) < 1e-3
        for scores in record["probe"].values():
            low, high = scores["macro_f1_interval"]
            assert low < scores["macro_f1"] < high


def test_benchmarks_show_what_was_asked_for():
    for rows in BENCHMARKS["train"]["rows"].values():
        ratios = rows["ours, equal setting"]["ratios"]
        assert np.median(ratios["Trainer"]) >= 1.8
        assert np.median(ratios["Trainer, length-grouped"]) >= 1.05
    for scores in BENCHMARKS["train_scores"]["summary"]["ours, equal setting"].values():
        assert abs(scores["difference"]) <= 2 * scores["error_of_difference"]
    kills = BENCHMARKS["kills"]
    assert kills["kills"] >= 200 and kills["inside_a_save"] >= 50
    assert kills["runs"] == kills["same_weights"] >= 4


def test_tables_have_a_cell_for_each_column():
    shown = [(ROOT / page).read_text(encoding="utf-8") for page in GENERATED]
    for made in (task_4.arms, task_4.gains, task_4.headline, task_4.weights, task_4.scarce,
                 task_4.valence, task_4.tuning, task_4.other_similarity):
        shown.append(made().data)
    for table in re.findall(r"(?:^\|.*\n?)+", "\n\n".join(shown), flags=re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_figures_and_pages_show_what_the_records_say(monkeypatch, capsys):
    for name, figure in task_3_figures.FIGURES.items():
        path = task_3_figures.path_of(name)
        assert Image.open(path).text["records"] == task_3_figures.drawn(figure()), name
        assert f"(results/figures/{path.name})" in TASK_3
    monkeypatch.chdir(ROOT)
    for page in GENERATED:
        assert Cog().main(["cog", "--check", page]) == 0, capsys.readouterr()


def test_task_3_is_not_too_long():
    seen = re.sub(r"<!--.*?-->|<details>.*?</details>", "", TASK_3, flags=re.S)
    prose = re.sub(r"^```.*?^```|^\|.*?$", "", seen, flags=re.M | re.S)
    assert 500 < len(prose.split()) <= 2500 and len(seen.split()) <= 4000


def test_documents_say_how_long_they_took_and_on_what():
    counts = ["A", "two", "three", "four", "five", "six", "seven", "eight"]
    without = BENCHMARKS["documents-avx2"]["documents"]
    assert sum(without.values()) <= 8 * 60
    for name, seconds in BENCHMARKS["documents"]["documents"].items():
        said = (r"How long it takes\.\*\* (?:About )?(\w+) minutes? on two CPU cores"
                r"(?:, (\w+) without AVX-512)?")
        told = re.search(said, (ROOT / name).read_text(encoding="utf-8"))
        for number, taken in ((told[1], seconds), (told[2] or told[1], without[name])):
            assert counts.index(number) + 1 == max(1, round(taken / 60)), name
    said = "on two threads of an AMD EPYC processor"
    assert said in (ROOT / "Task_2.ipynb").read_text(encoding="utf-8")
    place = BENCHMARKS["sharing"]["environment"]
    assert (place["threads"], place["processor"]) == (2, "AMD EPYC")
