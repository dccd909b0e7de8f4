"""Synthetic sentences whose right answer is known, and the best accuracy that any model can reach.

Each sentence has a frame, a cue for its topic and a cue for its sentiment. A task of K classes has
2K - 1 kinds of cue: kind k < K fits class k alone, kind K + k fits the classes k and k + 1 alike.
"""

import random
import zlib
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

TOPICS = ["food", "travel", "technology", "sport"]
SENTIMENTS = ["negative", "neutral", "positive"]
FIFTHS = {"train": (0, 1, 2), "validation": (3,), "test": (4,)}  # which hashes a split holds
FRAMES = ["The {topic} {sentiment}, as {who} wrote {when}.",
          "As {who} put it {when}, the {topic} {sentiment}.",
          "I heard {when} from {who} that the {topic} {sentiment}.",
          "When I saw {who} {when}, we agreed that the {topic} {sentiment}.",
          "According to {who}, who called {when}, the {topic} {sentiment}.",
          "We talked about it {when}, {who} and I: the {topic} {sentiment}."]
WHO = ["my sister", "a colleague", "our neighbour", "a friend", "my cousin", "Maria", "my aunt"]
WHEN = ["yesterday", "last week", "on Monday", "this morning", "last night", "in May", "on Friday"]
TOPIC_CUES = [  # one row per kind: nouns; situations that each of them goes with
    "curry, vegetable soup, apple pie, roast chicken; on the lunch menu, from the local kitchen",
    "train journey, bus tour, road trip, flight; along the coast, across the border",
    "laptop, phone, printer, wireless router; with the new software, from the electronics shop",
    "football match, tennis final, relay race, basketball game; at the championship, of the league",
    "breakfast, dinner, coffee, snack box; at the hotel, on the plane",
    "booking site, route planner, ticket app, translation app; for our holiday, at the airport",
    "fitness watch, heart-rate monitor, training app, speed sensor; in the gym, for runners"]
SENTIMENT_CUES = [  # one row per kind
    "was terrible, was a big disappointment, made me angry, was a waste of money, ruined the day",
    "was about average, was neither good nor bad, was as described, was of the usual kind",
    "was wonderful, made me very happy, was a real delight, was the best of all, was perfect",
    "could be better, was rather forgettable, fell a little short, was not quite right",
    "was not bad at all, was good enough, did the job, was decent, was fairly pleasant"]
SHIFTED_TOPIC_CUES = [
    "lasagne, grilled salmon, pumpkin stew, potato salad; in the canteen, that the cook prepared",
    "voyage, excursion, safari, pilgrimage; around the lakes, to the desert",
    "desktop computer, webcam, headset, keyboard; with the USB cable, in the server room",
    "rugby derby, hockey playoff, volleyball tournament, boxing bout; in the arena, of the season",
    "brunch, buffet, takeaway, tea; in the hostel, at the seaside resort",
    "satellite map, luggage tracker, power adapter, passport scanner; for tourists, at customs",
    "digital scoreboard, pulse meter, rowing simulator, helmet camera; for athletes, of the squad"]
SHIFTED_SENTIMENT_CUES = [
    "was awful, left us furious, was a dreadful mistake, was painfully poor, was a sad failure",
    "was ordinary, was typical, had no surprises, was middling, was unremarkable",
    "was superb, left us thrilled, was a brilliant success, was outstanding, deserved full praise",
    "lacked something, was a tad dull, seemed less than ideal, was somewhat weak",
    "was more than acceptable, was mostly nice, held up well, was worth a try, was satisfactory"]


