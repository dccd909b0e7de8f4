"""The tables of README and Task 4, and the README's figure, made from the records in results/.

    python -m experiments.tables        draws results/figures/cosines.png

In the README they stand between comment markers, where cog calls these functions.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import task_3
from experiments.analysis import arm_names, gain, runs, score
from experiments.compare_encoders import MODELS, PUBLISHED
from experiments.figures import plot_pairs
from experiments.page import table
from experiments.records import RESULTS, read_records
from experiments.train import LABELS, splits
from mtl_helpers import bootstrap_interval


def findings() -> str:
    """What the series found, a line each."""
    cosine = {kind: np.array(values) for kind, values
              in read_records("encoders")["all-MiniLM-L6-v2"]["cosine"].items()}
    nearer = int((cosine["negated"] > cosine["paraphrase"]).sum())
    both = [gain(task, ("arms", task), task_3.SINGLE) for task in LABELS]
    lost = [[gain(task, task_3.SINGLE, task_3.DEPTHS[depth]) for task in LABELS]
            for depth in ("3", "all 6")]
    return "\n".join([
        "- **Freezing a head does not keep its task**, because the encoder moves on: genre changes "
        f"by {task_3.drift_of('none', 'genre', 'genre'):+} macro-F1 while sentiment trains.",
        f"- **A second task does not help the first**: {both[0]:+} macro-F1 in genre and "
        f"{both[1]:+} in sentiment, with one rate for all. But one model does the work of two.",
        "- **The lower three of six layers can be frozen** at a cost too small to be seen "
        f"({lost[0][0]:+} and {lost[0][1]:+}). Freezing the whole encoder costs both tasks "
        f"({lost[1][0]:+} and {lost[1][1]:+}).",
        f"- **The vectors see the words more than what is said**: {nearer} of "
        f"{len(cosine['negated'])} sentences are closer to their negation than to their paraphrase "
        f"(mean cosines {cosine['negated'].mean():.2f} and {cosine['paraphrase'].mean():.2f})."])


def helpers() -> str:
    """What each file of the package gives, its siblings and the packages that it imports."""
    names = {"sklearn": "scikit-learn", "huggingface_hub": "huggingface-hub"}
    rows = []
    for path in sorted((RESULTS.parent / "mtl_helpers").glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]  # for types only
        told = " ".join((ast.get_docstring(tree) or "").split())
        siblings = re.search(r"Goes with ((?:\w+\.py(?:, | and )?)+)", told)
        modules: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(node.module or "")
        packages = {module.split(".")[0] for module in modules} - sys.stdlib_module_names
        rows.append((f"`{path.name}`", re.split(r"[.] |[.]$", told)[0],
                     siblings[1] if siblings else "",
                     ", ".join(sorted(names.get(name, name) for name in packages))))
    return table(("file", "what it gives", "siblings", "packages"), rows, text=4)


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
