"""What Task_1.ipynb says of the records in words: phrases of the page, and whether they hold."""

from __future__ import annotations

import numpy as np

from experiments.analysis import PairedTest, paired_test
from experiments.compare_encoders import LABELS, PAIRS, fixed_sample
from experiments.contrastive import SEEDS, halves, outcomes
from experiments.raters import classes, human_row, leave_one_rater_out
from experiments.records import read_records
from experiments.statements import ROOT, Pairs
from experiments.task_1 import nearer, recorded_cosines
from mtl_helpers import GENRES, SENTIMENTS, load_corpus, load_ratings, score_classification

PAGE = ROOT / "Task_1.ipynb"
# Hutto and Gilbert (ICWSM 2014), Table 4: Pearson's r, precision, recall, F1 of single raters.
PAPER = {"movie review": (0.899, 0.95, 0.90, 0.92), "product review": (0.911, 0.94, 0.80, 0.85),
         "news editorial": (0.745, 0.87, 0.55, 0.65), "tweet": (0.888, 0.95, 0.76, 0.84)}


def points(value: float, digits: int = 0) -> str:
    """A share in points of 100."""
    return f"{100 * value:.{digits}f}"


def larger_gains(task: str) -> PairedTest:
    """What all-mpnet-base-v2 scores above all-MiniLM-L6-v2 in a task, sentence by sentence."""
    test = fixed_sample()[1]
    said = []
    for name in ("all-MiniLM-L6-v2", "all-mpnet-base-v2"):
        said.append([*map(int, read_records("encoders")[name]["probe"][task]["predicted"])])
    return paired_test(test.labels[task], said[0], said[1], groups=test.groups)


def models() -> Pairs:
    """The table of models."""
    records, speeds = read_records("encoders"), read_records("benchmarks")["models"]
    small, large = records["all-MiniLM-L6-v2"], records["all-mpnet-base-v2"]
    right = {name: [points(record["probe"][task]["accuracy"]) for task in LABELS]
             for name, record in records.items()}
    genre, sentiment = (larger_gains(task) for task in LABELS)
    gained = [points(value, 1) for value in sentiment[:3]]
    speed = speeds["rows"]["all-MiniLM-L6-v2"] / speeds["rows"]["all-mpnet-base-v2"]
    return [
        ("gets 91 % of genres and 70 % of sentiments right",
         right["all-MiniLM-L6-v2"] == ["91", "70"]),
        ("it gets 82 % and 56 %", right["TF-IDF"] == ["82", "56"]),
        ("The interval is six points wide", round(100 * float(np.ptp(
            small["probe"]["sentiment"]["macro_f1_interval"]))) == 6),
        ("nearly five times as many weights and a seventh of the speed",
         4.7 < large["parameters"] / small["parameters"] < 5 and 6.5 < speed < 7.5),
        ("it gains 4.6 points on sentiment (95 % interval 1.4 to 7.7)",
         gained == ["4.6", "1.4", "7.7"]),
        ("On genre there is *no measurable difference*", genre.low < 0 < genre.high),
        ("sentiment +4.6 points; genre no measurable difference", gained[0] == "4.6"),
        ("weights that never saw a sentence still tell 73 % of genres",
         right["random-weights"][0] == "73"),
        ("The weights of the last two were not at hand",
         not {"paraphrase-mpnet-base-v2", "bert-base-nli-mean-tokens"} & records.keys()),
        ("made on two threads of an AMD EPYC processor; speeds are of 300 sentences in float32",
         {(record["environment"]["threads"], record["environment"]["processor"][:8])
          for record in (*records.values(), speeds)} == {(2, "AMD EPYC")}
         and (speeds["config"]["sentences"], speeds["config"]["dtype"]) == (300, "float32"))]


