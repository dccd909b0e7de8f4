"""The tables of Task_4.ipynb, made from the records in results/; scores in points of 100."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from shutil import copytree

import numpy as np
from IPython.display import Markdown

from experiments import similarity_table
from experiments.analysis import Estimate, gain, runs, score, seed_margin
from experiments.page import show, table
from experiments.records import RESULTS, read_records
from experiments.train import LABELS, RATES, splits
from mtl_helpers import GENRES, LabelledSentences, bootstrap_interval, fit, score_regression
from mtl_helpers.batching import Batch, count_labels

Arm = tuple[str, str]
FROZEN = "frozen encoder, logistic regression"
BASELINES = {  # what the page calls it: its record
    "always the commonest class": "majority",
    "VADER (a word list)": "vader",
    "TF-IDF, logistic regression": "tfidf",
    FROZEN: "embeddings",
}
ALONE, SAME_RATE = "alone", "both, joint, at 1e-4 as alone"
ARMS: dict[str, str] = {  # what the page calls it: its arm
    "genre alone": "genre",
    "sentiment alone": "sentiment",
    "both, joint, at 3e-4": "joint",
    SAME_RATE: "joint-single-rate",
    "both, alternating": "alternating",
    "both, proportional": "proportional",
    "genre alone, half the passes": "genre-equal-labels",
    "sentiment alone, half the passes": "sentiment-equal-labels",
    "both, alternating, twice the passes": "alternating-equal-labels",
}
WEIGHTINGS = {
    "sentiment counts 3 times": "sentiment-x3",
    "sentiment counts 9 times": "sentiment-x9",
    "genre counts 3 times": "genre-x3",
    "each loss over log K": "log_k",
    "learned (uncertainty)": "uncertainty",
    "PCGrad": "PCGrad",
    "UPGrad": "UPGrad",
}
def folded(summary: str, text: str) -> Markdown:
    """A table that a reader unfolds."""
    return Markdown(f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>")


# Schedules


def labels_used(plan: Sequence[Batch], labels: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How many labels of each task an epoch uses; one that comes twice counts twice."""
    used = dict.fromkeys(labels, 0)
    for batch in plan:
        for task, number in count_labels(labels, batch).items():
            used[task] += number
    return used


def draw(data: LabelledSentences, size: int) -> LabelledSentences:
    """Some sentences of a split, the same on every machine."""
    return data.select(np.random.default_rng(0).choice(len(data), size, replace=False))


# Does it help?


def baseline(task: str, name: str) -> Estimate | None:
    """The macro-F1 of a baseline, which has no seeds; None where it does not have the task."""
    found = read_records("baselines")[name]["test"].get(task)
    if found is None:
        return None
    test = splits()[2]
    predicted = [int(digit) for digit in found["predicted"]]
    value, low, high = bootstrap_interval(test.labels[task], predicted, "macro_f1", test.groups)
    return Estimate(value, (high - low) / 2, 1)


def human() -> float:
    """Macro-F1 of one rater against the mean of the others, in sentiment."""
    return read_records("baselines")["human"]["test"]["sentiment"]["macro_f1"]


def has(study: str, arm: str, task: str) -> bool:
    """Whether the runs of an arm have a task."""
    return task in runs(study, arm)[0]["test"]


def arms() -> Markdown:
    """Every way of training that the figures rest on, with what it saw; to be unfolded."""
    rows: list[Sequence[object]] = []
    for title, name in BASELINES.items():
        rows.append((title, None, None, *(baseline(task, name) for task in LABELS), None))
    for title, name in ARMS.items():
        found = runs("arms", name)
        seen = " + ".join(f"{found[0]['labels'].get(task, 0):,}" for task in LABELS)
        cells = [score("arms", name, task) if has("arms", name, task) else None
                 for task in LABELS]
        rows.append((title, f"{found[0]['passes']:,}", seen, *cells, len(found)))
    rows.append(("one human rater", None, None, None, f"{100 * human():.1f}", None))
    columns = "", "passes", "labels, genre + sentiment", "genre", "sentiment", "seeds"
    return folded("All ways of training, with their scores", table(columns, rows))


def compared() -> dict[str, dict[str, tuple[Arm, Arm]]]:
    """What the figure of gains compares: {row: {task: (alone, with the other task)}}."""
    rows: dict[str, dict[str, tuple[Arm, Arm]]] = {}
    names = {"joint, at 3e-4": "joint", "joint, at 1e-4 as alone": "joint-single-rate",
             "alternating": "alternating", "proportional": "proportional",
             "alternating, twice the passes": "alternating-equal-labels"}
    for title, name in names.items():
        rows[title] = {task: (("arms", task), ("arms", name)) for task in LABELS}
    half = {task: (("arms", f"{task}-equal-labels"), ("arms", "alternating")) for task in LABELS}
    rows["alternating, alone half the passes"] = half
    for name in ("joint", "alternating"):
        pairs = {task: (("headline", task), ("headline", name)) for task in LABELS}
        rows[f"16,592 sentences, {name}"] = pairs
    return rows


def gains() -> Markdown:
    """The figure of gains as a table; to be unfolded."""
    rows = []
    for title, pairs in compared().items():
        found = [gain(task, *pair) for task, pair in pairs.items()]
        rows.append((title, *(f"{one:+}" for one in found), found[0].seeds))
    return folded("The same in numbers", table(("", "genre", "sentiment", "seeds"), rows))


def headline() -> Markdown:
    """Scores with the whole training split, three epochs."""
    rows = []
    for title, name in ARMS.items():
        if title in ("genre alone", "sentiment alone", "both, joint, at 3e-4",
                     "both, alternating"):
            cells = [score("headline", name, task) if has("headline", name, task) else None
                     for task in LABELS]
            rows.append((title.removesuffix(", at 3e-4"), *cells, len(runs("headline", name))))
    return folded("With all 16,592 training sentences",
                  table(("", "genre", "sentiment", "seeds"), rows))


