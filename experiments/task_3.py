"""The tables and figures of Task_3.md, made from the records in results/.

    python -m experiments.task_3        draws results/figures/freezing-*.png

The tables stand on the page between comment markers, where cog calls these functions.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from experiments.analysis import Estimate, gain, mean, runs, score, scores, seed_margin
from experiments.drift import (
    EVERY,
    FREE,
    REMEDIES,
    STEPS,
    DriftSetting,
    scored_sentences,
    seeds,
)
from experiments.records import RESULTS, read_records
from experiments.studies import ARMS, domain_arm
from experiments.train import LABELS, SENTENCES, Setting, build
from mtl_helpers import GENRES, freeze, paired_test, trainable_table
from mtl_helpers.plots import COLOURS, MARKERS, new_figure

Arm = tuple[str, str]
FULL: Arm = ("arms", "joint")
SINGLE: Arm = ("arms", "joint-single-rate")  # added after the others, as Task 4 says
SCENARIOS: dict[str, Arm] = {
    "everything, heads as drawn": ("freezing", "everything"),
    "encoder, linear heads": ("freezing", "encoder"),
    "encoder, heads with a hidden layer": ("freezing", "encoder-hidden"),
    "genre head, as drawn": ("freezing", "genre-head-random"),
    "sentiment head, as drawn": ("freezing", "sentiment-head-random"),
    "genre head, trained before": ("freezing", "genre-head-trained"),
    "sentiment head, trained before": ("freezing", "sentiment-head-trained"),
    "nothing, 3e-4": FULL,
    "nothing, 1e-4": SINGLE,
}
DEPTHS: dict[str, Arm] = {
    "all 6": ("freezing", "encoder"),
    **{str(k): ("freezing", f"layers-{k}") for k in range(5, 0, -1)},
    "embeddings": ("freezing", "embeddings"),
    "nothing, 3e-4": FULL,
    "nothing, 1e-4": SINGLE,
}
STAGES: dict[str, Arm] = {
    "a probe, then everything (LP-FT)": ("freezing", "lp-ft"),
    "a probe, then layer after layer": ("freezing", "gradual"),
}
RATES: dict[str, Arm] = {
    "rate times 0.9 a layer down": ("freezing", "decay-0.9"),
    "rate times 0.8 a layer down": ("freezing", "decay-0.8"),
    "rate over 2.6 a layer down": ("freezing", "decay-2.6"),
}
WHOLE: dict[str, Arm] = {"one rate for all, 3e-4": FULL, "one rate for all, 1e-4": SINGLE}
POLICIES = {"encoder": "encoder frozen", "lp-ft": "LP-FT", "full": "everything"}
REMEDY_NAMES = {"none": "nothing", "encoder": "encoder frozen too", "replay": "a tenth of replay",
                "small-rate": "a tenth of the rate", "l2-sp": "a pull to the start (L2-SP)",
                "distillation": "distillation of the frozen head",
                "replay-free": "a tenth of replay, the head free (start trained anew)",
                "distillation-free": "distillation, the head free (start trained anew)"}


def parts() -> str:
    """What is trainable with four layers and one head frozen."""
    model = build(Setting("freezing", "parts"))
    freeze(model, "layers:4", "head:genre")
    return trainable_table(model)


def policies(arms: Mapping[str, Arm], first: str = "frozen") -> str:
    """What each policy trained and how it scored, and its gains over freezing nothing."""
    columns = [f"{task}{name}" for task in LABELS
               for name in (" macro-F1", ", over 3e-4", ", over 1e-4")]
    lines = [f"| {first} | trainable | encoder rate | {' | '.join(columns)} | seeds |",
             f"|---|{'---:|' * 9}"]
    for title, arm in arms.items():
        found, cells = runs(*arm), []
        for task in LABELS:
            cells.append(str(score(*arm, task)))
            for base in (FULL, SINGLE):
                more = gain(task, base, arm)
                cells.append("" if arm == base else f"{more:+}")
        rate = "" if arm[1] in ("everything", "encoder", "encoder-hidden") else (
            f"{found[0]['config']['encoder_lr']:.0e}".replace("e-0", "e-"))
        lines.append(f"| {title} | {found[0]['trainable']:,} | {rate} | {' | '.join(cells)} "
                     f"| {len(found)} |")
    return "\n".join(lines)


def choices() -> str:
    """What to freeze in which case, and what the records say of it."""
    speed = read_records("benchmarks")["freezing"]["rows"]["bfloat16"]

    def f1(study: str, name: str) -> str:
        return ", ".join(f"{score(study, name, task)} {task}" for task in LABELS)

    def faster(kept: str, epochs: int) -> str:
        row = speed[f"{kept}, kept"]
        times = 3 * speed["full"]["seconds"] / (row["fill_seconds"] + epochs * row["seconds"])
        return (f"in bf16, filling the cache and {epochs} epochs from it are {times:.1f} times as "
                "fast as 3 epochs of training everything")

    def more(size: int, policy: str) -> str:
        gains = ((task, label_gain(size, policy, task)) for task in LABELS)
        return "over a frozen encoder " + ", ".join(
            f"{one:+} {task}" for task, one in gains)

    there = other_genre("full", over="encoder")
    rows = {
        "hardly any time to train": ("the encoder; heads on kept vectors",
                                     f"{f1('freezing', 'encoder')}; {faster('encoder', 20)}"),
        "little time": ("four of six layers, kept",
                        f"{f1('freezing', 'layers-4')}; {faster('layers:4', 3)}"),
        "50 sentences to train on, 889 to select by": (
            "nothing, after a probe (LP-FT)", more(50, "lp-ft")),
        "1,000, and the 889": ("nothing", more(1000, "full")),
        "a few thousand": ("the lower three layers, or nothing",
                           f"{f1('freezing', 'layers-3')}, or {f1(*SINGLE)}"),
        "16,592": ("nothing; freezing was not tried", f1("headline", "joint")),
        "a domain without labels": ("nothing", "sentiment there, over a frozen encoder "
                                    f"{there:+}"),
        "another task must stay to the bit": (
            "the encoder", f"its change: {drift_of('encoder', 'genre', 'genre').value:+.3f}"),
        "another task should stay, and this one learn": (
            "nothing; replay, or distillation",
            "its change: " + " or ".join(
                f"{one:+}" for one in (
                    drift_of(remedy, "genre", "genre") for remedy in ("replay", "distillation")))),
        "a head's weights may not change": (
            "the head, once it is trained, and go on training on its task's labels",
            "its task, beside a head that trains at the same rate: " + " or ".join(
                f"{one:+}" for one in (
                    gain(task, FULL, ("freezing", f"{task}-head-trained")) for task in LABELS)))}
    return "\n".join(["| case | freeze | what the records say (macro-F1) |", "|---|---|---|",
                      *(f"| {case} | {' | '.join(cells)} |" for case, cells in rows.items())])


def few_labels() -> str:
    """Macro-F1 of a frozen encoder by the number of training sentences, and what training adds."""
    columns = [f"{task}: {title}" for task in LABELS
               for title in (POLICIES["encoder"], "LP-FT, gain", "everything, gain")]
    lines = [f"| training sentences | {' | '.join(columns)} |", f"|---:|{'---:|' * len(columns)}"]
    for size, arms in label_arms().items():
        if len(arms) == len(POLICIES):
            cells = []
            for task in LABELS:
                more = [label_gain(size, policy, task) for policy in ("lp-ft", "full")]
                cells += [str(score(*arms["encoder"], task)),
                          *(f"{one:+}" for one in more)]
            lines.append(f"| {size:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


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
    lines = [f"| trained | {' | '.join(GENRES)} | mean | gain over everything "
             "| the three trained on, pooled; mean | gain over everything |", f"|---|{'---:|' * 8}"]
    for policy, title in POLICIES.items():
        cells = [str(other_genre(policy, genre)) for genre in GENRES]
        for inside in (False, True):
            cells.append(str(other_genre(policy, inside=inside)))
            more = other_genre(policy, inside=inside, over="full")
            cells.append("" if policy == "full" else f"{more:+}")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    known = [score("arms", "sentiment", "sentiment", genres=(genre,)) for genre in GENRES]
    lines.append(f"| everything, on all four genres | {' | '.join(map(str, known))} "
                 f"| {mean(known, True)} | | | |")
    return "\n".join(lines)


def drift_runs(remedy: str, frozen: str) -> list[dict]:
    """The records of all seeds of a run of the drift study."""
    records = read_records("drift")
    return [records[DriftSetting(remedy, frozen, seed).name] for seed in seeds(remedy)]


def drift_curves(remedy: str, frozen: str, task: str) -> np.ndarray:
    """A task's macro-F1 on the 500 sentences, (S, K) for S seeds and every 25th step from 0."""
    return np.array([[row[task] for row in run["macro_f1"]] for run in drift_runs(remedy, frozen)])


