"""What README says in numbers, made from the records in results/: its findings and its tables.

They stand on the page between comment markers, where cog calls these functions.
"""

from __future__ import annotations

import ast
import re

import numpy as np

from experiments import similarity_table
from experiments.analysis import gain, score
from experiments.page import table
from experiments.records import RESULTS, read_records
from experiments.task_3 import DEPTHS, FULL, SINGLE, drift_of, label_gain
from experiments.task_4 import scarce_arms
from experiments.train import LABELS

MODEL = "all-MiniLM-L6-v2"


def negations() -> tuple[int, np.ndarray, np.ndarray]:
    """How many negations are closer than the paraphrase, and the cosines of both, (16,) each."""
    cosine = read_records("encoders")[MODEL]["cosine"]
    negated, paraphrase = np.array(cosine["negated"]), np.array(cosine["paraphrase"])
    return int((negated > paraphrase).sum()), negated, paraphrase


def probe(name: str, task: str, metric: str) -> float:
    """A score, in points, of a linear model on the vectors of an encoder."""
    return 100 * read_records("encoders")[name]["probe"][task][metric]


def times_as_long(load: str = "200 sentences") -> float:
    """How many times as long two models take as one with two heads."""
    return float(np.median(read_records("benchmarks")["sharing"]["ratios"][load]))


def findings() -> str:
    """What the series found, a line each."""
    human = 100 * read_records("baselines")["human"]["test"]["sentiment"]["accuracy"]
    frozen = {task: 100 * read_records("baselines")["embeddings"]["test"][task]["macro_f1"]
              for task in LABELS}
    tuned = {task: 100 * score("arms", task, task).value for task in LABELS}
    nearer, negated, _ = negations()
    return "\n".join([
        "- **The vectors know the source better than the meaning.** A linear model on them gets "
        f"{probe(MODEL, 'genre', 'accuracy'):.0f} % of genres and "
        f"{probe(MODEL, 'sentiment', 'accuracy'):.0f} % of sentiments right; one human rater "
        f"gets {human:.0f} % of sentiments right. Of {len(negated)} sentences written for "
        f"this, {nearer} are nearer to their negation than to a paraphrase.",
        "- **Training the encoder helps**: against a linear model on the old vectors, genre rises "
        f"from {frozen['genre']:.1f} to {tuned['genre']:.1f}, sentiment from "
        f"{frozen['sentiment']:.1f} to {tuned['sentiment']:.1f}.",
        f"- **A second task shows no gain**: {both(SINGLE)} (genre and sentiment), with the "
        f"same learning rate ({both(FULL)} with the one that validation chose for both). But one "
        f"model gives both answers, and two take {times_as_long():.1f} times as long.",
        "- **The lower three of six layers can be frozen** at a learning rate of 3e-4, with no "
        f"measurable difference ({lost('3')}). Freezing the whole encoder costs both tasks "
        f"({lost('all 6')}).",
        "- **Freezing a head does not protect its task.** While sentiment trained on, the frozen "
        f"genre head changed by {drift_of('none', 'genre', 'genre'):+}, because the encoder moved "
        "under it. One batch in ten with old sentences prevents that "
        f"({drift_of('replay', 'genre', 'genre'):+}).",
        search()])


def search() -> str:
    """What sorting does to search, and what one task more keeps."""
    arms = similarity_table.BEFORE, similarity_table.SORTING, similarity_table.KEEPING
    found = [similarity_table.values(arm) for arm in arms]
    _, sorting, keeping = found
    start, lost, kept = (similarity_table.cell(values["STS-B"], 1) for values in found)
    near = [np.mean(values["neighbours kept"]) / 10 for values in (sorting, keeping)]
    changes = []  # of the means as Task 4 shows them
    for task in LABELS:
        change = round(np.mean(keeping[task]), 1) - round(np.mean(sorting[task]), 1)
        changes.append(f"{change:+.1f}".replace("-", "\N{MINUS SIGN}"))
    return (
        "- **Training to classify harms search; one more task restores most of it.** Agreement "
        "with people on similar sentences (STS-B, Spearman's correlation in points) "
        f"falls from {start} to {lost}. With "
        '`labels["similarity"] = encoder.encode(sentences)` before training, and the head '
        f'`"similarity": SimilarityHead(384)`, it is {kept}, and of ten nearest neighbours '
        f"{near[1]:.0f} stay instead of {near[0]:.0f}; genre changes by {changes[0]} and "
        f"sentiment by {changes[1]} ({len(keeping['genre'])} seeds; Task 4, 4.14).")


