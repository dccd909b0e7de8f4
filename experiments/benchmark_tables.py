"""The tables of README that are made from the records in results/benchmarks.

They stand there between comment markers, where cog calls these functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.page import table
from experiments.records import read_records
from experiments.train import LABELS

QUESTIONS = {
    "Task_1.ipynb": "How does a sentence transformer turn sentences into vectors, and what do "
                    "those vectors know?",
    "Task_2.ipynb": "How does one shared encoder serve several tasks at once?",
    "Task_3.md": "What should be frozen, and what does it cost?",
    "Task_4.ipynb": "How is such a model trained, and does multi-task training help?",
}


def minutes() -> str:
    """The documents, their questions, and how long they take."""
    record = read_records("benchmarks")["documents"]
    rows = [(f"[{name}]({name})", QUESTIONS[name], f"{seconds / 60:.1f}")
            for name, seconds in record["documents"].items()]
    place = record["environment"]
    return table(("document", "question it answers", "minutes"), rows, text=2) + (
        f"\n\nOn {place['threads']} cores of an {place['processor']} processor. Setting up from a "
        f"clone takes {record['set_up'] / 60:.1f} minutes there, once pip has the packages.")


def encode_speed() -> str:
    """Sentences a second of `encode` beside the library's backends."""
    record = read_records("benchmarks")["encode"]
    rows = [(name, f"{row['sentences_per_second']:.0f}", f"{row['speed_ratio']:.2f}",
             f"{row['ratio_in_same_precision']:.2f}", f"{row['padding_share']:.1%}",
             f"{row['share_of_gemm_rate']:.0%}", f"{row['min_cosine']:.5f}")
            for name, row in record["rows"].items()]
    config, place, rate = record["config"], record["environment"], record["gemm_gflops"]
    return table(("all-MiniLM-L6-v2", "sentences/s", "to the library in fp32",
                  "in the same precision", "padding", "of GEMM rate", "least cosine"), rows) + (
        f"\n\n{config['sentences']:,} sentences of the corpus, medians of {config['rounds']} "
        f"interleaved rounds on {place['threads']} cores of an "
        f"{place['processor'].removesuffix(' Processor')} processor; the fastest matrix product "
        f"there runs at {rate['float32']} GFLOP/s in fp32 and {rate['bfloat16']} in bf16.")


def training_speed() -> str:
    """Sentences a second of `fit` beside Trainer, memory, and scores where they are recorded."""
    record, scored = (read_records("benchmarks")[name] for name in ("train", "train_scores"))
    rows = []
    for precision, short in (("float32", "fp32"), ("bfloat16", "bf16")):
        for name, row in record["rows"].get(precision, {}).items():
            ratios = [f"{np.median(row['ratios'][other]):.2f}"
                      for other in ("Trainer", "Trainer, length-grouped")]
            scores = ["", ""]
            if precision == scored["config"]["dtype"] and name in scored["summary"]:
                scores = [f"{found['mean']:.3f} ± {2 * found['standard_error']:.3f}"
                          for found in scored["summary"][name].values()]
            rows.append((f"{name}, {short}", f"{row['sentences_per_second']:.0f}", *ratios,
                         f"{row['padding_share']:.1%}",
                         f"{row['sentences_per_second'] / row['limit']:.0%}",
                         f"{row['peak_bytes'] / 1e6:.0f}", *scores))
    return table(("training all-MiniLM-L6-v2", "sentences/s", "to Trainer",
                  "to its length-grouped setting", "padding", "of the limit", "peak MB",
                  "genre macro-F1", "sentiment macro-F1"), rows) + (
        f"\n\n{about_speed(record)} {about_scores(scored)}")


def about_speed(record: dict[str, Any]) -> str:
    """What was timed on what, the limit, and what takes the time."""
    config, place = record["config"], record["environment"]
    rates = ", ".join(f"{rate} GFLOP/s in {name}" for name, rate in record["gemm_gflops"].items())
    costs = []
    for precision, found in record["costs"].items():
        largest = [f"`{name.removeprefix('aten::')}` {share:.0%}"
                   for name, share in list(found.items())[:5]]
        costs.append(f"{', '.join(largest)} in {precision}")
    return (f"{config['steps'] * config['batch_size']:,} sentences an epoch, batches of "
            f"{config['batch_size']}, medians of {config['rounds']} interleaved rounds, "
            f"{place['threads']} threads of an {place['processor']} processor. The limit is a "
            f"plain matrix product's rate there ({rates}) over what the linear layers compute for "
            "tokens that are not padding. The operations that take most of our time at the equal "
            f"setting: {'; '.join(costs)}. Ratios are medians of those of each round.")


def about_scores(record: dict[str, Any]) -> str:
    """How the scores came about, and how ours differ from length-grouped Trainer's."""
    config, summary = record["config"], record["summary"]
    told = [f"Scores: after one epoch over {config['sentences']:,} sentences, means of "
            f"{config['seeds']} seeds ± two standard errors."]
    for task in LABELS:
        ours = [found[task] for name, found in summary.items() if name.startswith("ours")]
        more = ", ".join(f"{one['difference']:+.4f}" for one in ours)
        errors = ", ".join(f"{one['difference'] / one['error_of_difference']:.1f}" for one in ours)
        told.append(f"Over length-grouped Trainer, our rows have {more} in {task} macro-F1, "
                    f"{errors} standard errors.")
    return " ".join(told)


def kills() -> str:
    """What became of the runs that were killed at random."""
    record = read_records("benchmarks")["kills"]
    assert record["runs"] == record["same_weights"]
    return (f"Of {record['kills']} kills at random moments, {record['inside_a_save']} of them "
            f"inside a save, each cost at most {record['steps_lost']} step, and all "
            f"{record['runs']} runs ended with the weights of the run that was not killed, to the "
            "last bit (`python -m benchmarks.kills`, a small model with a checkpoint each step).")
