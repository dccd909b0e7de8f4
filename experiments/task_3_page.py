"""What Task_3.md shows at first sight: its findings and tables of at most six columns.

They stand on the page between comment markers, where cog calls these functions. Changes are in
points against training everything; experiments/task_3.py has the whole tables.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from experiments import similarity_table
from experiments.analysis import gain, runs, score
from experiments.drift import REMEDIES
from experiments.page import table
from experiments.records import read_records
from experiments.task_3 import (
    DEPTHS,
    FULL,
    RATES,
    REMEDY_NAMES,
    SCENARIOS,
    SINGLE,
    STAGES,
    Arm,
    drift_of,
    label_arms,
    label_gain,
    other_genre,
)
from experiments.train import LABELS, SENTENCES
from mtl_helpers import GENRES


def changes(base: Arm, arm: Arm) -> list[str]:
    """How much better or worse an arm is than another, in each task."""
    return [f"{gain(task, base, arm):+}" for task in LABELS]


def both(base: Arm, arm: Arm) -> str:
    """The same in words."""
    genre, sentiment = changes(base, arm)
    return f"genre {genre}, sentiment {sentiment}"


def findings() -> str:
    """The answers of the page, a line each."""
    cached = read_records("benchmarks")["freezing"]["rows"]["float32"]["encoder, kept"]
    right = [f"{100 * score('freezing', 'everything', task, 'accuracy').value:.0f} %"
             for task in LABELS]
    few = [f"{label_gain(50, 'lp-ft', task):+}" for task in LABELS]
    return "\n".join([
        f"- **Everything frozen**: nothing learns. Random heads get {right[0]} of genres and "
        f"{right[1]} of sentiments right, less than always naming the commonest class.",
        f"- **The encoder frozen**: costs both tasks ({both(SINGLE, DEPTHS['all 6'])}). But each "
        "sentence's vector is computed once, and then the heads train "
        f"{cached['faster than encoder']:.0f} times as fast as through the encoder.",
        "- **One head frozen**: does not protect its task. While sentiment trained on, the frozen "
        f"genre head changed by {drift_of('none', 'genre', 'genre'):+}, because the encoder moved "
        "under it. One batch in ten with old sentences prevents that "
        f"({drift_of('replay', 'genre', 'genre'):+}).",
        "- **How deep**: with the lower three of six layers frozen there is no measurable "
        f"difference ({both(SINGLE, DEPTHS['3'])}). With five, both tasks lose "
        f"({both(SINGLE, DEPTHS['5'])}).",
        "- **Few labels** are no reason to freeze: with 50 sentences, training the heads first and "
        f"then everything is ahead of a frozen encoder (genre {few[0]}, sentiment {few[1]})."])


def scenarios() -> str:
    """Everything, the encoder or one head frozen: what changes at the same learning rate."""
    base = [str(score(*FULL, task)) for task in LABELS]
    rows: list[tuple[object, ...]] = [("nothing: macro-F1", *base, len(runs(*FULL)))]
    for title, arm in SCENARIOS.items():
        if arm not in (FULL, SINGLE):
            rows.append((title, *changes(FULL, arm), len(runs(*arm))))
    return table(("frozen", "genre", "sentiment", "seeds"), rows)


def drifts() -> str:
    """What became of the frozen genre head while sentiment trained on."""
    rows = []
    for remedy in REMEDIES:
        genre, sentiment = (drift_of(remedy, "genre", task) for task in LABELS)
        rows.append((REMEDY_NAMES[remedy], f"{genre:+}", f"{sentiment:+}", genre.seeds))
    return table(("what was done", "genre, its head frozen", "sentiment, trained on", "seeds"),
                 rows)


def caches() -> str:
    """How much faster an epoch on cached vectors or hidden states is than training everything."""
    record = read_records("benchmarks")["freezing"]
    single, half = (record["rows"][name] for name in ("float32", "bfloat16"))
    rows = []
    for name, title in (("layers:2", "2 layers"), ("layers:4", "4 layers"),
                        ("encoder", "encoder")):
        found = [precision[f"{name}, kept"] for precision in (single, half)]
        size = found[0]["bytes"] / 1000 / record["config"]["sentences"]
        rows.append((title, *(f"{one['faster than full']:.3g}" for one in found),
                     *(f"{one[f'faster than {name}']:.3g}" for one in found), f"{size:.1f}"))
    return table(("frozen and cached", "over everything, fp32", "bf16",
                  "over no cache, fp32", "bf16", "KB a sentence"), rows)


def orders(named: Mapping[str, Arm] = RATES | STAGES) -> str:
    """Learning rates by layer, and stages, against everything at once with 1e-4."""
    rows: list[tuple[object, ...]] = [
        ("everything at 1e-4: macro-F1", *(score(*SINGLE, task) for task in LABELS),
         len(runs(*SINGLE))),
        ("everything at 3e-4", *changes(SINGLE, FULL), len(runs(*FULL)))]
    rows += [(title, *changes(SINGLE, arm), len(runs(*arm))) for title, arm in named.items()]
    return table(("how", "genre", "sentiment", "seeds"), rows)


def few_labels() -> str:
    """What training the encoder adds to a frozen one, by the number of training sentences."""
    rows = []
    for size in label_arms():
        if size <= SENTENCES:
            cells = [f"{label_gain(size, policy, task):+}"
                     for task in LABELS for policy in ("lp-ft", "full")]
            rows.append((f"{size:,}", *cells))
    return table(("training sentences", "genre: heads first", "everything",
                  "sentiment: heads first", "everything"), rows, text=0)


def methods() -> str:
    """What people use for few labels, against a frozen encoder, and what is left of similarity.

    Gains are over the frozen encoder with the same sentences; a row has the seeds that there are.
    """
    rows: list[tuple[object, ...]] = []
    (before,) = similarity_table.values(similarity_table.BEFORE)["STS-B"]
    for size in (50, 200):
        frozen = ("labels", f"encoder-{size}")
        rows.append((f"{size}: encoder frozen, macro-F1",
                     *(score(*frozen, task) for task in LABELS), f"{before:.1f}", 3))
        for title, arm in few_arms(size).items():
            gains = [f"{gain(task, frozen, arm, by_seed=True):+}" for task in LABELS]
            found = runs(*arm)
            rows.append((f"{size}: {title}", *gains, similarity_after(found), len(found)))
    return table(("training sentences: method", "genre", "sentiment", "STS-B afterwards", "seeds"),
                 rows)


def method_times() -> str:
    """How long the same ways of training take, in a sentence."""
    record = read_records("benchmarks")["few_labels"]
    setfit, plain, kept = (float(np.median(taken)) for taken in record["seconds"].values())
    place = record["environment"]
    return (f"To train both tasks on {record['config']['sentences']} sentences takes SetFit's two "
            f"models {setfit:.0f} seconds, the heads first and then everything {plain:.0f}, and "
            f"with a SimilarityHead {kept:.0f} (fp32, without validation, {place['threads']} "
            f"threads of an {place['processor'].removesuffix(' Processor')} processor, medians of "
            f"{record['config']['rounds']} rounds).")


def few_arms(size: int) -> dict[str, Arm]:
    """The recorded arms of so many sentences whose similarity was measured, by a table's names."""
    named = {"SetFit": ("setfit", f"setfit-{size}"),
             "heads first": ("similarity", f"few-{size}"),
             "heads first, SimilarityHead": ("similarity", f"few-{size}-kept")}
    return {title: (study, arm) for title, (study, arm) in named.items()
            if any(run["config"]["arm"] == arm for run in read_records(study).values())}


