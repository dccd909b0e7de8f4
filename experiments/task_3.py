"""The whole tables of Task_3.md, made from the records in results/; they stand there folded.

They stand on the page between comment markers, where cog calls these functions; what is shown
without unfolding comes from experiments/task_3_page.py.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.analysis import (
    Estimate,
    estimate,
    gain,
    mean,
    predictions,
    runs,
    score,
    scores_of_draws,
    seed_margin,
)
from experiments.drift import FREE, REMEDIES, DriftSetting, scored_sentences, seeds
from experiments.page import table
from experiments.policies import trainable_table
from experiments.records import read_records
from experiments.studies import domain_arm
from experiments.train import LABELS, SENTENCES, Setting, build
from mtl_helpers import GENRES, freeze

Arm = tuple[str, str]
FULL: Arm = ("arms", "joint")
SINGLE: Arm = ("arms", "joint-single-rate")  # added after the others, as Task 4 says
SCENARIOS: dict[str, Arm] = {
    "everything, heads randomly initialised": ("freezing", "everything"),
    "encoder, linear heads": ("freezing", "encoder"),
    "encoder, heads with a hidden layer": ("freezing", "encoder-hidden"),
    "genre head, randomly initialised": ("freezing", "genre-head-random"),
    "sentiment head, randomly initialised": ("freezing", "sentiment-head-random"),
    "genre head, trained before": ("freezing", "genre-head-trained"),
    "sentiment head, trained before": ("freezing", "sentiment-head-trained"),
    "nothing, at 3e-4": FULL,
    "nothing, at 1e-4": SINGLE,
}
DEPTHS: dict[str, Arm] = {
    "all 6": ("freezing", "encoder"),
    **{str(k): ("freezing", f"layers-{k}") for k in range(5, 0, -1)},
    "embeddings": ("freezing", "embeddings"),
    "nothing, at 3e-4": FULL,
    "nothing, at 1e-4": SINGLE,
}
STAGES: dict[str, Arm] = {
    "the heads, then everything (LP-FT)": ("freezing", "lp-ft"),
    "the heads, then layer after layer": ("freezing", "gradual"),
}
RATES: dict[str, Arm] = {
    "times 0.9 a layer down": ("freezing", "decay-0.9"),
    "times 0.8 a layer down": ("freezing", "decay-0.8"),
    "divided by 2.6 a layer down": ("freezing", "decay-2.6"),
}
WHOLE: dict[str, Arm] = {"everything at 3e-4": FULL, "everything at 1e-4": SINGLE}
POLICIES = {"encoder": "encoder frozen", "lp-ft": "heads first", "full": "everything"}
REMEDY_NAMES = {"none": "nothing", "encoder": "encoder frozen too",
                "replay": "a tenth of old sentences",
                "small-rate": "a tenth of the learning rate",
                "l2-sp": "a pull to the start (L2-SP)",
                "distillation": "the head held to its old answers",
                "similarity": "vectors held to what they were (SimilarityHead)",
                "replay-free": "a tenth of old sentences, the head free",
                "distillation-free": "its old answers, the head free"}


def parts() -> str:
    """What is trainable with four layers and one head frozen."""
    model = build(Setting("freezing", "parts"))
    freeze(model, "layers:4", "head:genre")
    return trainable_table(model)


def policies(arms: Mapping[str, Arm], first: str = "frozen") -> str:
    """What each policy trained and how it scored, and its gains over freezing nothing."""
    columns, rows = [first, "weights trained", "learning rate"], []
    for task in LABELS:
        columns += [f"{task} macro-F1", f"{task}, against 3e-4", f"{task}, against 1e-4"]
    for title, arm in arms.items():
        found, cells = runs(*arm), []
        for task in LABELS:
            cells.append(str(score(*arm, task)))
            for base in (FULL, SINGLE):
                cells.append("" if arm == base else f"{gain(task, base, arm):+}")
        rate = "" if arm[1] in ("everything", "encoder", "encoder-hidden") else (
            f"{found[0]['config']['encoder_lr']:.0e}".replace("e-0", "e-"))
        rows.append((title, f"{found[0]['trainable']:,}", rate, *cells, len(found)))
    return table((*columns, "seeds"), rows)


def few_labels() -> str:
    """Macro-F1 of a frozen encoder by the number of training sentences, and what training adds."""
    columns, rows = ["training sentences"], []
    for task in LABELS:
        columns += [f"{task}: {title}" for title in (
            POLICIES["encoder"], "heads first, gain", "everything, gain")]
    for size, arms in label_arms().items():
        if len(arms) == len(POLICIES):
            cells = []
            for task in LABELS:
                cells += [str(score(*arms["encoder"], task)),
                          f"{label_gain(size, 'lp-ft', task):+}",
                          f"{label_gain(size, 'full', task):+}"]
            rows.append((f"{size:,}", *cells))
    return table(columns, rows, text=0)


def label_gain(size: int, policy: str, task: str) -> Estimate:
    """How much higher a policy scores than a frozen encoder, with as many training sentences."""
    arms = label_arms()[size]
    return gain(task, arms["encoder"], arms[policy], by_seed=size < SENTENCES)


def label_arms() -> dict[int, dict[str, Arm]]:
    """The recorded arms by training sentences and policy.

    Those of 4,000 and of all are runs of other studies at the same rate, with their last weights.
    """
    found: dict[int, dict[str, Arm]] = {
        size: {policy: ("labels", f"{policy}-{size}") for policy in POLICIES}
        for size in (50, 200, 1000)}
    found[4000] = {"encoder": DEPTHS["all 6"], "lp-ft": ("freezing", "lp-ft"), "full": SINGLE}
    found[16592] = {"full": ("headline", "joint")}
    return found


def other_genre(policy: str, genre: str | None = None, inside: bool = False,
                over: str | None = None) -> Estimate:
    """Sentiment of a genre that was held out, or of the three others; None for the mean of all.

    `over` is a policy whose score is taken off.
    """
    if genre is None:
        return mean([other_genre(policy, name, inside, over) for name in GENRES], not inside)
    own = tuple(name for name in GENRES if (name != genre) == inside)
    if over:
        return gain("sentiment", ("domain", domain_arm(over, genre)),
                    ("domain", domain_arm(policy, genre)), genres=own)
    return score("domain", domain_arm(policy, genre), "sentiment", genres=own)


def domains() -> str:
    """Sentiment macro-F1 on a genre that was not trained on, and on the three that were."""
    rows: list[Sequence[object]] = []
    for policy, title in POLICIES.items():
        cells = [str(other_genre(policy, genre)) for genre in GENRES]
        for inside in (False, True):
            more = other_genre(policy, inside=inside, over="full")
            cells += [str(other_genre(policy, inside=inside)),
                      "" if policy == "full" else f"{more:+}"]
        rows.append((title, *cells))
    known = [score("arms", "sentiment", "sentiment", genres=(genre,)) for genre in GENRES]
    rows.append(("everything, on all four genres", *known, mean(known, True), None, None, None))
    return table(("trained", *GENRES, "mean", "gain over everything",
                  "the three trained on, pooled; mean", "gain over everything"), rows)


def drift_runs(remedy: str, frozen: str) -> list[dict]:
    """The records of all seeds of a run of the drift study."""
    records = read_records("drift")
    return [records[DriftSetting(remedy, frozen, seed).name] for seed in seeds(remedy)]


def drift_curves(remedy: str, frozen: str, task: str) -> np.ndarray:
    """A task's macro-F1 on the 500 sentences, (S, K) for S seeds and every 25th step from 0."""
    return np.array([[row[task] for row in run["macro_f1"]] for run in drift_runs(remedy, frozen)])