def drift_of(remedy: str, frozen: str, task: str) -> Estimate:
    """How a task's macro-F1 on the 500 sentences changed from the first step to the last."""
    found = drift_runs(remedy, frozen)
    sentences = scored_sentences()
    before, after = (np.array([[int(digit) for digit in run[when][task]["predicted"]]
                               for run in found]) for when in ("before", "after"))
    test = paired_test(sentences.labels[task], before, after, groups=sentences.groups)
    true = np.asarray(sentences.labels[task])
    changes = (scores(true, after, task, "macro_f1") - scores(true, before, task, "macro_f1"))
    margin = np.hypot((test.high - test.low) / 2, seed_margin(changes))
    return Estimate(test.difference, float(margin), len(found))


def drifts() -> str:
    """What happened to both tasks while one trained on, by what was done against it."""
    lines = ["| against it | genre, its head frozen | sentiment, trained on "
             "| sentiment, its head frozen | genre, trained on | seeds |", f"|---|{'---:|' * 5}"]
    for remedy in (*REMEDIES, *FREE):
        found = [drift_of(remedy, frozen, task) for frozen, task in (
            ("genre", "genre"), ("genre", "sentiment"), ("sentiment", "sentiment"),
            ("sentiment", "genre"))]
        cells = " | ".join(f"{one:+}" for one in found)
        lines.append(f"| {REMEDY_NAMES[remedy]} | {cells} | {found[0].seeds} |")
    return "\n".join(lines)


