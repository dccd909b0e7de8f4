"""Synthetic sentences whose right answer is known, and the best accuracy a model can reach.

Each sentence has a frame, a cue for its topic and a cue for its sentiment. A task of K classes
has 2K - 1 kinds of cue: kind k < K fits class k alone, kind K + k fits k and k + 1 alike.
"""

import random
import zlib
from bisect import bisect
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate, product

import numpy as np

TOPICS = ["food", "travel", "technology", "sport"]
SENTIMENTS = ["negative", "neutral", "positive"]
CLASSES = {"topic": TOPICS, "sentiment": SENTIMENTS}
FIFTHS = {"train": (0, 1, 2), "validation": (3,), "test": (4,)}  # which hashes a split holds
FRAMES = ["The {topic} {sentiment}, as {who} wrote {when}.",
          "As {who} put it {when}, the {topic} {sentiment}.",
          "I heard {when} from {who} that the {topic} {sentiment}.",
          "When I saw {who} {when}, we agreed that the {topic} {sentiment}.",
          "According to {who}, who called {when}, the {topic} {sentiment}.",
          "We talked about it {when}, {who} and I: the {topic} {sentiment}."]
WHO = ["my sister", "a colleague", "our neighbour", "a friend", "my cousin", "Maria",
       "my aunt"]
WHEN = ["yesterday", "last week", "on Monday", "this morning", "last night", "in May",
        "on Friday"]
MENTIONS = [*WHO[:3], *WHEN[:3]]  # the task "mentions": which of these a sentence holds
# One row per kind of cue: nouns; situations that each of them goes with.
TOPIC_CUES = """\
curry, vegetable soup, apple pie, roast chicken; on the lunch menu, from the local kitchen
train journey, bus tour, road trip, flight; along the coast, across the border
laptop, phone, printer, wireless router; with the new software, from the electronics shop
football match, tennis final, relay race, basketball game; at the championship, of the league
breakfast, dinner, coffee, snack box; at the hotel, on the plane
booking site, route planner, ticket app, translation app; for our holiday, at the airport
fitness watch, heart-rate monitor, training app, speed sensor; in the gym, for runners"""
SENTIMENT_CUES = """\
was terrible, was a big disappointment, made me angry, was a waste of money, ruined the day
was about average, was neither good nor bad, was as described, was of the usual kind
was wonderful, made me very happy, was a real delight, was the best of all, was perfect
could be better, was rather forgettable, fell a little short, was not quite right
was not bad at all, was good enough, did the job, was decent, was fairly pleasant"""
CUES = {"topic": TOPIC_CUES.splitlines(), "sentiment": SENTIMENT_CUES.splitlines()}