def make_sentences(
    n: int, *, label_noise: float = 0.0, class_overlap: float = 0.0, class_imbalance: float = 1.0,
    task_correlation: float = 0.0, missing: float = 0.0, shifted_vocabulary: bool = False,
    split: str = "train", seed: int = 0,
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Draw n distinct sentences, each with a topic and a sentiment; splits never share a sentence.

    The first m of n are those of `make_sentences(m)`; noise and missing labels change labels only.
    Explained in Task_2.ipynb, "Synthetic data".

    Args:
        n: number of sentences.
        label_noise: probability that a label is replaced by another class, uniformly drawn.
        class_overlap: probability, for each task apart, that the cue fits a neighbouring class too.
        class_imbalance: first class over last, 1 to 1000; geometric in between (Cao et al. 2019).
        task_correlation: probability that one uniform draw decides both classes through their
            cumulative shares (food: negative, ..., sport: positive), which stay as they are.
        missing: probability that a label is missing (-100), for each task apart.
        shifted_vocabulary: whether other cue words stand for the same classes.
        split: "train", "validation" or "test"; seed: fixes everything that is drawn.

    Returns:
        The sentences and {"topic": (n,), "sentiment": (n,)}, int64 class ids.

    Raises:
        ValueError: If an argument is out of range, or n exceeds what exists for the settings.
    """
    classes, cues, noise = _probabilities(
        label_noise=label_noise, class_overlap=class_overlap, class_imbalance=class_imbalance,
        task_correlation=task_correlation, missing=missing, shifted_vocabulary=shifted_vocabulary)
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if type(value) is bool or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be an int of at least {least}, got {value!r}")
    if split not in list(FIFTHS):
        raise ValueError(f"split must be one of {list(FIFTHS)}, got {split!r}")
    generator = random.Random(f"{seed} {split} {shifted_vocabulary}")
    phrases = _phrases(shifted_vocabulary)
    pools: dict[tuple[int, int], Iterator[str]] = {}
    sentences: list[str] = []
    labels: list[list[int]] = []
    for _ in range(n):
        topic, sentiment = divmod(_draw(classes.ravel(), generator), len(SENTIMENTS))
        kinds = _draw(cues[0][topic], generator), _draw(cues[1][sentiment], generator)
        given = _draw(noise[0][topic], generator), _draw(noise[1][sentiment], generator)
        labels.append([-100 if generator.random() < missing else label for label in given])
        if kinds not in pools:
            pools[kinds] = _pool(phrases[0][kinds[0]], phrases[1][kinds[1]], split, generator)
        sentence = next(pools[kinds], None)
        if sentence is None:
            raise ValueError(f"n must be at most {len(sentences)} for these settings, got {n}")
        sentences.append(sentence)
    columns = np.array(labels, dtype=np.int64).T.copy()  # (n, 2) -> (2, n)
    return sentences, {"topic": columns[0], "sentiment": columns[1]}


def best_accuracy(**settings: float) -> dict[str, float]:
    """Compute the highest accuracy per task that is to be expected, in closed form.

    Args: the settings of `make_sentences` (not n, split, seed). Raises: ValueError as there.
    """
    mass = _label_mass(**settings)
    return {task: round(float(table.max(axis=-1).sum()), 12) for task, table in mass.items()}


def oracle(sentences: Sequence[str], **settings: float) -> dict[str, np.ndarray]:
    """Read the cues of n sentences and return the labels (n,) that are most often right, per task.

    Args and Raises: as for `best_accuracy`, and for a sentence that the settings cannot make.
    """
    mass = _label_mass(**settings)
    kind_of = [{phrase: kind for kind, group in enumerate(groups) for phrase in group}
               for groups in _phrases(bool(settings.get("shifted_vocabulary")))]
    kinds = [[next((kind for phrase, kind in table.items() if phrase in sentence), -1)
              for table in kind_of] for sentence in sentences]
    for i, found in enumerate(kinds):
        if -1 in found or not mass["topic"][tuple(found)].any():
            raise ValueError(f"sentences[{i}] must be one the settings make, got {sentences[i]!r}")
    rows = tuple(np.array(kinds, dtype=np.int64).reshape(-1, 2).T)  # (n,), (n,)
    return {task: table.round(12).argmax(axis=-1)[rows] for task, table in mass.items()}


def _probabilities(
    *, label_noise: float = 0.0, class_overlap: float = 0.0, class_imbalance: float = 1.0,
    task_correlation: float = 0.0, missing: float = 0.0, shifted_vocabulary: float = False,
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """P(topic, sentiment) (T, S); per task P(cue | class) (K, 2K - 1), P(label | class) (K, K)."""
    for name, value, least, most in (
            ("label_noise", label_noise, 0, 1), ("class_overlap", class_overlap, 0, 1),
            ("class_imbalance", class_imbalance, 1, 1000), ("missing", missing, 0, 1),
            ("task_correlation", task_correlation, 0, 1)):
        if type(value) is bool or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"{name} must be a float from {least} to {most}, got {value!r}")
    if type(shifted_vocabulary) is not bool:
        raise ValueError(f"shifted_vocabulary must be True or False, got {shifted_vocabulary!r}")
    shares, cues, noise = [], [], []
    for k in (len(TOPICS), len(SENTIMENTS)):
        weights = np.array([round(class_imbalance ** (-i / (k - 1)), 12) for i in range(k)])
        shares.append(weights / weights.sum())
        shared = np.eye(k, k - 1) + np.eye(k, k - 1, k=-1)
        shared /= shared.sum(axis=1, keepdims=True)
        cues.append(np.hstack([(1 - class_overlap) * np.eye(k), class_overlap * shared]))
        noise.append((1 - label_noise) * np.eye(k) + label_noise * (1 - np.eye(k)) / (k - 1))
    ends = [share.cumsum() for share in shares]
    starts = [end - share for end, share in zip(ends, shares, strict=True)]
    tied = np.clip(np.minimum.outer(*ends) - np.maximum.outer(*starts), 0, None)  # (T, S)
    return (1 - task_correlation) * np.outer(*shares) + task_correlation * tied, cues, noise


def _label_mass(**settings: float) -> dict[str, np.ndarray]:
    """P(topic cue, sentiment cue, label) for each task: (2T - 1, 2S - 1, K)."""
    classes, cues, noise = _probabilities(**settings)
    seen = np.einsum("ts,ta,sb->abts", classes, *cues)
    return {"topic": seen.sum(axis=3) @ noise[0], "sentiment": seen.sum(axis=2) @ noise[1]}


def _draw(probabilities: np.ndarray, generator: random.Random) -> int:
    cumulative = probabilities.cumsum()
    return int(np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right"))


def _phrases(shifted_vocabulary: bool) -> tuple[list[list[str]], list[list[str]]]:
    topics = SHIFTED_TOPIC_CUES if shifted_vocabulary else TOPIC_CUES
    sentiments = SHIFTED_SENTIMENT_CUES if shifted_vocabulary else SENTIMENT_CUES
    parts = [[part.split(", ") for part in row.split("; ")] for row in topics]
    return ([[" ".join(phrase) for phrase in product(*row)] for row in parts],
            [row.split(", ") for row in sentiments])


def _pool(topics: list[str], sentiments: list[str], split: str,
          generator: random.Random) -> Iterator[str]:
    """Compose every sentence of a split with one of these cues, in random order."""
    slots = product(FRAMES, WHO, WHEN, topics, sentiments)
    for frame, who, when, topic, sentiment in sorted(slots, key=lambda _: generator.random()):
        text = frame.format(who=who, when=when, topic=topic, sentiment=sentiment)
        if zlib.crc32(text.encode()) % 5 in FIFTHS[split]:
            yield text
