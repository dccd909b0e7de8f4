"""The tables of Tasks 1 and 4, and a figure of Task 1, made from the records in results/.

    python -m experiments.tables        draws results/figures/cosines.png
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.analysis import arm_names, gain, runs, score
from experiments.compare_encoders import MODELS, PUBLISHED
from experiments.figures import plot_pairs
from experiments.page import table
from experiments.records import RESULTS, read_records
from experiments.train import LABELS, splits
from mtl_helpers import bootstrap_interval


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
