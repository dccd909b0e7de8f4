"""The tables of README and Task 4, and the README's figure, made from the records in results/.

    python -m experiments.tables        draws results/figures/cosines.png

In the README they stand between comment markers, where cog calls these functions.
"""

from __future__ import annotations

import ast
import re
import sys
from typing import Any

import numpy as np

from experiments import task_3
from experiments.analysis import arm_names, gain, runs, score, seed_margin
from experiments.compare_encoders import MODELS, PUBLISHED
from experiments.records import RESULTS, read_records
from experiments.train import LABELS, splits
from mtl_helpers import GENRES, bootstrap_interval, score_regression
from mtl_helpers.plots import plot_pairs

QUESTIONS = {
    "Task_1.ipynb": "How does a sentence transformer turn sentences into vectors, and what do "
                    "those vectors know?",
    "Task_2.ipynb": "How does one shared encoder serve several tasks at once?",
    "Task_3.md": "What should be frozen, and what does it cost?",
    "Task_4.ipynb": "How is such a model trained, and does multi-task training help?",
}


def findings() -> str:
    """What the series found, a line each."""
    cosine = {kind: np.array(values) for kind, values
              in read_records("encoders")["all-MiniLM-L6-v2"]["cosine"].items()}
    nearer = int((cosine["negated"] > cosine["paraphrase"]).sum())
    both = [gain(task, ("arms", task), task_3.SINGLE) for task in LABELS]
    lost = [[gain(task, task_3.SINGLE, task_3.DEPTHS[depth]) for task in LABELS]
            for depth in ("3", "all 6")]
    return "\n".join([
        "- **Freezing a head does not keep its task**, because the encoder moves on: genre changes "
        f"by {task_3.drift_of('none', 'genre', 'genre'):+} macro-F1 while sentiment trains.",
        f"- **A second task does not help the first**: {both[0]:+} macro-F1 in genre and "
        f"{both[1]:+} in sentiment, with one rate for all. But one model does the work of two.",
        "- **The lower three of six layers can be frozen** at a cost too small to be seen "
        f"({lost[0][0]:+} and {lost[0][1]:+}). Freezing the whole encoder costs both tasks "
        f"({lost[1][0]:+} and {lost[1][1]:+}).",
        f"- **The vectors see the words more than what is said**: {nearer} of "
        f"{len(cosine['negated'])} sentences are closer to their negation than to their paraphrase "
        f"(mean cosines {cosine['negated'].mean():.2f} and {cosine['paraphrase'].mean():.2f})."])


def helpers() -> str:
    """What each file of the package gives, its siblings and the packages that it imports."""
    lines = ["| file | what it gives | siblings | packages |", "|---|---|---|---|"]
    names = {"sklearn": "scikit-learn", "huggingface_hub": "huggingface-hub", "PIL": "pillow"}
    for path in sorted((RESULTS.parent / "mtl_helpers").glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        told = " ".join((ast.get_docstring(tree) or "").split())
        siblings = re.search(r"Goes with ((?:\w+\.py(?:, | and )?)+)", told)
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
                   for alias in node.names}
        modules |= {node.module or "" for node in ast.walk(tree)
                    if isinstance(node, ast.ImportFrom) and not node.level}
        packages = {module.split(".")[0] for module in modules} - sys.stdlib_module_names
        lines.append(
            f"| `{path.name}` | {re.split(r'[.] |[.]$', told)[0]} "
            f"| {siblings[1] if siblings else ''} "
            f"| {', '.join(sorted(names.get(name, name) for name in packages))} |")
    return "\n".join(lines)


def minutes() -> str:
    """The documents, their questions, and how long they take."""
    record = read_records("benchmarks")["documents"]
    lines = ["| document | question it answers | minutes |", "|---|---|---:|"]
    for name, seconds in record["documents"].items():
        lines.append(f"| [{name}]({name}) | {QUESTIONS[name]} | {seconds / 60:.1f} |")
    place = record["environment"]
    return "\n".join(lines) + (
        f"\n\nOn {place['threads']} cores of an {place['processor']} processor. Setting up from a "
        f"clone takes {record['set_up'] / 60:.1f} minutes there, once pip has the packages.")


