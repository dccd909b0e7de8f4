"""What Task_4.ipynb tells the reader to try: its exercises, the example, and what goes wrong."""

import csv
import math
import re
import runpy
import sys
from pathlib import Path

import documents
import numpy as np
import pytest
from tiny import make_config, make_data, make_model, new_heads

from experiments import readme, task_4
from experiments.train import splits
from mtl_helpers import LabelledSentences, assert_no_leakage, evaluate, fit
from mtl_helpers.training import TrainingDiverged

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "Task_4.ipynb"


def source(cell_id):
    """The source of a cell of the page."""
    return next(cell.source for cell in documents.read(PAGE).cells if cell.id == cell_id)


def test_the_solutions_print_what_stands_below_them(capsys):
    solutions = re.findall(r"```python\n(.*?)```\s+```text\n(.*?)```", source("cac5cbf0"), re.S)
    assert len(solutions) == 3
    names: dict[str, object] = {"splits": splits()}
    for cell_id in ("imports", "4bbe29c8", "810879ec"):  # what the solutions build on
        exec(source(cell_id), names)
    capsys.readouterr()
    for code, shown in solutions:
        exec(code, names)
        assert capsys.readouterr().out == shown


def test_the_files_are_as_the_script_writes_them_and_as_such_files_are(tmp_path, monkeypatch):
    old = {path.name: path.read_bytes() for path in (ROOT / "examples").glob("*.csv")}
    monkeypatch.setattr(sys, "argv", ["make_csv.py", str(tmp_path)])
    runpy.run_path(str(ROOT / "examples" / "make_csv.py"), run_name="__main__")
    assert old == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    reviews, topics = old["reviews.csv"], old["topics.csv"]
    assert reviews.startswith(b"\xef\xbb\xbf") and b"\r\n" in reviews and b"\r\n" not in topics
    rows = list(csv.reader(topics.decode().splitlines()))[1:]
    assert any("," in text and '"' in text for text, _ in rows)
    assert any(label == "" for _, label in rows)


@pytest.mark.documents
def test_the_example_trains_and_a_fresh_process_answers(tmp_path):
    trained, loaded = (task_4.run_example(str(tmp_path)) for _ in range(2))
    scores = re.findall(r"^\w+: (\d+)% right; a probe (\d+)%, one guess (\d+)%$", trained, re.M)
    assert len(scores) == 2 and all(int(model) > 2 * int(least) for model, _, least in scores)
    assert trained.endswith(loaded) and "technology" in loaded and "positive" in loaded
    program = (ROOT / "examples" / "own_data.py").read_text(encoding="utf-8")
    assert f"```python\n{program.rstrip()}\n```" in source("similarity-after")
    assert len([line for line in readme.example().splitlines() if line.strip()]) <= 30


def two_tasks(n=32):
    """Sentences whose first word decides both tasks."""
    words = ["film", "phone", "senator"]
    rng = np.random.default_rng(0)
    ids = np.arange(n) % 3
    sentences = [f"{words[i]} {' '.join(rng.choice(['the', 'a', 'is'], 4))} {n}"
                 for n, i in enumerate(ids)]
    return LabelledSentences(sentences, {"genre": ids, "sentiment": np.minimum(ids, 1)})


def test_steps_that_are_too_small_leave_the_loss_at_log_k():
    losses = {}
    for rate in (1e-7, 1e-2):
        model = new_heads(make_model(dropout=0.0), seed=0)
        config = make_config(encoder_lr=rate, head_lr=rate, epochs=40)
        losses[rate] = fit(model, two_tasks(), config=config).losses("genre")[1][-1]
    assert abs(losses[1e-7] - math.log(3)) < 0.2 and losses[1e-2] < 0.6


def test_a_value_in_a_huge_unit_and_a_sentence_in_two_splits_are_refused():
    data = make_data()
    data.labels["valence"] = (1e25 * np.arange(len(data))).astype(np.float32)
    with pytest.raises(TrainingDiverged, match="valence is not finite"):
        fit(make_model(), data, config=make_config())
    with pytest.raises(ValueError, match="of split 2 are also in split 1"):
        assert_no_leakage(data.select(range(20)), data.select(range(19, 32)))


def test_what_is_learned_by_heart_helps_no_other_sentence():
    data = make_data(60)
    train, validation = data.select(range(24)), data.select(range(24, 60))
    config = make_config(epochs=60, encoder_lr=1e-2, select="genre")
    history = fit(make_model(dropout=0.0), train, validation, config)
    scores = [row["validation"]["genre"]["macro_f1"] for row in history.epochs]
    assert history.epochs[-1]["loss"]["genre"] < 0.3 and max(scores) < 0.6
    assert history.best_step == history.epochs[int(np.argmax(scores))]["step"]


def test_labels_of_other_sentences_teach_nothing_new():
    data = two_tasks(48)
    shifted = {"genre": np.random.default_rng(0).permutation(data.labels["genre"])}
    reached = []
    for labels in (data.labels, shifted):
        model = make_model(dropout=0.0)
        wrong = LabelledSentences(data.sentences, {"genre": labels["genre"]})
        fit(model, wrong.select(range(36)), config=make_config(encoder_lr=1e-2, epochs=30))
        reached.append(evaluate(model, data.select(range(36, 48)))["genre"].accuracy)
    assert reached[0] == 1 and reached[1] < 0.6


def test_a_task_with_hardly_any_labels_or_weight_does_not_learn():
    data, losses = two_tasks(), {}
    for weight in (1.0, 0.0):
        model = new_heads(make_model(dropout=0.0), seed=0)
        weighting = {task: 1.0 for task in model.heads} | {"sentiment": weight}
        config = make_config(encoder_lr=1e-2, epochs=20, weighting=weighting)
        losses[weight] = fit(model, data, config=config).losses("sentiment")[1][-1]
    assert losses[1.0] < 0.2 < 0.4 < losses[0.0]
    data.labels["sentiment"][1:] = -100
    history = fit(make_model(), data, config=make_config())
    assert sum(step["labels"].get("sentiment", 0) for step in history.steps) == 2  # an epoch, one
