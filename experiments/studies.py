"""The studies of Tasks 3 and 4: which runs there are, and a command that makes those not recorded.

    python -m experiments.studies [STUDY ...] [--part 1/2]

A study can be stopped at any time and continued, here or on another machine: a run that has a
record is skipped. Every arm is run with seed 0 at each rate of `train.RATES`; the rate whose mean
validation score is best is the one at which its other seeds are run.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from experiments.records import find_record
from experiments.train import PASSES, RATES, Setting, record
from mtl_helpers import GENRES

BOTH = ("genre", "sentiment")
HEADLINE = 3 * 16_592  # passes: three epochs over the training split


def arm(study: str, name: str, seeds: int, rate_of: str | None = None,
        **settings: Any) -> tuple[Setting, int, str | None]:
    """An arm of a study, how many seeds it has, and whose rate it takes (STUDY/ARM) if not its own.
    """
    return Setting(study, name, **settings), seeds, rate_of


def domain_arm(policy: str, genre: str) -> str:
    """The name of the arm that was not trained on a genre."""
    return f"{policy}-{genre.replace(' ', '-')}"


ARMS = [
    arm("arms", "joint", 5),
    arm("arms", "alternating", 5, schedule="alternating"),
    arm("arms", "genre", 5, tasks=("genre",)),
    arm("arms", "sentiment", 5, tasks=("sentiment",)),
    arm("errors", "joint", 1, "arms/joint", probabilities=True),
    arm("arms", "proportional", 3, "arms/alternating", schedule="proportional"),
    # Does the joint arm lose by its rate? The same at the rate that each task chose for itself.
    arm("arms", "joint-single-rate", 5, "arms/sentiment"),
    # Few sentiment labels, redrawn for each seed.
    *(arm("scarce", f"{'-'.join(tasks)}-{labels}", seeds, f"arms/{rate}", tasks=tasks,
          sentiment_labels=labels, schedule="alternating", select="sentiment")
      for labels, seeds in ((200, 5), (50, 3))
      for tasks, rate in ((("sentiment",), "sentiment"), (BOTH, "alternating"))),
    arm("valence", "three-tasks", 3, "arms/sentiment", tasks=(*BOTH, "valence")),
    arm("valence", "valence", 3, "arms/sentiment", tasks=("valence",)),
    # Equal labels: each task's labels as often in alternating as in joint, or in one task alone
    # as often as in alternating.
    arm("arms", "alternating-equal-labels", 3, "arms/alternating", schedule="alternating",
        passes=2 * PASSES),
    arm("arms", "genre-equal-labels", 3, "arms/genre", tasks=("genre",), passes=PASSES // 2),
    arm("arms", "sentiment-equal-labels", 3, "arms/sentiment", tasks=("sentiment",),
        passes=PASSES // 2),
    *(arm("weighting", name, 3, "arms/joint", weighting=weighting) for name, weighting in (
        ("sentiment-x3", {"genre": 0.5, "sentiment": 1.5}),
        ("genre-x3", {"genre": 1.5, "sentiment": 0.5}),
        ("sentiment-x9", {"genre": 0.2, "sentiment": 1.8}),
        ("log_k", "log_k"), ("uncertainty", "uncertainty"))),
    *(arm("weighting", name, 3, "arms/joint", aggregator=name) for name in ("PCGrad", "UPGrad")),
    # One rate for all: over five seeds, validation likes joint at its two upper rates equally.
    arm("headline", "joint", 3, "arms/sentiment", sentences=None, passes=HEADLINE),
    arm("headline", "genre", 3, "arms/genre", sentences=None, passes=HEADLINE, tasks=("genre",)),
    arm("headline", "sentiment", 3, "arms/sentiment", sentences=None, passes=HEADLINE,
        tasks=("sentiment",)),
    arm("headline", "alternating", 3, "arms/alternating", sentences=None, passes=HEADLINE,
        schedule="alternating"),
    # Task 3. What is frozen, from everything to nothing, which is arms/joint.
    arm("freezing", "everything", 5, "arms/joint", policy="everything"),
    arm("freezing", "encoder", 5, policy="encoder"),
    arm("freezing", "encoder-hidden", 5, policy="encoder", hidden_dim=128),
    arm("freezing", "full", 1, "arms/sentiment", features=True),  # arms/joint-single-rate again
    arm("freezing", "lp-ft", 5, policy="lp-ft", features=True),
    *(arm("freezing", f"{task}-head-{state}", 5, "arms/joint", policy=f"{task}-head-{state}",
          features=True) for state in ("random", "trained") for task in BOTH),
    *(arm("freezing", policy, 3, policy=policy, features=True)
      for policy in ("layers-5", "layers-4", "layers-3", "layers-2", "layers-1", "embeddings")),
    *(arm("freezing", f"decay-{name}", 3, policy=f"decay-{name}", features=True)
      for name in ("0.9", "0.8", "2.6")),
    arm("freezing", "gradual", 3, policy="gradual", features=True),
    # Does a task that is trained alone like another factor than two together?
    *(arm("freezing", f"{task}-decay-0.8", 3, "freezing/decay-0.8", tasks=(task,),
          policy="decay-0.8") for task in BOTH),
    # Few training sentences. Of 4,000 there are the runs above. Whatever tunes the encoder has one
    # rate, here and below.
    *(arm("labels", f"{policy}-{sentences}", 3, rate, policy=policy, sentences=sentences,
          select="mean")
      for sentences in (50, 200, 1000)
      for policy, rate in (("encoder", None), ("lp-ft", "arms/sentiment"),
                           ("full", "arms/sentiment"))),
    # Sentiment of a genre that was not trained on.
    *(arm("domain", domain_arm(policy, genre), 3, rate, tasks=("sentiment",), policy=policy,
          held_out=genre)
      for genre in GENRES for policy, rate in (("encoder", "freezing/encoder"),
                                               ("lp-ft", "arms/sentiment"),
                                               ("full", "arms/sentiment"))),
]


def tuned_rate(setting: Setting, rate_of: str | None = None) -> float | None:
    """The rate at which seed 0 of an arm, or of the one whose rate it takes, validates best.

    Of rates that are equal to six digits it is the lowest. None while a run has no record.
    """
    if rate_of:
        study, name = rate_of.split("/")
        setting = next(other for other, *_ in ARMS if (other.study, other.arm) == (study, name))
    means = {}
    for rate in RATES:
        run = replace(setting, encoder_lr=rate, seed=0)
        record = find_record(run.study, run.name)
        if not record:
            return None
        scores = record["validation"].values()
        total = sum(row.get("macro_f1", row.get("pearson")) for row in scores)
        means[rate] = round(total / len(scores), 6)
    return max(means, key=means.__getitem__)


def jobs(studies: list[str], parts: int = 1) -> Iterator[Setting]:
    """The runs of some studies in order; each is drawn when those before it have been made."""
    for setting, seeds, rate_of in ARMS:
        if setting.study in studies:
            if not rate_of:
                yield from (replace(setting, encoder_lr=rate) for rate in RATES)
            while not (rate := tuned_rate(setting, rate_of)):
                if parts == 1:
                    raise SystemExit(f"{setting.study} needs the records of {rate_of}: make them "
                                     "first, by python -m experiments.studies arms")
                time.sleep(5)  # another part is making these runs
            yield from (replace(setting, encoder_lr=rate, seed=seed) for seed in range(seeds))


def part_of(text: str) -> tuple[int, int]:
    """I and N of "I/N", the I-th of N parts."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    own, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= own <= parts:
        raise argparse.ArgumentTypeError(f"must be I/N with I from 1 to N, got {text!r}")
    return own, parts


def main() -> None:
    known = list(dict.fromkeys(setting.study for setting, *_ in ARMS))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", default=known, metavar="STUDY", help=str(known))
    parser.add_argument("--part", default="1/1", type=part_of,
                        help="I/N: the I-th of N machines or processes")
    given = parser.parse_args()
    if not set(given.studies) <= set(known):
        parser.error(f"STUDY must be among {known}, got {given.studies}")
    own, parts = given.part
    for number, setting in enumerate(jobs(given.studies, parts)):
        if number % parts == own - 1:
            record(setting)


if __name__ == "__main__":
    main()