def example() -> str:
    """The program that trains on two CSV files, without its first lines."""
    program = (RESULTS.parent / "examples" / "own_data.py").read_text(encoding="utf-8")
    return program[program.index("import csv"):]


def both(arm: tuple[str, str]) -> str:
    """What an arm with both tasks gains over the tasks alone: genre and sentiment."""
    genre, sentiment = (gain(task, ("arms", task), arm) for task in LABELS)
    return f"{genre:+} and {sentiment:+}"


def lost(depth: str) -> str:
    """What freezing so many layers changes: genre and sentiment."""
    genre, sentiment = (gain(task, SINGLE, DEPTHS[depth]) for task in LABELS)
    return f"{genre:+} and {sentiment:+}"


ANSWERS = {
    "Task_1.ipynb": ("How does a sentence become a vector, and what does the vector know?",
                     "Average the token vectors without the padding; it knows topic and style "
                     "better than negation."),
    "Task_2.ipynb": ("How does one encoder serve several tasks?",
                     "A linear head each; each loss counts the labels that there are; the losses "
                     "are added."),
    "Task_3.md": ("What should be frozen, and what does it cost?",
                  "The lower half, to save time. A frozen encoder costs both tasks; a frozen head "
                  "forgets."),
    "Task_4.ipynb": ("How is it trained, and does a second task help?",
                     "An ordinary loop with three changes; no gain, but one model replaces two."),
}


def documents() -> str:
    """The documents: what they ask, a one-line answer, and how long they take."""
    found = read_records("benchmarks")
    record, without = found["documents"], found["documents-avx2"]["documents"]
    rows = []
    for name, seconds in record["documents"].items():
        question, answer = ANSWERS[name]
        times = f"{seconds / 60:.1f}", f"{without[name] / 60:.1f}"
        rows.append((f"{where(name)}: {question}", answer, *times))
    place = record["environment"]
    return table(("document", "answer", "minutes", "without AVX-512"), rows, text=2) + (
        f"\n\nMinutes on {place['threads']} idle cores of an {place['processor']} processor, then "
        "with AVX-512 and bfloat16 switched off. Setting up takes "
        f"{record['set_up'] / 60:.1f} more, once pip has the packages.")


# The exercise: a question, where it is answered, and the answer.

TASK_1, TASK_2, TASK_3, TASK_4 = ANSWERS


def where(page: str, *sections: str) -> str:
    """A link to a page, and the numbers of its sections."""
    name = page.split(".")[0].replace("_", " ")
    return ", ".join([f"[{name}]({page})", *sections])