def encoders(records: dict[str, dict[str, Any]] | None = None) -> str:
    """Probe scores of every model of Task 1 that has a record, or of those that are given."""
    records, timed = records or read_records("encoders"), read_records("benchmarks")["models"]
    speed, place = timed["rows"], timed["environment"]
    lines = [
        "| model | parameters | dim | sentences/s | published "
        "| genre accuracy | sentiment macro-F1 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in MODELS:
        published = f"{PUBLISHED[name]:.2f}" if name in PUBLISHED else ""
        if name not in records:
            lines.append(f"| {name} | no weights here | | | {published} | | |")
            continue
        row = records[name]
        scores = row["probe"]
        low, high = scores["sentiment"]["macro_f1_interval"]
        size = f"{row['parameters'] / 1e6:.1f} M" if row["parameters"] else ""
        rate = f"{speed[name]:.0f}" if name in speed else ""
        lines.append(
            f"| {name} | {size} | {row['embedding_dim']:,} | {rate} | {published} "
            f"| {scores['genre']['accuracy']:.3f} "
            f"| {scores['sentiment']['macro_f1']:.3f} [{low:.2f}, {high:.2f}] |"
        )
    return "\n".join(lines) + (
        f"\n\nSpeeds are of {timed['config']['sentences']} sentences in {timed['config']['dtype']} "
        f"on {place['threads']} threads of an {place['processor']} processor "
        "(`python -m benchmarks.models`).")


def encode_speed() -> str:
    """Sentences a second of `encode` beside the library's backends."""
    record = read_records("benchmarks")["encode"]
    lines = [
        "| all-MiniLM-L6-v2 | sentences/s | to the library in fp32 | in the same precision "
        "| padding | of GEMM rate | least cosine |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in record["rows"].items():
        lines.append(
            f"| {name} | {row['sentences_per_second']:.0f} | {row['speed_ratio']:.2f} "
            f"| {row['ratio_in_same_precision']:.2f} | {row['padding_share']:.1%} "
            f"| {row['share_of_gemm_rate']:.0%} "
            f"| {row['min_cosine']:.5f} |"
        )
    config, place = record["config"], record["environment"]
    lines.append(
        f"\n{config['sentences']:,} sentences of the corpus, medians of {config['rounds']} "
        f"interleaved rounds on {place['threads']} cores of an "
        f"{place['processor'].removesuffix(' Processor')} processor; "
        f"the fastest matrix product there runs at {record['gemm_gflops']['float32']} GFLOP/s in "
        "fp32 "
        f"and {record['gemm_gflops']['bfloat16']} in bf16."
    )
    return "\n".join(lines)


def training_speed() -> str:
    """Sentences a second of `fit` beside Trainer, memory, and scores where they are recorded."""
    records = read_records("benchmarks")
    record = records["train"]
    scored = records.get("train_scores", {"config": {"dtype": None}, "summary": {}})
    lines = [
        "| training all-MiniLM-L6-v2 | sentences/s | to Trainer | to its length-grouped setting "
        "| padding | of the limit | peak MB | genre macro-F1 | sentiment macro-F1 |",
        f"|---|{'---:|' * 8}",
    ]
    for precision, short in (("float32", "fp32"), ("bfloat16", "bf16")):
        for name, row in record["rows"].get(precision, {}).items():
            ratios = " | ".join(f"{np.median(row['ratios'][other]):.2f}"
                                for other in ("Trainer", "Trainer, length-grouped"))
            scores = scored["summary"].get(name) if precision == scored["config"]["dtype"] else None
            cells = [f"{found['mean']:.3f} ± {2 * found['standard_error']:.3f}"
                     for found in scores.values()] if scores else ["", ""]
            lines.append(
                f"| {name}, {short} | {row['sentences_per_second']:.0f} | {ratios} "
                f"| {row['padding_share']:.1%} "
                f"| {row['sentences_per_second'] / row['limit']:.0%} "
                f"| {row['peak_bytes'] / 1e6:.0f} | {' | '.join(cells)} |"
            )
    config, place = record["config"], record["environment"]
    costs = {precision: ", ".join(f"`{name.removeprefix('aten::')}` {share:.0%}"
                                  for name, share in list(found.items())[:5])
             for precision, found in record["costs"].items()}
    lines.append(
        f"\n{config['steps'] * config['batch_size']:,} sentences an epoch, batches of "
        f"{config['batch_size']}, medians of {config['rounds']} interleaved rounds, "
        f"{place['threads']} threads of an {place['processor']} processor. The limit is a plain "
        f"matrix product's rate there ("
        + ", ".join(f"{rate} GFLOP/s in {name}" for name, rate in record["gemm_gflops"].items())
        + ") over what the linear layers compute for tokens that are not padding. The operations "
        "that take most of our time at the equal setting: "
        + "; ".join(f"{found} in {name}" for name, found in costs.items()) + "."
    )
    settings = scored["config"]
    ours = [name for name in scored["summary"] if name.startswith("ours")]
    lines[-1] += (
        " Ratios are medians of those of each round. Scores: after one epoch over "
        f"{settings['sentences']:,} sentences, means of {settings['seeds']} seeds ± two standard "
        "errors." if ours else "")
    for task in LABELS if ours else ():
        found = [scored["summary"][name][task] for name in ours]
        lines[-1] += (
            " Over length-grouped Trainer, our rows have "
            + ", ".join(f"{one['difference']:+.4f}" for one in found) + f" in {task} macro-F1, "
            + ", ".join(f"{one['difference'] / one['error_of_difference']:.1f}" for one in found)
            + " standard errors.")
    return "\n".join(lines)


BASELINES = {  # record in results/baselines: its name in the tables
    "majority": "always the commonest class",
    "vader": "VADER (word list and rules)",
    "tfidf": "TF-IDF, logistic regression",
    "embeddings": "frozen encoder, logistic regression",
}
ARM_NAMES = {
    "genre": "genre alone", "sentiment": "sentiment alone", "joint": "both, joint",
    "joint-single-rate": "both, joint, at 1e-4",
    "alternating": "both, alternating", "proportional": "both, proportional",
    "genre-equal-labels": "genre alone, half the passes",
    "sentiment-equal-labels": "sentiment alone, half the passes",
    "alternating-equal-labels": "both, alternating, twice the passes",
}


def baseline_cell(task: str, found: dict[str, Any], metric: str) -> str:
    """A score without seeds, and half of its interval over the test sentences."""
    test = splits()[2]
    predicted = [int(digit) for digit in found["predicted"]]
    interval = bootstrap_interval(test.labels[task], predicted, metric, test.groups)
    return f"{interval.value:.3f} ± {(interval.high - interval.low) / 2:.3f}"


def arms() -> str:
    """Every arm of the first study: what it saw and how it scored, with floors and ceiling."""
    lines = ["| arm | encoder passes | genre labels | sentiment labels | genre accuracy "
             "| genre macro-F1 | sentiment accuracy | sentiment macro-F1 | seeds |",
             "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    baselines = read_records("baselines")
    for name, title in BASELINES.items():
        test = baselines[name]["test"]
        cells = [baseline_cell(task, test[task], metric) if task in test else ""
                 for task in LABELS for metric in ("accuracy", "macro_f1")]
        lines.append(f"| {title} | | | | {' | '.join(cells)} | |")
    for name, title in ARM_NAMES.items():
        found = runs("arms", name)
        if found:
            seen = [f"{found[0]['labels'].get(task, 0):,}" for task in LABELS]
            cells = [str(score("arms", name, task, metric)) if task in found[0]["test"] else ""
                     for task in LABELS for metric in ("accuracy", "macro_f1")]
            lines.append(f"| {title} | {found[0]['passes']:,} | {' | '.join(seen)} "
                         f"| {' | '.join(cells)} | {len(found)} |")
    human = baselines["human"]["test"]["sentiment"]
    lines.append(f"| one human rater against the others | | | | | | {human['accuracy']:.3f} "
                 f"| {human['macro_f1']:.3f} | |")
    return "\n".join(lines)


def gains(study: str = "arms") -> str:
    """How much each multi-task arm of a study scores above the single-task models.

    The last row is over those with half the passes, where the study has them.
    """
    lines = ["| arm | genre macro-F1, gain | sentiment macro-F1, gain | seeds |",
             "|---|---:|---:|---:|"]
    rows = {ARM_NAMES[name]: (name, "") for name in (
        "joint", "joint-single-rate", "alternating", "proportional", "alternating-equal-labels")}
    rows["both, alternating, over half the passes alone"] = "alternating", "-equal-labels"
    for title, (name, alone) in rows.items():
        if {name, f"genre{alone}"} <= set(arm_names(study)) and runs(study, name):
            found = [gain(task, (study, task + alone), (study, name)) for task in LABELS]
            cells = " | ".join(f"{one:+}" for one in found)
            lines.append(f"| {title} | {cells} | {found[0].seeds} |")
    return "\n".join(lines)


def headline() -> str:
    """Scores with the whole training split, three epochs."""
    lines = ["| arm | encoder passes | genre accuracy | genre macro-F1 | sentiment accuracy "
             "| sentiment macro-F1 | seeds |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name in ("genre", "sentiment", "joint", "alternating"):
        found = runs("headline", name)
        if found:
            cells = [str(score("headline", name, task, metric)) if task in found[0]["test"] else ""
                     for task in LABELS for metric in ("accuracy", "macro_f1")]
            lines.append(f"| {ARM_NAMES[name]} | {found[0]['passes']:,} | {' | '.join(cells)} "
                         f"| {len(found)} |")
    return "\n".join(lines)


def weighting() -> str:
    """Ways to combine the losses or gradients of a joint step, beside their plain sum."""
    names = {"sentiment-x3": "sentiment weighs 3 times genre",
             "sentiment-x9": "sentiment weighs 9 times genre",
             "genre-x3": "genre weighs 3 times sentiment", "log_k": "each over log K",
             "uncertainty": "learned uncertainty", "PCGrad": "PCGrad", "UPGrad": "UPGrad"}
    steps = read_records("benchmarks").get("methods", {"rows": {}})["rows"]
    lines = ["| method | genre macro-F1 | gain over the sum | sentiment macro-F1 "
             "| gain over the sum |" + " time of a step, to the sum's |" * bool(steps) + " seeds |",
             f"|---|{'---:|' * (6 if steps else 5)}"]
    base = [str(score("arms", "joint", task)) for task in LABELS]
    lines.append(f"| plain sum | {base[0]} | | {base[1]} | |" + " 1 |" * bool(steps)
                 + f" {len(runs('arms', 'joint'))} |")
    for name, title in names.items():
        found = runs("weighting", name)
        if found:
            cells = []
            for task in LABELS:
                more = gain(task, ("arms", "joint"), ("weighting", name))
                cells += [f"{score('weighting', name, task)}",
                          f"{more:+}"]
            time = f" {steps[name]['ratio']:.2f} |" if name in steps else " |" * bool(steps)
            lines.append(f"| {title} | {' | '.join(cells)} |{time} {len(found)} |")
    return "\n".join(lines)


def scarce() -> str:
    """Few sentiment labels: alone, and beside 4,000 genre labels."""
    lines = ["| sentiment labels | alone, macro-F1 | beside 4,000 genre labels | gain | seeds |",
             f"|---:|{'---:|' * 4}"]
    for labels in (50, 200):
        alone, beside = scarce_arms(labels)
        more = gain("sentiment", alone, beside, by_seed=True)
        lines.append(f"| {labels:,} | {score(*alone, 'sentiment')} | {score(*beside, 'sentiment')} "
                     f"| {more:+} | {more.seeds} |")
    return "\n".join(lines)


def scarce_arms(labels: int) -> list[tuple[str, str]]:
    """The arms with so many sentiment labels: alone, and beside genre."""
    return [("scarce", f"{name}-{labels}") for name in ("sentiment", "genre-sentiment")]


# Hutto and Gilbert (ICWSM 2014), Table 4: correlation with the mean of 20 raters, whole corpora.
PAPER_R = {"an individual human": {"tweet": 0.888, "movie review": 0.899, "product review": 0.911,
                                   "news editorial": 0.745},
           "VADER": {"tweet": 0.881, "movie review": 0.451, "product review": 0.565,
                     "news editorial": 0.492}}


def valence_r(name: str) -> np.ndarray:
    """Pearson's r of the predicted valence on the test sentences of each genre, (S, 4)."""
    test = splits()[2]
    rows = [test.labels["genre"] == i for i in range(len(GENRES))]
    predicted = [np.array(run["test"]["valence"]["predicted"]) for run in runs("valence", name)]
    return np.array([[score_regression(test.labels["valence"][row], values[row]).pearson
                      for row in rows] for values in predicted])


def valence() -> str:
    """Pearson's r of the predicted valence by genre, beside the corpus's paper."""
    lines = [f"| | {' | '.join(GENRES)} |", f"|---|{'---:|' * len(GENRES)}"]
    for name, row in PAPER_R.items():
        lines.append(f"| {name} (paper, Table 4) | "
                     f"{' | '.join(f'{row[genre]:.3f}' for genre in GENRES)} |")
    for name, title in (("valence", "valence alone"), ("three-tasks", "with genre and sentiment")):
        values = valence_r(name)
        if len(values):
            cells = " | ".join(f"{column.mean():.3f} ± {seed_margin(column):.3f}"
                               for column in values.T)
            lines.append(f"| {title}, {len(values)} seeds | {cells} |")
    return "\n".join(lines)


def kills() -> str:
    """What became of the runs that were killed at random."""
    record = read_records("benchmarks")["kills"]
    assert record["runs"] == record["same_weights"]
    return (f"Of {record['kills']} kills at random moments, {record['inside_a_save']} of them "
            f"inside a save, each cost at most {record['steps_lost']} step, and all "
            f"{record['runs']} runs ended with the weights of the run that was not killed, to the "
            "last bit (`python -m benchmarks.kills`, a small model with a checkpoint each step).")


def draw_cosines() -> None:
    records = read_records("encoders")
    cosines = {name: records[name]["cosine"] for name in MODELS if name in records}
    title = "A negation is about as close as a paraphrase, or closer"
    figure = plot_pairs(cosines, title)
    path = RESULTS / "figures" / "cosines.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(figure._repr_png_())


if __name__ == "__main__":
    draw_cosines()