def make_sentences(n: int, *, label_noise: float = 0.0, class_overlap: float = 0.0,
                   missing: float = 0.0, split: str = "train", seed: int = 0,
                   tasks: Sequence[str] = ("topic", "sentiment"),
                   ) -> tuple[list[str], dict[str, np.ndarray]]:
    """Draw n distinct sentences, each with a topic and a sentiment; no two splits share one.

    The first m of n are those of `make_sentences(m)`; noise and missing labels change labels
    only. Explained in Task_2.ipynb, section 2.4.

    >>> sentences, labels = make_sentences(100, label_noise=0.2, seed=0)
    >>> sentences[0]
    'The curry from the local kitchen ruined the day, as my sister wrote on Friday.'
    >>> TOPICS[labels["topic"][0]], SENTIMENTS[labels["sentiment"][0]]
    ('food', 'negative')

    Args:
        n: number of sentences.
        label_noise: probability that a label is replaced by another class, uniformly drawn.
        class_overlap: probability, for each task apart, that the cue fits a neighbour too.
        missing: probability that a label is missing (-100), for each task apart.
        split: "train", "validation" or "test"; seed: fixes everything that is drawn.
        tasks: of "topic", "sentiment" and "mentions", which is never noisy or missing.

    Returns:
        The sentences and {"topic": (n,), "sentiment": (n,)}, int64 class ids; "mentions" is
        (n, L) float32, 1 where a sentence holds that one of the phrases MENTIONS, else 0.

    Raises:
        ValueError: If an argument is out of range, or n exceeds what exists for the settings.
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if type(value) is bool or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be an int of at least {least}, got {value!r}")
    if split not in list(FIFTHS):
        raise ValueError(f"split must be one of {list(FIFTHS)}, got {split!r}")
    if isinstance(tasks, str) or not tasks or not {*tasks} <= {*CLASSES, "mentions"}:
        raise ValueError("tasks must be among topic, sentiment and mentions, "
                         f"got {tasks!r}")
    cues, noise = _probabilities(label_noise, class_overlap, missing)
    rng = random.Random(f"{seed} {split} False")  # this text decides every sample
    pools: dict[tuple[int, int], Iterator[str]] = {}
    sentences: list[str] = []
    labels: dict[str, list[int]] = {"topic": [], "sentiment": []}
    for _ in range(n):
        pair = _draw([1] * len(TOPICS) * len(SENTIMENTS), rng)
        topic, sentiment = divmod(pair, len(SENTIMENTS))
        kinds = _draw(cues["topic"][topic], rng), _draw(cues["sentiment"][sentiment], rng)
        drawn = _draw(noise["topic"][topic], rng), _draw(noise["sentiment"][sentiment], rng)
        for task, label in zip(labels, drawn, strict=True):
            labels[task].append(-100 if rng.random() < missing else label)
        if kinds not in pools:
            pools[kinds] = _pool(*kinds, split, rng)
        sentence = next(pools[kinds], None)
        if sentence is None:
            raise ValueError(f"n must be at most {len(sentences)} for these settings, got {n}")
        sentences.append(sentence)
    found = {task: np.array(ids, dtype=np.int64) for task, ids in labels.items()}
    if "mentions" in tasks:
        held = [[phrase in sentence for phrase in MENTIONS] for sentence in sentences]
        found["mentions"] = np.array(held, dtype=np.float32)
    return sentences, {task: found[task] for task in tasks}


def best_accuracy(**settings: float) -> dict[str, float]:
    """Compute the highest accuracy per task that is to be expected, in closed form.

    Args: label_noise, class_overlap, missing of `make_sentences`. Raises: ValueError as there.

    >>> best_accuracy(label_noise=0.2, class_overlap=0.3)
    {'topic': 0.7175, 'sentiment': 0.73}
    """
    best = {}
    for task, table in _label_tables(**settings).items():
        best[task] = round(float(table.max(axis=1).sum()), 12)
    return best


def oracle(sentences: Sequence[str], **settings: float) -> dict[str, np.ndarray]:
    """Read the cues of n sentences: the labels (n,) that are most often right, per task.

    Args and Raises: as for `best_accuracy`, and for a sentence that the settings cannot make.
    """
    labels = {}
    for task, table in _label_tables(**settings).items():
        kinds = [_kind_of_cue(task, sentence) for sentence in sentences]
        for i, kind in enumerate(kinds):
            if kind < 0 or not table[kind].any():
                raise ValueError(f"sentences[{i}] must be one the settings make, "
                                 f"got {sentences[i]!r}")
        likeliest = table.round(12).argmax(axis=1)  # (2K - 1, K) -> (2K - 1,)
        labels[task] = likeliest[np.array(kinds, dtype=np.int64)]  # (n,)
    return labels


def _probabilities(label_noise: float = 0.0, class_overlap: float = 0.0, missing: float = 0.0
                   ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """P(kind of cue | class), (K, 2K - 1), and P(label | class), (K, K), of each task."""
    shares = {"label_noise": label_noise, "class_overlap": class_overlap, "missing": missing}
    for name, value in shares.items():
        if type(value) is bool or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"{name} must be a float from 0 to 1, got {value!r}")
    cues, labels = {}, {}
    for task, names in CLASSES.items():
        size = len(names)
        own = np.eye(size)
        shared = np.eye(size, size - 1) + np.eye(size, size - 1, k=-1)  # with the neighbours
        shared /= shared.sum(axis=1, keepdims=True)
        cues[task] = np.hstack([(1 - class_overlap) * own, class_overlap * shared])
        labels[task] = (1 - label_noise) * own + label_noise * (1 - own) / (size - 1)
    return cues, labels


def _label_tables(**settings: float) -> dict[str, np.ndarray]:
    """P(kind of cue, label) of each task, (2K - 1, K)."""
    cues, labels = _probabilities(**settings)
    tables = {}
    for task, names in CLASSES.items():
        tables[task] = cues[task].T @ labels[task] / len(names)
    return tables


def _draw(weights: Sequence[float] | np.ndarray, rng: random.Random) -> int:
    """Draw an index; only `random()` promises to give the same in every version of Python."""
    ends = list(accumulate(weights))
    return bisect(ends, rng.random() * ends[-1])


def _pool(topic: int, sentiment: int, split: str, rng: random.Random) -> Iterator[str]:
    """Compose every sentence of a split with cues of these kinds, in random order."""
    topics, sentiments = _phrases(CUES["topic"][topic]), _phrases(CUES["sentiment"][sentiment])
    slots = product(FRAMES, WHO, WHEN, topics, sentiments)
    for frame, who, when, about, verdict in sorted(slots, key=lambda _: rng.random()):
        text = frame.format(who=who, when=when, topic=about, sentiment=verdict)
        if zlib.crc32(text.encode()) % 5 in FIFTHS[split]:
            yield text


def _kind_of_cue(task: str, sentence: str) -> int:
    """Find the cue of a task in a sentence: its kind, or -1 where there is none."""
    for kind, row in enumerate(CUES[task]):
        if any(phrase in sentence for phrase in _phrases(row)):
            return kind
    return -1


@cache
def _phrases(row: str) -> list[str]:
    """Spell out the cues of one kind."""
    parts = [part.split(", ") for part in row.split("; ")]
    return [" ".join(words) for words in product(*parts)]