def exercise() -> str:
    """The questions of the exercise in all its variants, each with its answer."""
    speeds = read_records("benchmarks")["models"]["rows"]
    few, fewer = (gain("sentiment", *scarce_arms(labels), by_seed=True) for labels in (200, 50))
    steep = gain("sentiment", SINGLE, ("freezing", "decay-2.6"))
    first = [label_gain(50, "lp-ft", task) for task in LABELS]
    large = "all-mpnet-base-v2"
    rows = [
        ("Encode sentences as fixed-length vectors, and show them",
         "Tokens, transformer, mean without the padding, length 1: vectors equal to the "
         "library's.", where(TASK_1, "1.1", "1.2", "1.3")),
        ("Which choices are made outside the transformer?",
         "Pooling, length and a random projection cost most; scaling and PCA hardly.",
         where(TASK_1, "1.10")),
        ("How do models compare?",
         f"{MODEL}: sentiment {probe(MODEL, 'sentiment', 'macro_f1'):.1f} at {speeds[MODEL]:.0f} "
         f"sentences a second. {large}: {probe(large, 'sentiment', 'macro_f1'):.1f} at "
         f"{speeds[large]:.0f}.",
         where(TASK_1, "1.11", "1.12")),
        ("Extend it to several tasks",
         "A linear head for each task on the shared vector. Nothing else changes.",
         where(TASK_2, "2.1", "2.2", "2.3")),
        ("A label for each word, such as named entities?",
         "A linear layer on the token vectors, before they are averaged.",
         where(TASK_2, "2.11")),
        ("One model or two?",
         "One, where each sentence needs both answers: half the weights and time, and at "
         "the same learning rate no measurable difference in scores.",
         where(TASK_2, "2.10") + "; " + where(TASK_4, "4.7")),
        ("Everything frozen?", "Nothing learns.", where(TASK_3, "3.2")),
        ("The encoder frozen?",
         f"It costs both tasks ({lost('all 6')}). Train the heads on vectors that are computed "
         "once.", where(TASK_3, "3.2", "3.4")),
        ("One head frozen?",
         "The head keeps its weights, not its task. Mix in old sentences, or keep its old answers "
         "or vectors.", where(TASK_3, "3.3")),
        ("Which layers to train, which to freeze, and why?",
         "Freeze nothing, or the lower half to save time; the encoder if another task must not "
         "change.", where(TASK_3, "3.5", "3.10")),
        ("A learning rate for each layer? Do several tasks matter?",
         f"No gain: times 0.8 a layer changes nothing measurable, also for a task alone; divided "
         f"by 2.6 it costs sentiment {steep:+}.", where(TASK_3, "3.6")),
        ("A case of transfer learning",
         "Take a model trained on sentences. With 50 labels, train the heads first and then "
         f"everything: {first[0]:+} and {first[1]:+} over a frozen encoder (tuned on "
         "validation).",
         where(TASK_3, "3.8", "3.9", "3.10")),
        ("The training loop: assumptions, data, forward pass, metrics",
         "Alternating or joint batches; precision, recall, F1 and confusion for each task.",
         where(TASK_4, "4.1", "4.2", "4.3", "4.4", "4.5")),
        ("Much data for A, little for B?",
         f"Beside 4,000 labels of genre, 200 of sentiment gain nothing measurable ({few:+}); 50 "
         f"are too few to tell ({fewer:+}).", where(TASK_4, "4.10")),
        ("How to weight the losses?",
         "Add them. No weights and no gradient method gained (tried at 3e-4).",
         where(TASK_4, "4.9")),
        ("Decisions and insights", "What was decided, and why.",
         where(TASK_3, "3.11") + "; " + where(TASK_4, "4.17")),
        ("An environment that others can replicate",
         "[requirements.txt](requirements.txt), [constraints.txt](constraints.txt), "
         "[Dockerfile](Dockerfile)", "below"),
    ]
    return table(("question", "answer", "section"), rows, text=3)


# Files to copy

USES = {  # file of mtl_helpers: what to copy it for
    "encoder.py": "turn sentences into vectors, without their padding",
    "heads.py": "give an encoder several tasks, and skip missing labels in their losses",
    "data.py": "split by document and duplicate, and refuse a leak",
    "batching.py": "choose which task and which sentences come next",
    "freezing.py": "freeze parts for real, and compute their vectors once",
    "checkpoint.py": "save checkpoints that a kill cannot break",
    "evaluation.py": "score with bootstrap intervals",
    "synthetic.py": "make sentences whose right answer is known",
}


def siblings(name: str) -> str:
    """The files that a file of the package needs beside it, as its first lines say."""
    source = (RESULTS.parent / "mtl_helpers" / name).read_text(encoding="utf-8")
    told = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    found = re.search(r"Goes with ((?:\w+\.py(?:, | and )?)+)", told)
    return found[1] if found else ""


def speed() -> str:
    """How fast `encode` and `fit` are, beside what people use."""
    records = read_records("benchmarks")
    encode = records["encode"]["rows"]["ours fp32"]["speed_ratio"]
    training = records["train"]["rows"]["float32"]["ours, equal setting"]["ratios"]
    usual, grouped = (np.median(training[name]) for name in ("Trainer", "Trainer, length-grouped"))
    return (f"In fp32 (32-bit numbers), `encode` is {encode:.1f} times as fast as the "
            f"sentence-transformers library at its best batch size, and `fit` {grouped:.1f} times "
            "as fast as Hugging Face's Trainer where that groups sentences by length, "
            f"{usual:.1f} times where it does not ([benchmarks](benchmarks/README.md)).")


def helpers() -> str:
    """What each file is copied for, and what goes with it."""
    rows = []
    for name, use in USES.items():
        needed = siblings(name)
        rows.append((use, f"[{name}](mtl_helpers/{name})", needed or "nothing"))
    return table(("I want to ...", "file", "goes with"), rows, text=3)