def cosines() -> Pairs:
    """What a cosine sees of a negation."""
    found = recorded_cosines()
    small, large = found["all-MiniLM-L6-v2"], found["all-mpnet-base-v2"]
    random = {kind: values.mean() for kind, values in found["random-weights"].items()}
    means = [f"{small[kind].mean():.2f}" for kind in ("negated", "paraphrase")]
    return [
        ("Of 16 sentences, 14 are closer to their negation than to a paraphrase (mean cosines "
         "0.85 and 0.64)", nearer(small) == 14 and means == ["0.85", "0.64"]),
        ("14 of 16 negations are closer", nearer(small) == 14),
        ("on average they move a vector further than a synonym does (mean cosines 0.85 and 0.91), "
         "but five of them less", [f"{small[kind].mean():.2f}" for kind in ("negated", "synonym")]
         == ["0.85", "0.91"] and (small["negated"] >= small["synonym"]).sum() == 5),
        ("puts each of the 16 negations further away than its synonym",
         bool((large["negated"] < large["synonym"]).all())),
        ("But half of them are still closer than the paraphrase", nearer(large) == 8),
        ("The trained models put paraphrases well above unrelated pairs",
         all(one["paraphrase"].mean() > one["unrelated"].mean() + 0.5 for one in (small, large))),
        ("Random weights put everything close to everything", min(random.values()) > 0.93),
        ("In all four columns a negation is closer than another sentence on the same topic",
         all((one["negated"] > one["related"]).all() for one in found.values())),
        ("in both cases the negation has the higher cosine",
         bool((small["negated"] > small["paraphrase"])[[7, 8]].all())),
        ("no: closer than the paraphrase for 14 of 16", nearer(small) == 14)]


def people() -> Pairs:
    """Single raters, and VADER beside them."""
    genre, ratings = load_corpus().labels["genre"], load_ratings().astype(np.float64)
    same = True
    for index, name in enumerate(GENRES):
        row = human_row(ratings[genre == index])
        same &= abs(row.correlation - PAPER[name][0]) < 0.001
        same &= tuple(round(score, 2) for score in row[1:]) == PAPER[name][1:]
    tweets = ratings[genre == GENRES.index("tweet")]
    vader = [*map(int, read_records("baselines")["vader-tweets"]["predicted"])]
    means, ahead = np.nanmean(tweets, axis=1), []
    zeros = (means != 0)[np.nonzero(tweets == 0)[0]].mean()  # share of the zeros that are wrong
    for band in (0.0, 0.5):
        machine = score_classification(classes(means, band), vader, SENTIMENTS)
        human = leave_one_rater_out(tweets, band)
        ahead.append(points(machine.weighted_f1 - human.weighted_f1))
    return [
        ("those of the paper's Table 4 to the last printed digit", same),
        ("Editorials are hardest: there people agree least",
         min(PAPER, key=lambda name: PAPER[name][0]) == "news editorial"),
        ("One human rater gets 82 % of sentiments right",
         points(leave_one_rater_out(ratings, 0.5).accuracy) == "82"),
        ("all 4,200 tweets", len(tweets) == 4200),
        ("With the paper's rule VADER is ahead by 11 points", ahead[0] == "11"),
        ("Hardly any tweet is neutral then, and a rater who answers 0 is nearly always wrong",
         (means == 0).mean() < 0.002 and zeros > 0.98),
        ("a fifth of the tweets are neutral", 0.19 < (abs(means) <= 0.5).mean() < 0.21),
        ("and the human is ahead by 5 points", ahead[1] == "-5")]


def contrastive() -> Pairs:
    """Eight sentences train, eight are held out."""
    before, after = outcomes("negations")  # {kind: (6, 8)} each
    control = outcomes("paraphrases")[1]
    means = [f"{values.mean():.2f}" for values in (before["negated"], after["negated"])]
    kept = {f"{found['paraphrase'].mean():.2f}" for found in (before, after)}
    fallen = before["paraphrase"] - after["paraphrase"]  # (6, 8)
    held_out = np.array([halves(seed)[1] for seed in range(SEEDS)])
    negative = np.isin(held_out, [3, 14])  # whose paraphrases say can't and never
    words = [PAIRS["paraphrase"][row][1] for row in (3, 14)]
    return [
        ("In six runs, each with another half held out, 42 of 48 held-out negations were closer "
         "than the paraphrase before training. Afterwards 4 are",
         before["negated"].shape == (6, 8) and nearer(before) == 42 and nearer(after) == 4),
        ("(42 of 48 closer before, 4 after)", nearer(before) == 42 and nearer(after) == 4),
        ("falls from 0.85 to 0.42, while that of a paraphrase stays at 0.63",
         means == ["0.85", "0.42"] and kept == {"0.63"}),
        ("With the paraphrases alone as partners it is still 42", nearer(control) == 42),
        (f'"{words[0]}" and "{words[1]}"', True),
        ("their cosines fall by 0.2 or more; no other falls by more than 0.05",
         round(fallen[negative].min(), 2) >= 0.2 and fallen[~negative].max() <= 0.05)]


SECTIONS = (models, cosines, people, contrastive)