def similarity_after(records: list[dict]) -> str:
    """The mean STS-B of runs, in points; SetFit has a model for genre and one for sentiment."""
    if "stsb" in records[0]:
        return points(float(np.mean([run["stsb"]["reporting"] for run in records])))
    found = []
    for task in LABELS:
        values = [run["similarity"][task]["stsb"]["reporting"] for run in records]
        found.append(points(float(np.mean(values))))
    return " and ".join(found)


def domains() -> str:
    """Sentiment on a genre that was left out of training: macro-F1 without intervals."""
    rows = []
    for genre in (*GENRES, None):
        cells = [points(other_genre(policy, genre).value)
                 for policy in ("encoder", "lp-ft", "full")]
        known = [score("arms", "sentiment", "sentiment", genres=(name,)).value
                 for name in GENRES if genre in (name, None)]
        rows.append((genre or "mean", *cells, points(sum(known) / len(known))))
    return table(("genre left out", "encoder frozen", "heads first", "everything",
                  "everything, trained on it too"), rows)


def points(value: float) -> str:
    """A score in points of 100."""
    return f"{100 * value:.1f}"


def choices() -> str:
    """What to freeze in which case, and the number that says so."""
    genre, sentiment = (gain(task, SINGLE, ("freezing", f"{task}-head-trained"))
                        for task in LABELS)
    speed = read_records("benchmarks")["freezing"]["rows"]["bfloat16"]
    two, four = (speed[f"layers:{k}"]["faster than full"] for k in (2, 4))
    rows = [
        ("hardly any time to train", "the encoder; cache the vectors",
         f"{both(SINGLE, DEPTHS['all 6'])}; {faster('encoder', 20):.1f} times as fast"),
        ("little time", "four of six layers; cache their output",
         f"{both(SINGLE, DEPTHS['4'])}; {faster('layers:4', 3):.1f} times as fast"),
        ("50 labelled sentences", "nothing, but train the heads first",
         f"genre {label_gain(50, 'lp-ft', 'genre'):+}, sentiment "
         f"{label_gain(50, 'lp-ft', 'sentiment'):+} over a frozen encoder"),
        ("1,000 labelled sentences", "nothing",
         f"genre {label_gain(1000, 'full', 'genre'):+}, sentiment "
         f"{label_gain(1000, 'full', 'sentiment'):+} over a frozen encoder"),
        ("a few thousand", "nothing, or the lower three layers",
         f"{both(SINGLE, DEPTHS['3'])}; {two:.1f} (two layers) to {four:.1f} (four) times "
         "as fast"),
        ("a domain without labels", "nothing",
         f"sentiment {other_genre('full', over='encoder'):+} over a frozen encoder"),
        ("another task must not change", "the encoder",
         f"its change: {100 * drift_of('encoder', 'genre', 'genre').value:+.1f}"),
        ("another task should stay, and this one learn",
         "nothing; mix in old sentences or old answers",
         f"its change: {drift_of('replay', 'genre', 'genre'):+} or "
         f"{drift_of('distillation', 'genre', 'genre'):+}"),
        ("a head's weights may not change", "the head, once trained; go on with its labels",
         f"genre {genre:+} with its head frozen, sentiment {sentiment:+} with its own")]
    return table(("your case", "freeze", "what changes, in points"), rows, text=3)


def faster(cached: str, epochs: int) -> float:
    """Three epochs of training everything in bf16, over filling a cache and so many from it."""
    rows = read_records("benchmarks")["freezing"]["rows"]["bfloat16"]
    own = rows[f"{cached}, kept"]
    return 3 * rows["full"]["seconds"] / (own["fill_seconds"] + epochs * own["seconds"])
