"""What Task_3.md says of the records in words, asserted against them section by section.

    python -m experiments.statements
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from experiments.analysis import gain, mean, runs, score
from experiments.compare_encoders import LABELS
from experiments.drift import FREE, REMEDIES
from experiments.records import read_records
from experiments.studies import domain_arm
from experiments.task_3 import (
    DEPTHS,
    FULL,
    SINGLE,
    drift_curves,
    drift_of,
    features,
    label_gain,
    other_genre,
)
from experiments.train import splits
from mtl_helpers import GENRES

ENCODER = DEPTHS["all 6"]
FEWER = ("layers-5", "layers-4", "layers-3", "layers-2", "layers-1", "embeddings")


def scenarios() -> None:
    """Everything frozen, the encoder, or one head."""
    assert [runs(*arm)[0]["config"]["encoder_lr"] for arm in (FULL, SINGLE)] == [3e-4, 1e-4]
    floors = read_records("baselines")["majority"]["test"]
    drawn = {task: score("freezing", "everything", task, "accuracy").value for task in LABELS}
    assert {task: round(100 * value) for task, value in drawn.items()} == {
        "genre": 29, "sentiment": 35}
    assert {task: round(100 * floors[task]["accuracy"]) for task in LABELS} == {
        "genre": 45, "sentiment": 43}
    for task, base, low, high in (("genre", FULL, 0.03, 0.045), ("genre", SINGLE, 0.03, 0.045),
                                  ("sentiment", FULL, 0.055, 0.065),
                                  ("sentiment", SINGLE, 0.065, 0.075)):
        lost = gain(task, ENCODER, base)
        assert low < lost.value < high and lost.value > lost.margin
    for task in LABELS:
        more = gain(task, ENCODER, ("freezing", "encoder-hidden"))
        assert more.value < more.margin
    for task, other, low, high in (("genre", "sentiment", -0.025, -0.015),
                                   ("sentiment", "genre", -0.035, -0.025)):
        drawn_head, trained = (("freezing", f"{task}-head-{state}")
                               for state in ("random", "trained"))
        lost = gain(task, FULL, drawn_head)
        assert low < lost.value < high and lost.value + lost.margin < 0
        for unseen in (gain(other, FULL, drawn_head), gain(task, FULL, trained),
                       gain(other, FULL, trained)):
            assert abs(unseen.value) < unseen.margin


def kept_heads() -> None:
    """A head that is frozen to keep its task."""
    genre, sentiment = (drift_curves("none", task, task) for task in ("genre", "sentiment"))
    falls = genre[:, :1] - genre  # (S, 11)
    assert len(genre) == len(sentiment) == 6
    assert 0.045 < falls.mean(axis=0)[5] < 0.055 and falls.mean(axis=0).argmax() == 5  # step 125
    assert 0.01 < falls[:, -1].min() and falls[:, -1].max() < 0.06
    assert 0.035 < falls[:, -1].mean() < 0.045
    fell = drift_of("none", "genre", "genre")
    assert fell.value + fell.margin < 0
    beside = drift_curves("none", "genre", "sentiment")
    assert falls[:, -1].std() > (beside[:, -1] - beside[:, 0]).std()  # exercise 3
    assert 0.015 < (sentiment[:, 0] - sentiment[:, 2]).mean() < 0.025  # step 50
    assert ((sentiment[:, -1] - sentiment[:, 0]) < 0).sum() == 4
    kept = drift_of("none", "sentiment", "sentiment")
    assert abs(kept.value) < min(0.01, kept.margin)
    for task in LABELS:
        still = drift_curves("encoder", task, task)
        assert (still == still[:, :1]).all()


def remedies() -> None:
    """What was tried against the fall of the genre."""
    change = {name: curve - curve[:, :1] for name in REMEDIES
              for curve in [drift_curves(name, "genre", "genre")]}  # (S, 11) each
    gained = {name: curve[:3, -1] - curve[:3, 0] for name in REMEDIES  # of the same three seeds
              for curve in [drift_curves(name, "genre", "sentiment")]}
    learnt = {name: values.mean() for name, values in gained.items()}
    ends = {name: drift_of(name, "genre", "genre") for name in REMEDIES if name != "encoder"}
    for name in ("replay", "distillation"):
        assert abs(change[name][:, -1]).max() < 0.01 and learnt[name] > learnt["none"]
        saved = ends[name].value - ends["none"].value
        assert 0.035 < saved < 0.045 and saved > np.hypot(ends[name].margin, ends["none"].margin)
    del ends["none"]
    for one, other in combinations(ends.values(), 2):
        assert abs(one.value - other.value) < np.hypot(one.margin, other.margin)
    assert change["distillation"].mean(axis=0).min() > -0.01
    assert -0.025 < change["replay"].mean(axis=0).min() < -0.015
    assert change["small-rate"][:, -1].mean() > -0.011
    assert learnt["small-rate"] < learnt["none"]
    for name in FREE:
        free, frozen = (drift_of(way, "genre", "genre") for way in (name, name.split("-")[0]))
        assert abs(free.value - frozen.value) < np.hypot(free.margin, frozen.margin)
        curve = drift_curves(name, "genre", "genre")
        assert abs(curve[:, -1] - curve[:, 0]).max() < 0.012
    assert -0.025 < change["l2-sp"][:, -1].mean() < -0.015


def caches() -> None:
    """What is frozen is computed once."""
    speed = read_records("benchmarks")["freezing"]["rows"]
    for rows, least in ((speed["float32"], 100), (speed["bfloat16"], 45)):
        kept = rows["encoder, kept"]
        assert kept["faster than encoder"] > least
        assert 2.7 < rows["layers:4, kept"]["faster than full"] < 3.6
        assert rows["layers:2, kept"]["faster than layers:2"] < 1.3
        assert 0.8 < kept["fill_seconds"] / rows["encoder"]["seconds"] < 1.3


def depths() -> None:
    """How deep to freeze."""
    over = {base: {(name, task): gain(task, base, ("freezing", name))
                   for name in FEWER for task in LABELS} for base in (FULL, SINGLE)}
    lost = over[FULL]
    for (name, _), one in lost.items():
        assert one.value + one.margin < 0 if name == "layers-5" else abs(one.value) < one.margin
    assert {key for key, one in over[SINGLE].items() if one.value + one.margin < 0} == {
        ("layers-5", "genre"), ("layers-5", "sentiment"), ("layers-4", "sentiment")}
    assert -0.025 < over[SINGLE]["layers-4", "sentiment"].value < -0.015
    for task, most in (("genre", 0.01), ("sentiment", 0.02)):
        three = over[SINGLE]["layers-3", task]
        assert three.margin - three.value < most
    whole = {task: gain(task, FULL, ENCODER).value for task in LABELS}
    brought = {key: 1 - one.value / whole[key[1]] for key, one in lost.items()}
    assert 0.6 < brought["layers-5", "genre"] < 0.72
    assert 0.45 < brought["layers-5", "sentiment"] < 0.56
    assert all(brought["layers-4", task] > 0.79 for task in LABELS)
    assert all(lost[name, task].value > -0.005 for name in FEWER[2:] for task in LABELS)
    assert -0.006 < lost["layers-4", "genre"].value
    assert -0.013 < lost["layers-4", "sentiment"].value
    assert all(runs("freezing", name)[0]["config"]["encoder_lr"] == 3e-4 for name in FEWER[:5])
    kept = {task: round(score(*ENCODER, task).value / score(*FULL, task).value, 2)
            for task in LABELS}
    assert kept == {"genre": 0.96, "sentiment": 0.91}


def rates_and_stages() -> None:
    """A rate for each layer, and one stage after the other."""
    arms = ("lp-ft", "gradual", "decay-0.9", "decay-0.8", "decay-2.6")
    for task in LABELS:
        beside = {name: gain(task, SINGLE, ("freezing", name)) for name in arms}
        assert all(one.value < one.margin for one in beside.values())
        behind = {name for name, one in beside.items() if one.value + one.margin < 0}
        assert behind == {"gradual", "decay-2.6" if task == "sentiment" else "gradual"}
        assert all(abs(beside[f"decay-{factor}"].value) < 0.003 for factor in ("0.9", "0.8"))
        alone = gain(task, ("arms", task), ("freezing", f"{task}-decay-0.8"))
        assert abs(alone.value) < alone.margin
    assert 0.005 < gain("sentiment", FULL, SINGLE).value < 0.015


def moved_layers() -> None:
    """How far the layers move."""
    cka = {name: features(name) for name in ("full", "lp-ft", "decay-2.6", "gradual",
                                             "decay-0.9", "decay-0.8")}
    for name, values in cka.items():
        if name != "decay-2.6":
            assert values[0] > 0.999 and values == sorted(values, reverse=True)
    assert (round(cka["full"][-1], 2), round(cka["lp-ft"][-1], 2)) == (0.46, 0.65)
    assert min(cka["decay-2.6"][:5]) > 0.97


def few_labels() -> None:
    """With few labels."""
    few = {(size, policy, task): label_gain(size, policy, task) for size in (50, 200, 1000, 4000)
           for policy in ("lp-ft", "full") for task in LABELS}
    assert all(one.value > 0 for one in few.values())
    for policy in ("lp-ft", "full"):
        assert 0.065 < few[50, policy, "genre"].value < 0.075
        assert 0.034 < few[4000, policy, "genre"].value < 0.045
        assert few[50, policy, "sentiment"].value < 0.025
        assert 0.06 < few[4000, policy, "sentiment"].value < 0.075
    for frozen, tuned in zip(runs("labels", "encoder-50"), runs("labels", "lp-ft-50"), strict=True):
        assert all(tuned["test"][task]["macro_f1"] > frozen["test"][task]["macro_f1"]
                   for task in LABELS)
    assert all(abs(few[50, "full", task].value) < few[50, "full", task].margin for task in LABELS)
    assert (len(range(0, len(splits()[1]), 4)), len(splits()[1])) == (889, 3555)
    tried = {rate: read_records("labels")[f"lp-ft-50-{rate}-0"]["validation"].values()
             for rate in ("3e-05", "0.0001", "0.0003")}
    liked = {rate: sum(row["macro_f1"] for row in rows) for rate, rows in tried.items()}
    assert max(liked, key=liked.__getitem__) == "0.0001"


def other_domains() -> None:
    """In another domain."""
    for inside in (False, True):
        behind, level = (other_genre(policy, inside=inside, over="full")
                         for policy in ("encoder", "lp-ft"))
        assert behind.value + behind.margin < 0 and abs(level.value) < level.margin
        led = other_genre("lp-ft", inside=inside, over="encoder")
        assert led.value > led.margin
        assert (0.065 if inside else 0.045) < -behind.value < (0.075 if inside else 0.055)
    costs = {genre: gain("sentiment", ("domain", domain_arm("full", genre)),
                         ("arms", "sentiment"), genres=(genre,)) for genre in GENRES}
    assert 0.075 < mean([*costs.values()], independent=True).value < 0.085
    least, most = (pick(costs, key=lambda genre: costs[genre].value) for pick in (min, max))
    assert (least, most) == ("product review", "tweet")
    assert 0.005 < costs[least].value < 0.015 and costs[least].value < costs[least].margin
    assert 0.135 < costs[most].value < 0.145


def transfer() -> None:
    """A case of transfer."""
    probes = {name: round(record["probe"]["sentiment"]["macro_f1"], 2)
              for name, record in read_records("encoders").items()}
    assert (probes["all-MiniLM-L6-v2"], probes["random-weights"],
            probes["all-mpnet-base-v2"]) == (0.65, 0.46, 0.70)
    rates = read_records("benchmarks")["models"]["rows"]
    assert 6 < rates["all-MiniLM-L6-v2"] / rates["all-mpnet-base-v2"] < 7.5


SECTIONS = (scenarios, kept_heads, remedies, caches, depths, rates_and_stages, moved_layers,
            few_labels, other_domains, transfer)


def check() -> None:
    """Assert all of it."""
    for section in SECTIONS:
        section()
    print("all statements hold")


if __name__ == "__main__":
    check()
