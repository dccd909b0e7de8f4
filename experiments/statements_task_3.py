"""What Task_3.md says of the records in words: phrases of the page, and whether they hold."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from experiments import similarity_table
from experiments.analysis import gain, mean, runs, score
from experiments.compare_encoders import LABELS
from experiments.drift import FREE, REMEDIES
from experiments.records import read_records
from experiments.statements import ROOT, Pairs, ahead, apart, behind, level
from experiments.studies import domain_arm
from experiments.task_3 import DEPTHS, FULL, SINGLE, drift_curves, drift_of, label_gain, other_genre
from experiments.task_3_figures import features
from experiments.task_3_page import faster, few_arms, similarity_after
from experiments.train import splits
from mtl_helpers import GENRES

PAGE = ROOT / "Task_3.md"
ENCODER = DEPTHS["all 6"]
FEWER = ("layers-5", "layers-4", "layers-3", "layers-2", "layers-1", "embeddings")


def scenarios() -> Pairs:
    """A frozen encoder costs both tasks, a frozen random head only its own."""
    commonest = read_records("baselines")["majority"]["test"]
    random = [score("freezing", "everything", task, "accuracy").value for task in LABELS]
    lost = {task: [gain(task, ENCODER, base) for base in (FULL, SINGLE)] for task in LABELS}
    hidden = [gain(task, ENCODER, ("freezing", "encoder-hidden")) for task in LABELS]
    own, others, trained = {}, [], []
    for task, other in (("genre", "sentiment"), ("sentiment", "genre")):
        own[task] = gain(task, FULL, ("freezing", f"{task}-head-random"))
        others.append(gain(other, FULL, ("freezing", f"{task}-head-random")))
        trained += [gain(each, FULL, ("freezing", f"{task}-head-trained")) for each in LABELS]
    return [
        ("at the same learning rate (the size of a step, 3e-4)",
         runs(*FULL)[0]["config"]["encoder_lr"] == 3e-4),
        ("Everything at 1e-4", runs(*SINGLE)[0]["config"]["encoder_lr"] == 1e-4),
        ("Random heads get 29 % of the genres and 35 % of the sentiments right",
         [round(100 * value) for value in random] == [29, 35]),
        ("always naming the commonest class would get 45 and 43 %",
         [round(100 * commonest[task]["accuracy"]) for task in LABELS] == [45, 43]),
        ("three to four points of genre and six to seven of sentiment below training everything",
         all(0.03 < one.value < 0.045 for one in lost["genre"])
         and 0.055 < lost["sentiment"][0].value < 0.065 < lost["sentiment"][1].value < 0.075),
        ("A frozen encoder costs both tasks, a frozen random head only its own",
         all(ahead(one) for found in lost.values() for one in found)),
        ("A hidden layer in the heads does not help", not any(map(ahead, hidden))),
        ("It costs the head's own task two points (genre) or three (sentiment)",
         -0.025 < own["genre"].value < -0.015 and -0.035 < own["sentiment"].value < -0.025
         and all(map(behind, own.values()))),
        ("and the other task nothing that we can measure", all(map(level, others))),
        ("Freezing a head that was trained first makes no measurable difference to either task at "
         "this learning rate", all(map(level, trained))),
        ("a frozen sentiment head is 1.7 ± 1.4 points behind",
         f"{gain('sentiment', SINGLE, ('freezing', 'sentiment-head-trained')):+}".split()
         == ["−1.7", "±", "1.4"])]


def kept_heads() -> Pairs:
    """A frozen head does not protect its task."""
    genre, sentiment = (drift_curves("none", task, task) for task in ("genre", "sentiment"))
    falls = genre[:, :1] - genre  # (S, 11)
    end = falls[:, -1]
    learnt = drift_curves("none", "genre", "sentiment")
    sentiment_end = drift_of("none", "sentiment", "sentiment")
    still = [np.ptp(drift_curves("encoder", task, task), axis=1).max() for task in LABELS]
    return [
        ("three seeds, and six for nothing done", len(genre) == len(sentiment) == 6),
        ("genre falls in each of the six seeds", end.min() > 0),
        ("by five points on average after 125 steps",
         0.045 < falls.mean(axis=0)[5] < 0.055 and falls.mean(axis=0).argmax() == 5),
        ("by one to six at the end, four on average",
         0.01 < end.min() and end.max() < 0.06 and 0.035 < end.mean() < 0.045),
        ("freezing a head preserves its weights; whether its task survives depends",
         behind(drift_of("none", "genre", "genre"))),
        ("Sentiment dips by two points after 50 steps",
         0.015 < (sentiment[:, 0] - sentiment[:, 2]).mean() < 0.025),
        ("ends within a point of where it was on average",
         abs(sentiment_end.value) < 0.01 and level(sentiment_end)),
        ("With the encoder frozen as well, both stay exactly the same", still == [0, 0]),
        ("the two are not correlated",
         abs(np.corrcoef(end, learnt[:, -1] - learnt[:, 0])[0, 1]) < 0.1)]


def remedies() -> Pairs:
    """What was tried against the fall of the genre."""
    ends, change, learnt = {}, {}, {}
    for name in (*REMEDIES, *FREE):
        curve, other = (drift_curves(name, "genre", task) for task in ("genre", "sentiment"))
        ends[name] = drift_of(name, "genre", "genre")
        change[name] = curve[:, -1] - curve[:, 0]  # (S,)
        learnt[name] = (other[:3, -1] - other[:3, 0]).mean()  # of the same three seeds
    best = ("replay", "distillation", "similarity")
    tried = [ends[name] for name in REMEDIES if name not in ("none", "encoder")]
    return [
        ("With old sentences, old answers or old vectors, genre ends within 1.1 points of where it "
         "was in every seed",
         all(abs(change[name]).max() < 0.011 for name in best)),
        ("That is four points above doing nothing, beyond the intervals",
         all(0.035 < ends[name].value - ends["none"].value < 0.045
             and apart(ends[name], ends["none"]) for name in best)),
        ("and sentiment gains no less on average",
         all(learnt[name] > learnt["none"] for name in best)),
        ("A tenth of the learning rate avoids most of the fall",
         change["small-rate"].mean() > -0.011),
        ("but sentiment gains less on average", learnt["small-rate"] < learnt["none"]),
        ("with the pull, two points of the four remain", -0.025 < change["l2-sp"].mean() < -0.015),
        ("between any two of them there is no measurable difference for genre",
         not any(apart(one, other) for one, other in combinations(tried, 2)))]


def caches() -> Pairs:
    """Cache what is frozen."""
    speed = read_records("benchmarks")["freezing"]["rows"]
    both = single, half = speed["float32"], speed["bfloat16"]
    return [
        ("In fp32 the heads train over a hundred times faster on cached vectors than through the "
         "encoder",
         single["encoder, kept"]["faster than encoder"] > 100),
        ("in bf16, where the encoder is faster, about fifty",
         45 < half["encoder, kept"]["faster than encoder"] < 55),
        ("With four of six layers cached, an epoch is about three times as fast",
         all(2.7 < rows["layers:4, kept"]["faster than full"] < 3.6 for rows in both)),
        ("with two, the cache is hardly worth its memory",
         all(rows["layers:2, kept"]["faster than layers:2"] < 1.3 for rows in both)),
        ("three epochs of everything take 7.1 times as long as filling a cache and 20 epochs of "
         "the heads from it (bf16)", round(faster("encoder", 20), 1) == 7.1),
        ("Filling it takes as long as one forward epoch",
         all(0.8 < rows["encoder, kept"]["fill_seconds"] / rows["encoder"]["seconds"] < 1.3
             for rows in both))]


def depths() -> Pairs:
    """Half of the layers can be frozen."""
    lost, beside, brought = {}, {}, {}
    for task in LABELS:
        whole = gain(task, SINGLE, ENCODER)
        for name in FEWER:
            lost[name, task] = gain(task, FULL, ("freezing", name))
            beside[name, task] = gain(task, SINGLE, ("freezing", name))
            brought[name, task] = round(100 - 100 * beside[name, task].value / whole.value)
    lower = [lost[name, task] for name in FEWER[2:] for task in LABELS]
    genre, sentiment = (beside["layers-3", task] for task in LABELS)
    return [
        ("Training the top layer alone gives 63 % of the possible gain in genre and 45 % in "
         "sentiment", [brought["layers-5", task] for task in LABELS] == [63, 45]),
        ("two layers give 80 and 69 %",
         [brought["layers-4", task] for task in LABELS] == [80, 69]),
        ("three leave no measurable difference", all(map(level, lower))),
        ("Freezing four layers costs two points of sentiment",
         {key for key, one in beside.items() if behind(one)} == {
             ("layers-5", "genre"), ("layers-5", "sentiment"), ("layers-4", "sentiment")}
         and all(behind(lost["layers-5", task]) and level(lost["layers-4", task])
                 for task in LABELS)),
        ("costs two points of sentiment",
         -0.025 < beside["layers-4", "sentiment"].value < -0.015),
        ("freezing three costs at most one point of genre and two of sentiment, by the intervals",
         genre.margin - genre.value < 0.01 and sentiment.margin - sentiment.value < 0.02),
        ("at 1e-4, three frozen layers cost one to two points of sentiment",
         1 < np.mean(similarity_table.values("base")["sentiment"])
         - np.mean(similarity_table.values("layers-3")["sentiment"]) < 2),
        ("All this is at 3e-4", {runs("freezing", name)[0]["config"]["encoder_lr"]
                                 for name in FEWER[:5]} == {3e-4}),
        ("The bottom three layers cost nothing that we can measure, and a fourth two points of "
         "sentiment", level(genre) and level(sentiment))]


def rates_and_stages() -> Pairs:
    """Neither a learning rate for each layer nor an order of stages helps."""
    decays = ("decay-0.9", "decay-0.8", "decay-2.6")
    beside = {(name, task): gain(task, SINGLE, ("freezing", name))
              for name in (*decays, "lp-ft", "gradual") for task in LABELS}
    below = {key for key, one in beside.items() if behind(one)}
    alone = [gain(task, ("arms", task), ("freezing", f"{task}-decay-0.8")) for task in LABELS]
    return [
        ("Nothing is ahead of everything at 1e-4", not any(map(ahead, beside.values()))),
        ("Dividing by 2.6 is behind in sentiment",
         {key for key in below if key[0] in decays} == {("decay-2.6", "sentiment")}),
        ("Factors of 0.9 and 0.8, both at 3e-4, end level with everything at 1e-4",
         all(abs(beside[name, task].value) < 0.003 for name in decays[:2] for task in LABELS)),
        ("For each task alone, 0.8 and 3e-4 show no measurable difference to 1e-4 either",
         all(map(level, alone))),
        ("LP-FT makes no measurable difference. Gradual",
         not {("lp-ft", task) for task in LABELS} & below),
        ("Gradual unfreezing is behind in both tasks",
         {("gradual", task) for task in LABELS} <= below)]


def moved_layers() -> Pairs:
    """The upper layers change most."""
    cka = {name: features(name) for name in ("full", "lp-ft", "gradual", "decay-0.9", "decay-0.8")}
    return [
        ("The embeddings stay as they were", all(values[0] > 0.999 for values in cka.values())),
        ("the higher a layer, the more it changes",
         all(values == sorted(values, reverse=True) for values in cka.values())),
        ("falls to 0.46 where everything is trained at once, but only to 0.65 where the heads are "
         "trained first",
         [round(cka[name][-1], 2) for name in ("full", "lp-ft")] == [0.46, 0.65]),
        ("all but the top layers hardly move", min(features("decay-2.6")[:5]) > 0.97)]


def few_labels() -> Pairs:
    """Few labels are no reason to freeze."""
    few = {(size, policy, task): label_gain(size, policy, task) for size in (50, 200, 1000, 4000)
           for policy in ("lp-ft", "full") for task in LABELS}
    genre, sentiment = ({size: [few[size, policy, task].value for policy in ("lp-ft", "full")]
                         for size in (50, 4000)} for task in ("genre", "sentiment"))
    frozen, tuned = ([[run["test"][task]["macro_f1"] for task in LABELS]
                      for run in runs("labels", f"{name}-50")] for name in ("encoder", "lp-ft"))
    by_method = {name: gain("sentiment", ("labels", "encoder-200"), arm, by_seed=True).value
                 for name, arm in few_arms(200).items()}
    liked = {}
    for rate in ("3e-05", "0.0001", "0.0003"):
        validation = read_records("labels")[f"lp-ft-50-{rate}-0"]["validation"]
        liked[rate] = sum(row["macro_f1"] for row in validation.values())
    return [
        ("the frozen encoder is below from 50 on",
         all(one.value > 0 for one in few.values())),
        ("On average, training the encoder adds seven points of genre with 50 sentences and four "
         "with 4,000",
         all(0.065 < value < 0.075 for value in genre[50])
         and all(0.034 < value < 0.045 for value in genre[4000])),
        ("of sentiment no more than two with 50 and seven with 4,000",
         max(sentiment[50]) < 0.025 and all(0.06 < value < 0.075 for value in sentiment[4000])),
        ("With 50, training the heads first is ahead in both tasks in every seed",
         np.greater(tuned, frozen).all()),
        ("for everything at once the runs differ so much (± 8.6) that no difference can be "
         "measured",
         all(level(few[50, "full", task]) and round(100 * few[50, "full", task].margin, 1) == 8.6
             for task in LABELS)),
        ("With 50 sentences SetFit shows no measurable gain",
         all(level(gain(task, ("labels", "encoder-50"), ("setfit", "setfit-50"), by_seed=True))
             for task in LABELS) and len(runs("setfit", "setfit-50")) == 3),
        ("With 200 it gains most in sentiment",
         max(by_method.values()) == by_method["SetFit"] > few[200, "full", "sentiment"].value),
        ("60 and 66 where training the heads first leaves 79",
         [similarity_after(runs(*few_arms(200)[name])) for name in ("SetFit", "heads first")]
         == ["59.7 and 66.2", "79.4"]),
        ("Heads first with a SimilarityHead leaves all 80, and gains less",
         np.mean(similarity_table.values("few-200-kept")["STS-B"])
         > np.mean(similarity_table.values("published")["STS-B"])
         and by_method["heads first, SimilarityHead"] < by_method["heads first"]),
        ("chosen on 889 validation sentences", len(range(0, len(splits()[1]), 4)) == 889),
        ("the learning rate on all 3,555", len(splits()[1]) == 3555),
        ("the best of three for LP-FT with 50, seed 0",
         max(liked, key=liked.__getitem__) == "0.0001")]


def other_domains() -> Pairs:
    """A new domain is no reason either."""
    inside, outside = ({policy: other_genre(policy, inside=where, over="full")
                        for policy in ("encoder", "lp-ft")} for where in (True, False))
    led = [other_genre("lp-ft", inside=where, over="encoder") for where in (True, False)]
    costs = {genre: gain("sentiment", ("domain", domain_arm("full", genre)),
                         ("arms", "sentiment"), genres=(genre,)) for genre in GENRES}
    average = mean([*costs.values()], independent=True)
    most = max(costs, key=lambda genre: costs[genre].value)
    return [
        ("A new domain is no reason either", all(map(ahead, led))),
        ("the frozen encoder is seven points behind inside and five outside",
         behind(inside["encoder"]) and -0.075 < inside["encoder"].value < -0.065
         and behind(outside["encoder"]) and -0.055 < outside["encoder"].value < -0.045),
        ("LP-FT makes no measurable difference to training everything",
         level(inside["lp-ft"]) and level(outside["lp-ft"])),
        ("a new genre costs eight points on average", 0.075 < average.value < 0.085),
        ("and fourteen for tweets", most == "tweet" and 0.135 < costs[most].value < 0.145)]


def transfer() -> Pairs:
    """What to freeze in your case."""
    probes = {name: round(record["probe"]["sentiment"]["macro_f1"], 2)
              for name, record in read_records("encoders").items()}
    rates = read_records("benchmarks")["models"]["rows"]
    return [
        ("all-MiniLM-L6-v2 at 65 points, and at 46 from the same network with random weights",
         (probes["all-MiniLM-L6-v2"], probes["random-weights"]) == (0.65, 0.46)),
        ("all-mpnet-base-v2 reaches 70 at a seventh of the speed",
         probes["all-mpnet-base-v2"] == 0.7
         and 6 < rates["all-MiniLM-L6-v2"] / rates["all-mpnet-base-v2"] < 7.5)]


SECTIONS = (scenarios, kept_heads, remedies, caches, depths, rates_and_stages, moved_layers,
            few_labels, other_domains, transfer)