@functools.cache
def drift_of(remedy: str, frozen: str, task: str) -> Estimate:
    """How a task's macro-F1 on the 500 sentences changed from the first step to the last."""
    found, sentences = drift_runs(remedy, frozen), scored_sentences()
    before, after = (
        scores_of_draws(sentences.labels[task], predictions(found, task, when), "macro_f1",
                        sentences.groups) for when in ("before", "after"))
    change = after.mean(axis=1) - before.mean(axis=1)
    return estimate(change, seed_margin(after[0] - before[0]), len(found))


def drifts() -> str:
    """What happened to both tasks while one trained on, by what was done against it."""
    rows = []
    for remedy in (*REMEDIES, *FREE):
        genre, beside = (drift_of(remedy, "genre", task) for task in ("genre", "sentiment"))
        sentiment, other = (drift_of(remedy, "sentiment", task) for task in ("sentiment", "genre"))
        cells = [f"{one:+}" for one in (genre, beside, sentiment, other)]
        rows.append((REMEDY_NAMES[remedy], *cells, genre.seeds))
    return table(("what was done", "genre, its head frozen", "sentiment, trained on",
                  "sentiment, its head frozen", "genre, trained on", "seeds"), rows)


def speeds() -> str:
    """Milliseconds a sentence of an epoch of each policy, computed each time and cached."""
    record = read_records("benchmarks")["freezing"]
    names = {"full": "nothing", "layers:2": "2 layers", "layers:4": "4 layers",
             "encoder": "encoder"}
    count, rows = record["config"]["sentences"], []
    for precision, short in (("float32", "fp32"), ("bfloat16", "bf16")):
        measured = record["rows"].get(precision, {})
        for name, title in names.items():
            cells = [""] * 5
            if kept := measured.get(f"{name}, kept"):
                cells = [f"{1000 * kept['seconds'] / count:.2f}",
                         f"{kept['faster than full']:.3g}", f"{kept[f'faster than {name}']:.3g}",
                         f"{1000 * kept['fill_seconds'] / count:.1f}",
                         f"{kept['bytes'] / 1000 / count:.1f}"]
            plain = f"{1000 * measured[name]['seconds'] / count:.1f}"
            rows.append((f"{title}, {short}", plain, *cells))
    return table(("frozen", "ms a sentence", "cached, ms a sentence",
                  "times faster than training everything", "than without a cache",
                  "to fill, ms a sentence", "KB a sentence"), rows)
