"""Time to train both tasks on 50 sentences: SetFit's two models, or one whose heads come first.

    pip install -e ".[dev]" setfit      # in an environment of its own
    python -m benchmarks.few_labels [--rounds 3]

Writes results/benchmarks/few_labels.json: of each way the seconds of every round, in fp32, without
validation. Run it on an idle machine.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import interleaved, keep, parser, seconds
from experiments.setfit_runs import fit_task
from experiments.similarity import ARMS
from experiments.train import LABELS, Setting, train, training_data
from mtl_helpers import SentenceEncoder

SIZE = 50


def train_setfit(setting: Setting, start: Path) -> None:
    """A model of SetFit for each task, of the sentences of this setting."""
    for task in LABELS:
        with TemporaryDirectory() as folder:
            fit_task(task, training_data(setting), start, setting.seed, folder)


def main() -> None:
    rounds = parser(__doc__, rounds=3).parse_args().rounds
    settings = {setting.arm: replace(setting, select=None) for setting, *_ in ARMS}
    plain, kept = settings[f"few-{SIZE}"], settings[f"few-{SIZE}-kept"]
    ours = partial(train, progress=False, dtype="float32")
    with TemporaryDirectory() as folder:
        SentenceEncoder.from_pretrained("all-MiniLM-L6-v2").save_pretrained(folder)
        contestants = {
            "SetFit": partial(seconds, partial(train_setfit, plain, Path(folder))),
            "heads first": partial(seconds, partial(ours, plain)),
            "heads first, SimilarityHead": partial(seconds, partial(ours, kept))}
        found = interleaved(contestants, rounds, warm_up=0)
    config = {"sentences": SIZE, "rounds": rounds, "setfit": metadata.version("setfit")}
    keep("few_labels", {"config": config, "seconds": {
        name: [round(one, 1) for one in taken] for name, taken in found.items()}})


if __name__ == "__main__":
    main()
