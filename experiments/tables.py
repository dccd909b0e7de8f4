"""The tables of Tasks 1 and 4, and a figure of Task 1, made from the records in results/.

    python -m experiments.tables        draws results/figures/cosines.png
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.analysis import arm_names, gain, runs, score, seed_margin
from experiments.compare_encoders import MODELS, PUBLISHED
from experiments.figures import plot_pairs
from experiments.page import table
from experiments.records import RESULTS, read_records
from experiments.train import LABELS, splits
from mtl_helpers import GENRES, bootstrap_interval, score_regression


def encoders(records: dict[str, dict[str, Any]] | None = None) -> str:
    """Probe scores of every model of Task 1 that has a record, or of those that are given."""
    records, timed = records or read_records("encoders"), read_records("benchmarks")["models"]
    rows: list[Sequence[object]] = []
    for name in MODELS:
        published = f"{PUBLISHED[name]:.2f}" if name in PUBLISHED else ""
        if name not in records:
            rows.append((name, "no weights here", None, None, published, None, None))
            continue
        row, speed = records[name], timed["rows"].get(name)
        genre, sentiment = row["probe"]["genre"], row["probe"]["sentiment"]
        low, high = sentiment["macro_f1_interval"]
        rows.append((name, f"{row['parameters'] / 1e6:.1f} M" if row["parameters"] else "",
                     f"{row['embedding_dim']:,}", f"{speed:.0f}" if speed else "", published,
                     f"{genre['accuracy']:.3f}",
                     f"{sentiment['macro_f1']:.3f} [{low:.2f}, {high:.2f}]"))
    config, place = timed["config"], timed["environment"]
    return table(("model", "parameters", "dim", "sentences/s", "published", "genre accuracy",
                  "sentiment macro-F1"), rows) + (
        f"\n\nSpeeds are of {config['sentences']} sentences in {config['dtype']} "
        f"on {place['threads']} threads of an {place['processor']} processor "
        "(`python -m benchmarks.models`).")


BASELINES = {  # record in results/baselines: its name in the tables
    "majority": "always the commonest class",
    "vader": "VADER (word list and rules)",
    "tfidf": "TF-IDF, logistic regression",
    "embeddings": "frozen encoder, logistic regression",
}
ARM_NAMES = {
    "genre": "genre alone", "sentiment": "sentiment alone", "joint": "both, joint",
    "joint-single-rate": "both, joint, at 1e-4",
    "alternating": "both, alternating", "proportional": "both, proportional",
    "genre-equal-labels": "genre alone, half the passes",
    "sentiment-equal-labels": "sentiment alone, half the passes",
    "alternating-equal-labels": "both, alternating, twice the passes",
}


def baseline_cell(task: str, found: dict[str, Any], metric: str) -> str:
    """A score without seeds, and half of its interval over the test sentences."""
    test = splits()[2]
    predicted = [int(digit) for digit in found["predicted"]]
    interval = bootstrap_interval(test.labels[task], predicted, metric, test.groups)
    return f"{interval.value:.3f} ± {(interval.high - interval.low) / 2:.3f}"


def score_cells(study: str, name: str) -> list[str]:
    """Accuracy and macro-F1 of an arm in each task; "" for a task that it does not have."""
    cells = []
    for task in LABELS:
        for metric in ("accuracy", "macro_f1"):
            known = task in runs(study, name)[0]["test"]
            cells.append(str(score(study, name, task, metric)) if known else "")
    return cells


SCORES = ("genre accuracy", "genre macro-F1", "sentiment accuracy", "sentiment macro-F1")


def arms() -> str:
    """Every arm of the first study: what it saw and how it scored, with floors and ceiling."""
    rows: list[Sequence[object]] = []
    baselines = read_records("baselines")
    for name, title in BASELINES.items():
        test, cells = baselines[name]["test"], []
        for task in LABELS:
            for metric in ("accuracy", "macro_f1"):
                cells.append(baseline_cell(task, test[task], metric) if task in test else "")
        rows.append((title, None, None, None, *cells, None))
    for name, title in ARM_NAMES.items():
        found = runs("arms", name)
        if found:
            seen = [f"{found[0]['labels'].get(task, 0):,}" for task in LABELS]
            rows.append((title, f"{found[0]['passes']:,}", *seen, *score_cells("arms", name),
                         len(found)))
    human = baselines["human"]["test"]["sentiment"]
    rows.append(("one human rater against the others", *[None] * 5, f"{human['accuracy']:.3f}",
                 f"{human['macro_f1']:.3f}", None))
    return table(("arm", "encoder passes", "genre labels", "sentiment labels", *SCORES, "seeds"),
                 rows)


def gains(study: str = "arms") -> str:
    """How much each multi-task arm of a study scores above the single-task models.

    The last row is over those with half the passes, where the study has them.
    """
    compared = {ARM_NAMES[name]: (name, "") for name in (
        "joint", "joint-single-rate", "alternating", "proportional", "alternating-equal-labels")}
    compared["both, alternating, over half the passes alone"] = "alternating", "-equal-labels"
    rows = []
    for title, (name, alone) in compared.items():
        if {name, f"genre{alone}"} <= set(arm_names(study)) and runs(study, name):
            found = [gain(task, (study, task + alone), (study, name)) for task in LABELS]
            rows.append((title, *(f"{one:+}" for one in found), found[0].seeds))
    return table(("arm", "genre macro-F1, gain", "sentiment macro-F1, gain", "seeds"), rows)


def headline() -> str:
    """Scores with the whole training split, three epochs."""
    rows = []
    for name in ("genre", "sentiment", "joint", "alternating"):
        found = runs("headline", name)
        if found:
            rows.append((ARM_NAMES[name], f"{found[0]['passes']:,}",
                         *score_cells("headline", name), len(found)))
    return table(("arm", "encoder passes", *SCORES, "seeds"), rows)


def weighting() -> str:
    """Ways to combine the losses or gradients of a joint step, beside their plain sum."""
    names = {"sentiment-x3": "sentiment weighs 3 times genre",
             "sentiment-x9": "sentiment weighs 9 times genre",
             "genre-x3": "genre weighs 3 times sentiment", "log_k": "each over log K",
             "uncertainty": "learned uncertainty", "PCGrad": "PCGrad", "UPGrad": "UPGrad"}
    steps = read_records("benchmarks")["methods"]["rows"]
    genre, sentiment = (score("arms", "joint", task) for task in LABELS)
    rows: list[Sequence[object]] = [
        ("plain sum", genre, None, sentiment, None, 1, len(runs("arms", "joint")))]
    for name, title in names.items():
        found = runs("weighting", name)
        if found:
            cells: list[object] = []
            for task in LABELS:
                more = gain(task, ("arms", "joint"), ("weighting", name))
                cells += [score("weighting", name, task), f"{more:+}"]
            time = f"{steps[name]['ratio']:.2f}" if name in steps else None
            rows.append((title, *cells, time, len(found)))
    return table(("method", "genre macro-F1", "gain over the sum", "sentiment macro-F1",
                  "gain over the sum", "time of a step, to the sum's", "seeds"), rows)


def scarce() -> str:
    """Few sentiment labels: alone, and beside 4,000 genre labels."""
    rows = []
    for labels in (50, 200):
        alone, beside = scarce_arms(labels)
        more = gain("sentiment", alone, beside, by_seed=True)
        rows.append((labels, score(*alone, "sentiment"), score(*beside, "sentiment"), f"{more:+}",
                     more.seeds))
    return table(("sentiment labels", "alone, macro-F1", "beside 4,000 genre labels", "gain",
                  "seeds"), rows, text=0)


def scarce_arms(labels: int) -> list[tuple[str, str]]:
    """The arms with so many sentiment labels: alone, and beside genre."""
    return [("scarce", f"{name}-{labels}") for name in ("sentiment", "genre-sentiment")]


# Hutto and Gilbert (ICWSM 2014), Table 4: correlation with the mean of 20 raters, whole corpora.
PAPER_R = {"an individual human": {"tweet": 0.888, "movie review": 0.899, "product review": 0.911,
                                   "news editorial": 0.745},
           "VADER": {"tweet": 0.881, "movie review": 0.451, "product review": 0.565,
                     "news editorial": 0.492}}


def valence_r(name: str) -> np.ndarray:
    """Pearson's r of the predicted valence on the test sentences of each genre, (S, 4)."""
    test = splits()[2]
    rows = [test.labels["genre"] == i for i in range(len(GENRES))]
    predicted = [np.array(run["test"]["valence"]["predicted"]) for run in runs("valence", name)]
    return np.array([[score_regression(test.labels["valence"][row], values[row]).pearson
                      for row in rows] for values in predicted])


def valence() -> str:
    """Pearson's r of the predicted valence by genre, beside the corpus's paper."""
    rows = [(f"{name} (paper, Table 4)", *(f"{row[genre]:.3f}" for genre in GENRES))
            for name, row in PAPER_R.items()]
    for name, title in (("valence", "valence alone"), ("three-tasks", "with genre and sentiment")):
        values = valence_r(name)
        if len(values):
            rows.append((f"{title}, {len(values)} seeds", *(
                f"{column.mean():.3f} ± {seed_margin(column):.3f}" for column in values.T)))
    return table((None, *GENRES), rows)


def draw_cosines() -> None:
    records = read_records("encoders")
    cosines = {name: records[name]["cosine"] for name in MODELS if name in records}
    title = "A negation is about as close as a paraphrase, or closer"
    figure = plot_pairs(cosines, title)
    path = RESULTS / "figures" / "cosines.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(figure._repr_png_())


if __name__ == "__main__":
    draw_cosines()