def speeds() -> str:
    """Seconds of an epoch of each policy, computed each time and kept."""
    record = read_records("benchmarks")["freezing"]
    names = {"full": "nothing", "layers:2": "2 layers", "layers:4": "4 layers",
             "encoder": "encoder"}
    lines = ["| frozen | ms a sentence | kept, ms a sentence | kept, times faster than full "
             "| than not kept | to fill, ms a sentence | kept, KB a sentence |",
             f"|---|{'---:|' * 6}"]
    count = record["config"]["sentences"]
    for precision, short in (("float32", "fp32"), ("bfloat16", "bf16")):
        rows = record["rows"].get(precision, {})
        for name, title in names.items():
            plain, kept = rows[name], rows.get(f"{name}, kept")
            cells = [f"{1000 * plain['seconds'] / count:.1f}"]
            cells += [f"{1000 * kept['seconds'] / count:.2f}", f"{kept['faster than full']:.3g}",
                      f"{kept[f'faster than {name}']:.3g}",
                      f"{1000 * kept['fill_seconds'] / count:.1f}",
                      f"{kept['bytes'] / 1000 / count:.1f}"] if kept else [""] * 5
            lines.append(f"| {title}, {short} | {' | '.join(cells)} |")
    return "\n".join(lines)


# Figures


def legend_below(figure: Figure, axes: np.ndarray) -> None:
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8, frameon=False)


def draw_depths() -> Figure:
    """Macro-F1 by how much is frozen."""
    figure, axes = new_figure(1, 2, height=3.2, title="No loss is seen with half of the "
                              "layers frozen; with five of six both tasks lose")
    for axis, task, colour in zip(axes.flat, LABELS, COLOURS, strict=False):
        found = [score(*arm, task) for arm in DEPTHS.values()]
        axis.errorbar(range(len(found)), [one.value for one in found],
                      [one.margin for one in found], color=colour, marker="o", capsize=3)
        axis.set_xticks(range(len(found)), [*DEPTHS], fontsize=8, rotation=45, ha="right")
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("frozen layers from the bottom", fontsize=8)
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_ylabel("macro-F1 on the test split")
    return figure


