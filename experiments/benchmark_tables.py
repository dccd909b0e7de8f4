"""The tables of benchmarks/README.md, made from the records in results/benchmarks.

They stand there between comment markers, where cog calls these functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.analysis import Estimate
from experiments.page import table
from experiments.records import read_records
from experiments.train import LABELS


def encode_speed() -> str:
    """Sentences a second of `encode` beside the library's backends; all columns come folded."""
    record = read_records("benchmarks")["encode"]
    rows, more = [], []
    for name, row in record["rows"].items():
        title = name.replace("library torch", "library").replace("ours", "`encode`")
        row_start = (title, f"{row['sentences_per_second']:.0f}", f"{row['speed_ratio']:.2f}",
                     f"{row['ratio_in_same_precision']:.2f}")
        rows.append((*row_start, f"{row['min_cosine']:.5f}"))
        more.append((title, f"{row['padding_share']:.1%}", f"{row['share_of_gemm_rate']:.0%}"))
    config, place, rate = record["config"], record["environment"], record["gemm_gflops"]
    return "\n\n".join([
        table(("all-MiniLM-L6-v2", "sentences/s", "times the library in fp32",
               "times it in the same precision", "least cosine"), rows),
        f"{config['sentences']:,} sentences of the corpus, medians of {config['rounds']} "
        f"interleaved rounds on {place['threads']} cores of an "
        f"{place['processor'].removesuffix(' Processor')} processor.",
        folded("Padding, and the share of the fastest matrix product",
               table(("all-MiniLM-L6-v2", "padding", "of that rate"), more)
               + f"\n\nThe fastest matrix product there runs at {rate['float32']} GFLOP/s in fp32 "
               f"and {rate['bfloat16']} in bf16.")])


def folded(title: str, text: str) -> str:
    """Text that a reader of the page unfolds."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def training_speed() -> str:
    """Sentences a second of `fit` beside Trainer; the rest of what was recorded comes folded."""
    record, scored = (read_records("benchmarks")[name] for name in ("train", "train_scores"))
    rows, more = [], []
    for precision, short in (("float32", "fp32"), ("bfloat16", "bf16")):
        for name, row in record["rows"].get(precision, {}).items():
            title = f"{name.replace('ours', '`fit`')}, {short}"
            ratios = [f"{np.median(row['ratios'][other]):.2f}"
                      for other in ("Trainer", "Trainer, length-grouped")]
            rows.append((title, f"{row['sentences_per_second']:.0f}", *ratios))
            more.append((title, f"{row['padding_share']:.1%}",
                         f"{row['sentences_per_second'] / row['limit']:.0%}",
                         f"{row['peak_bytes'] / 1e6:.0f}"))
    config, place = record["config"], record["environment"]
    return "\n\n".join([
        table(("training all-MiniLM-L6-v2", "sentences/s", "times Trainer",
               "times Trainer, length-grouped"), rows),
        f"{config['steps'] * config['batch_size']:,} sentences an epoch, batches of "
        f"{config['batch_size']}, medians of {config['rounds']} interleaved rounds, "
        f"{place['threads']} threads of an {place['processor']} processor. Ratios are medians of "
        "those of each round.",
        about_scores(scored),
        folded("Padding, the arithmetic limit, memory and costs",
               table(("training all-MiniLM-L6-v2", "padding", "of the limit", "peak MB"), more)
               + "\n\n" + about_speed(record))])


def about_speed(record: dict[str, Any]) -> str:
    """What the limit is, and what takes the time."""
    rates = ", ".join(f"{rate} GFLOP/s in {name}" for name, rate in record["gemm_gflops"].items())
    costs = []
    for precision, found in record["costs"].items():
        largest = [f"`{name.removeprefix('aten::')}` {share:.0%}"
                   for name, share in list(found.items())[:5]]
        costs.append(f"{', '.join(largest)} in {precision}")
    return (f"The limit is a plain matrix product's rate there ({rates}) over what the linear "
            "layers compute for tokens that are not padding. The operations that take most of our "
            f"time at the equal setting: {'; '.join(costs)}.")


def about_scores(record: dict[str, Any]) -> str:
    """Scores in points after one epoch, and how ours differ from length-grouped Trainer's."""
    config, rows = record["config"], []
    for name, found in record["summary"].items():
        cells = []
        for task in LABELS:
            cells.append(in_points(found[task]["mean"], 2 * found[task]["standard_error"]))
            more = ""
            if name.startswith("ours"):
                difference, error = found[task]["difference"], found[task]["error_of_difference"]
                more = in_points(difference, 2 * error, "+")
            cells.append(more)
        rows.append((name.replace("ours", "`fit`"), *cells))
    return (f"Macro-F1 in points after one epoch over {config['sentences']:,} sentences in "
            f"{config['dtype']}, and gains over length-grouped Trainer; means of "
            f"{config['seeds']} seeds ± two standard errors:\n\n"
            + table(("", "genre", "gain", "sentiment", "gain"), rows))


def in_points(value: float, margin: float, sign: str = "") -> str:
    """A value and its margin in points of 100."""
    return format(Estimate(value, margin, 0), sign)


def kills() -> str:
    """What became of the runs that were killed at random."""
    record = read_records("benchmarks")["kills"]
    assert record["runs"] == record["same_weights"]
    return (f"Of {record['kills']} kills at random moments, {record['inside_a_save']} of them "
            f"inside a save, each cost at most {record['steps_lost']} step, and all "
            f"{record['runs']} runs ended with exactly the weights of the run that was not killed "
            "(`python -m benchmarks.kills`, a small model with a checkpoint each step).")
