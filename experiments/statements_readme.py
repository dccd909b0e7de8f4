"""What README.md says of the records in words: phrases of the page, and whether they hold."""

from __future__ import annotations

from experiments.analysis import gain, runs
from experiments.compare_encoders import LABELS
from experiments.readme import ANSWERS, MODEL, negations, probe, times_as_long
from experiments.records import read_records
from experiments.statements import ROOT, Pairs, ahead, apart, behind, level
from experiments.task_3 import DEPTHS, SINGLE, drift_curves, drift_of, label_gain
from experiments.task_4 import scarce_arms
from experiments.train import SENTENCES, Setting, build
from mtl_helpers import GENRES, SENTIMENTS, load_corpus

PAGE = ROOT / "README.md"


def what_it_is() -> Pairs:
    """The first screen."""
    model, data = build(Setting("freezing", "parts")), load_corpus()
    weights = sum(parameter.numel() for parameter in model.encoder.parameters())
    layers = model.encoder.backbone.config.num_hidden_layers
    threads = {record["environment"]["threads"]
               for record in read_records("benchmarks").values()}
    return [
        ("22.7 million weights", round(weights / 1e6, 1) == 22.7),
        ("23,703 real sentences", len(data) == 23_703),
        ("6 transformer layers ─> mean", layers == 6 and model.encoder.pooling == "mean"),
        ("genre (4 classes)", len(GENRES) == 4), ("sentiment (3 classes)", len(SENTIMENTS) == 3),
        ("two CPU cores run all of it", max(threads) == 2),
        ("Four documents", len(ANSWERS) == 4)]


def findings() -> Pairs:
    """In short, and the figure."""
    second = [gain(task, ("arms", task), SINGLE) for task in LABELS]
    lower, whole = ([gain(task, SINGLE, DEPTHS[depth]) for task in LABELS]
                    for depth in ("3", "all 6"))
    lost, mixed = (drift_of(name, "genre", "genre") for name in ("none", "replay"))
    genre, sentiment = (drift_curves("none", task, task).mean(axis=0) for task in LABELS)
    again = drift_curves("replay", "genre", "genre").mean(axis=0)
    human = read_records("baselines")["human"]["test"]["sentiment"]["accuracy"]
    nearer, negated, paraphrase = negations()
    return [
        ("The vectors know the source better than the meaning",
         probe(MODEL, "genre", "accuracy") > 90 > 100 * human
         > probe(MODEL, "sentiment", "accuracy")),
        ("are nearer to their negation than to a paraphrase",
         nearer > len(negated) / 2 and negated.mean() > paraphrase.mean()),
        ("Training the encoder helps", all(map(behind, whole))),
        ("A second task shows no gain", all(map(level, second))),
        ("one model gives both answers, and two take", 1.8 < times_as_long("one sentence")
         and 1.8 < times_as_long() < 2.2),
        ("with no measurable difference", all(map(level, lower))),
        ("Freezing the whole encoder costs both tasks", all(map(behind, whole))),
        ("Freezing a head does not protect its task", behind(lost)),
        ("One batch in ten with old sentences prevents that", level(mixed) and apart(lost, mixed)),
        ("the genre head loses up to five points",
         4.5 < 100 * (genre[0] - genre).max() < 5.5),
        ("sentiment dips and mostly recovers",
         (sentiment[0] - sentiment).max() > 2 * (sentiment[0] - sentiment[-1]) > 0),
        ("with a tenth of old sentences it dips by two and recovers",
         1.5 < 100 * (again[0] - again).max() < 2.5 and again[-1] > again[0])]


def exercise() -> Pairs:
    """The answers to the exercise, and how far to trust them."""
    beside = [gain(task, SINGLE, ("freezing", f"decay-{decay}"))
              for task in LABELS for decay in ("0.8", "0.9", "2.6")]
    alone = [gain(task, ("arms", task), ("freezing", f"{task}-decay-0.8")) for task in LABELS]
    scarce = [gain("sentiment", *scarce_arms(labels), by_seed=True) for labels in (50, 200)]
    weighted = [gain(task, ("arms", "joint"), ("weighting", name)) for task in LABELS
                for name in ("sentiment-x3", "sentiment-x9", "genre-x3", "uncertainty", "PCGrad",
                             "UPGrad")]
    genre, sentiment = ([100 * gain(task, ("arms", task), ("arms", name)).margin for name in (
        "joint", "joint-single-rate", "alternating", "proportional")] for task in LABELS)
    seeds = {len(runs("arms", "joint")), len(runs("freezing", "layers-3")),
             drift_of("none", "genre", "genre").seeds}
    return [
        ("half the weights and time, and at the same learning rate no measurable difference in "
         "scores", 1.8 < times_as_long() < 2.2
         and all(level(gain(task, ("arms", task), SINGLE)) for task in LABELS)),
        ("No gain: times 0.8 a layer changes nothing measurable", not any(map(ahead, beside))
         and all(level(gain(task, SINGLE, ("freezing", "decay-0.8"))) for task in LABELS)),
        ("also for a task alone", all(map(level, alone))),
        ("With 50 labels, train the heads first and then everything",
         all(ahead(label_gain(50, "lp-ft", task)) for task in LABELS)),
        ("Beside 4,000 labels of genre, 200 of sentiment gain nothing measurable",
         level(scarce[1]) and SENTENCES == 4000),
        ("50 are too few to tell", level(scarce[0]) and scarce[0].margin > 0.05),
        ("No weights and no gradient method gained (tried at 3e-4)", not any(map(ahead, weighted))),
        ("half a point to one point in genre, or one to two points in sentiment",
         0.4 < min(genre) and max(genre) < 1.2 and 1 < min(sentiment) and max(sentiment) < 2),
        ("three to six seeds", {min(seeds), max(seeds)} == {3, 6}),
        ("paraphrase-mpnet-base-v2 and bert-base-nli-mean-tokens could not be downloaded",
         not {"paraphrase-mpnet-base-v2", "bert-base-nli-mean-tokens"}
         & read_records("encoders").keys())]


SECTIONS = (what_it_is, findings, exercise)