def sweep(how: str, task: str) -> list[float]:
    """Validation macro-F1 in points at each learning rate of `RATES`, seed 0.

    `how` is "alone", "joint" or "alternating".
    """
    records, arm = read_records("arms"), task if how == "alone" else how
    found = []
    for rate in RATES:
        found.append(100 * records[f"{arm}-{rate:g}-0"]["validation"][task]["macro_f1"])
    return found


def validation_means(name: str) -> list[float]:
    """The mean macro-F1 of both tasks on validation, in points, for each seed of an arm."""
    means = []
    for record in runs("arms", name):
        rows = record["validation"].values()
        means.append(100 * float(np.mean([row["macro_f1"] for row in rows])))
    return means


def tuning() -> Markdown:
    """What validation says of joint training at two learning rates, seed by seed."""
    lower, higher = (validation_means(name) for name in ("joint-single-rate", "joint"))
    rows: list[Sequence[object]] = []
    for seed, pair in enumerate(zip(lower, higher, strict=True)):
        rows.append((f"seed {seed}", *pair))
    rows.append(("mean", float(np.mean(lower)), float(np.mean(higher))))
    return show(("joint, validation", "1e-4", "3e-4"), rows)


# Weights, few labels, a third task


def weights() -> Markdown:
    """Ways to combine the losses or gradients of a joint step, beside their plain sum."""
    steps = read_records("benchmarks")["methods"]["rows"]
    rows: list[Sequence[object]] = []
    for title, name in WEIGHTINGS.items():
        cells = [f"{gain(task, ('arms', 'joint'), ('weighting', name)):+}" for task in LABELS]
        time = steps[name]["ratio"] if name in steps else None
        rows.append((title, *cells, time, len(runs("weighting", name))))
    return show(("instead of the sum", "genre", "sentiment", "time of a step", "seeds"), rows)


def scarce_arms(labels: int) -> list[Arm]:
    """The arms with so many sentiment labels: alone, and beside genre."""
    return [("scarce", f"{name}-{labels}") for name in ("sentiment", "genre-sentiment")]


def scarce() -> Markdown:
    """Few sentiment labels: alone, and beside 4,000 genre labels."""
    rows = []
    for labels in (50, 200):
        alone, beside = scarce_arms(labels)
        more = gain("sentiment", alone, beside, by_seed=True)
        rows.append((labels, score(*alone, "sentiment"), score(*beside, "sentiment"), f"{more:+}",
                     more.seeds))
    return show(("sentiment labels", "alone", "beside 4,000 of genre", "gain", "seeds"), rows,
                text=0)


# Hutto and Gilbert (ICWSM 2014), Table 4: correlation with the mean of 20 raters, whole corpora.
PAPER_R = {"one human (paper)": {"tweet": 0.888, "movie review": 0.899, "product review": 0.911,
                                 "news editorial": 0.745},
           "VADER (paper)": {"tweet": 0.881, "movie review": 0.451, "product review": 0.565,
                             "news editorial": 0.492}}


def valence_r(name: str) -> np.ndarray:
    """Pearson's r of the predicted valence on the test sentences of each genre, (S, 4)."""
    test = splits()[2]
    found = []
    for run in runs("valence", name):
        predicted = np.array(run["test"]["valence"]["predicted"])
        row = []
        for i in range(len(GENRES)):
            own = test.labels["genre"] == i
            row.append(score_regression(test.labels["valence"][own], predicted[own]).pearson)
        found.append(row)
    return np.array(found)


def valence() -> Markdown:
    """Pearson's r of the predicted valence by genre, beside the corpus's paper, times 100."""
    rows: list[Sequence[object]] = []
    for name, row in PAPER_R.items():
        rows.append((name, *(100 * row[genre] for genre in GENRES)))
    for name, title in (("valence", "alone"), ("three-tasks", "beside the other two")):
        cells = []
        for column in valence_r(name).T:
            cells.append(Estimate(float(column.mean()), seed_margin(column), len(column)))
        rows.append((title, *cells))
    return show(("100 r", *GENRES), rows)


# Similarity


def kept_similarity() -> Markdown:
    """What sorting alone and what a similarity task beside it do to similarity."""
    arms = (similarity_table.BEFORE, similarity_table.SORTING, *similarity_table.kept())
    return Markdown(similarity_table.table(arms, similarity_table.COLUMNS[:-1]))


def other_similarity() -> Markdown:
    """The other arms of that study; to be unfolded."""
    shown = (similarity_table.BEFORE, similarity_table.SORTING, *similarity_table.kept())
    others = [arm for arm, _ in similarity_table.recorded() if arm not in shown]
    return folded("What else was tried", similarity_table.table(others))


# Listings and programs


def training_loop() -> str:
    """The loop of `fit` as it stands in the package."""
    source = inspect.getsource(fit)
    start = source.index("            for epoch, step, batch")
    end = source.index("    except BaseException")
    return textwrap.dedent(source[start:end])


# The same on every processor: heads from seed 0, and no bfloat16.
SEEDED = """import runpy, torch
torch.manual_seed(0)
torch.cpu._is_avx512_bf16_supported = lambda: False
runpy.run_path("own_data.py", run_name="__main__")"""


def run_example(folder: str) -> str:
    """What examples/own_data.py prints in a fresh process, run among the example files."""
    root = RESULTS.parent
    copytree(root / "examples", folder, dirs_exist_ok=True)
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", SEEDED], cwd=folder, check=True, text=True,
                          capture_output=True, env=os.environ | {"PYTHONPATH": paths})
    return done.stdout