def draw_drift() -> Figure:
    """How the frozen head's score changes while the other task trains on."""
    figure, axes = new_figure(1, 2, height=3.6, title="A frozen head may lose its task: genre "
                              "falls, sentiment dips and mostly recovers")
    steps = np.arange(0, STEPS + 1, EVERY)
    for axis, frozen in zip(axes.flat, LABELS, strict=True):
        for index, remedy in enumerate(REMEDIES):
            values = drift_curves(remedy, frozen, frozen)
            values = values - values[:, :1]  # (S, 11)
            axis.plot(steps, values.mean(axis=0), color=COLOURS[index], marker=MARKERS[index],
                      markersize=4, linewidth=1.2, label=REMEDY_NAMES[remedy])
            axis.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.15,
                              color=COLOURS[index], linewidth=0)
        other = next(task for task in LABELS if task != frozen)
        axis.set_title(f"{frozen} head frozen, {other} trains on", fontsize=10)
        axis.set_xlabel("steps of the other task")
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_ylabel("change of macro-F1, frozen head")
    legend_below(figure, axes)
    return figure


def draw_labels() -> Figure:
    """Macro-F1 by the number of training sentences."""
    figure, axes = new_figure(1, 2, height=3.4, title="LP-FT is ahead of a frozen encoder "
                              "from 50 sentences on")
    for axis, task in zip(axes.flat, LABELS, strict=True):
        for index, (policy, title) in enumerate(POLICIES.items()):
            found = {size: score(*arms[policy], task) for size, arms in label_arms().items()
                     if policy in arms}
            axis.errorbar([size * 1.05 ** (index - 1) for size in found],
                          [one.value for one in found.values()],
                          [one.margin for one in found.values()], label=title, capsize=3,
                          color=COLOURS[index], marker=MARKERS[index], markersize=4, linewidth=1.2)
        axis.set_xscale("log")
        axis.set_xticks([*label_arms()], [f"{size:,}" for size in label_arms()], fontsize=8)
        axis.minorticks_off()
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("training sentences")
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_ylabel("macro-F1 on the test split")
    legend_below(figure, axes)
    return figure


def features(name: str) -> list[float]:
    """CKA of the embeddings' and each layer's features with those before; seed 0, rate 1e-4."""
    setting = next(s for s, *_ in ARMS if (s.study, s.arm) == ("freezing", name))
    return read_records("freezing")[replace(setting, encoder_lr=1e-4).name]["cka"]


def draw_features() -> Figure:
    """How like each layer's features are to those before training, at one rate."""
    figure, axes = new_figure(height=3.4, title="Features change more towards the top, and "
                              "less after a probe")
    arms = {"everything": ("freezing", "full")} | STAGES | RATES
    arms |= {"only layers 5 and 6": DEPTHS["4"]}
    for index, (title, (_, name)) in enumerate(arms.items()):
        axes[0, 0].plot(features(name), color=COLOURS[index], marker=MARKERS[index],
                        markersize=4, linewidth=1.2, label=title)
    axes[0, 0].set_xticks(range(7), ["embeddings", *(f"layer {k}" for k in range(1, 7))],
                          fontsize=8)
    axes[0, 0].set_ylabel("CKA with the features before")
    axes[0, 0].grid(axis="y", color="0.9")
    legend_below(figure, axes)
    return figure


FIGURES = {"drift": draw_drift, "depths": draw_depths, "features": draw_features,
           "labels": draw_labels}


def path_of(name: str) -> Path:
    return RESULTS / "figures" / f"freezing-{name}.png"


def drawn(figure: Figure) -> str:
    """A hash of the values that a figure shows; it is kept in the picture."""
    values = [np.round(np.asarray(line.get_ydata(), dtype=float), 5).tolist()
              for axis in figure.axes for line in axis.lines]
    return hashlib.sha256(str(values).encode()).hexdigest()


if __name__ == "__main__":
    for name, draw in FIGURES.items():
        figure, kept = draw(), PngInfo()
        kept.add_text("records", drawn(figure))
        Image.open(io.BytesIO(figure._repr_png_())).save(path_of(name), pnginfo=kept, optimize=True)
