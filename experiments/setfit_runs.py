"""What people use for few labels: SetFit, on the sentences of Task 3's study of few labels.

    pip install -e ".[dev]" setfit      # in an environment of its own
    python -m experiments.setfit_runs --stsb FILE

SetFit (Tunstall et al. 2022) trains a copy of the encoder for each task on pairs of sentences, of
the same class or not, then a logistic regression on its vectors. But for the number of pairs,
which is the paper's, settings are the library's own.
FILE is the dev split of STS-B, as in `experiments.similarity`. A recorded run is skipped.
"""

from __future__ import annotations

import argparse
import time
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from experiments.compare_encoders import LABELS
from experiments.records import add_record, find_record
from experiments.similarity import REPORTING, SentencePairs, measure, read_pairs
from experiments.train import Setting, splits, training_data
from mtl_helpers import LabelledSentences, SentenceEncoder, score_classification

RATE = 2e-5  # of the encoder: the library's own
PAIRS = 20  # drawn for each sentence, of its class and of another: `num_iterations` of the paper
SIZES, SEEDS = (50, 200), 3


def fit_task(task: str, data: LabelledSentences, start: Path, seed: int, folder: str) -> Any:
    """A SetFitModel, trained for one task from the encoder in `start`; `folder` is its own."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    pairs = Dataset.from_dict({"text": data.sentences, "label": data.labels[task].tolist()})
    model = SetFitModel.from_pretrained(str(start), labels=list(LABELS[task]))
    settings = TrainingArguments(
        output_dir=folder, num_iterations=PAIRS, num_epochs=1, body_learning_rate=RATE,
        batch_size=16, seed=seed, report_to="none", save_strategy="no", show_progress_bar=False)
    Trainer(model=model, args=settings, train_dataset=pairs).train()
    return model


def train_task(task: str, data: LabelledSentences, start: Path, seed: int,
               dev: SentencePairs) -> dict[str, Any]:
    """Train SetFit for one task: its test score and predictions, its seconds, similarity after."""
    began = time.perf_counter()
    with TemporaryDirectory() as folder:
        model = fit_task(task, data, start, seed, folder)
        seconds = time.perf_counter() - began
        model.model_body.save_pretrained(folder)
        encoder = SentenceEncoder.from_pretrained(folder)
        test = splits()[2]
        ids = np.array(model.model_head.predict(encoder.encode(test.sentences)), dtype=np.int64)
        report = score_classification(test.labels[task], ids, LABELS[task])
        return {"accuracy": round(report.accuracy, 5), "macro_f1": round(report.macro_f1, 5),
                "seconds": round(seconds, 1), "predicted": "".join(map(str, ids)),
                "similarity": measure(encoder, dev)}


def run(sentences: int, seed: int, start: Path, dev: SentencePairs) -> dict[str, Any]:
    """The record of one run: a model for each task, of the same sentences."""
    data = training_data(Setting("labels", "setfit", sentences=sentences, seed=seed))
    found = {task: train_task(task, data, start, seed, dev) for task in LABELS}
    similarity = {task: row.pop("similarity") for task, row in found.items()}
    return {"config": {"arm": f"setfit-{sentences}", "sentences": sentences, "seed": seed,
                       "encoder_lr": RATE, "pairs": PAIRS, "setfit": metadata.version("setfit")},
            "seconds": sum(row["seconds"] for row in found.values()), "test": found,
            "similarity": similarity}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stsb", type=Path, metavar="FILE", required=True,
                        help="the dev split of STS-B")
    dev = read_pairs(parser.parse_args().stsb)
    if len(dev.scores) != REPORTING.stop:
        parser.error(f"--stsb must have {REPORTING.stop} pairs, got {len(dev.scores)}")
    with TemporaryDirectory() as folder:
        start = Path(folder) / "start"
        SentenceEncoder.from_pretrained("all-MiniLM-L6-v2").save_pretrained(start)
        for seed in range(SEEDS):
            for sentences in SIZES:
                name = f"setfit-{sentences}-{RATE:g}-{seed}"
                if not find_record("setfit", name):
                    record = run(sentences, seed, start, dev)
                    add_record("setfit", name, record)
                    print(name, {task: (row["macro_f1"], row["seconds"])
                                 for task, row in record["test"].items()}, flush=True)


if __name__ == "__main__":
    main()
