"""The real corpus (Hutto & Gilbert, 2014) and its raters. Goes with data.py and evaluation.py."""

import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .data import LabelledSentences
from .evaluation import TaskReport, score_classification

GENRES = ["movie review", "product review", "news editorial", "tweet"]
SENTIMENTS = ["negative", "neutral", "positive"]

ARCHIVE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
STEMS = ["movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets"]
FILES = [f"{stem}_{kind}.txt" for stem in STEMS for kind in ("GroundTruth", "anonDataRatings")]
FILES_SHA256 = "116c15bf87a7967a45584a614509d178aca2101a13e5bfc5f700cf98b6e69956"

logger = logging.getLogger(__name__)


class CorpusError(RuntimeError):
    """The corpus could not be fetched, or what was fetched is not the corpus."""


class HumanRow(NamedTuple):
    """How single raters agree with the mean of all; the scores are weighted averages."""
    correlation: float
    precision: float
    recall: float
    f1: float


def load_corpus(tasks: Sequence[str] = ("genre", "sentiment")) -> LabelledSentences:
    """Return all 23,703 sentences, movie reviews first, then products, editorials and tweets.

    The first call fetches the corpus with pip and caches it in the folder that the variable
    MTL_HELPERS_CACHE names, by default ~/.cache/mtl_helpers; later calls need no network.
    Product reviews and editorials have document ids as groups; every other sentence is its own.
    Hutto & Gilbert, ICWSM 2014. Explained in Task_1.ipynb, "The corpus".

    Args:
        tasks: any of "genre" (ids of GENRES), "sentiment" (ids of SENTIMENTS: mean rating below
            -0.5, between, above 0.5) and "valence" (mean rating from -4 to 4).

    Raises:
        ValueError: If a task is unknown.
        CorpusError: If the corpus is not cached and cannot be fetched.
    """
    known = ("genre", "sentiment", "valence")
    if not set(tasks) <= set(known):
        raise ValueError(f"tasks must be among {known}, got {tasks!r}")
    sentences, groups, genres, ratings = _read_corpus()
    valence = np.nanmean(ratings.astype(np.float64), axis=1)  # (N, R) -> (N,)
    labels = {"genre": np.array(genres), "sentiment": _classes(valence, band=0.5),
              "valence": valence}
    return LabelledSentences(sentences, {task: labels[task] for task in tasks}, groups)


def load_ratings() -> np.ndarray:
    """Return the single ratings of each sentence of `load_corpus`, (N, 99), padded with NaN."""
    return _read_corpus()[3]


def human_row(ratings: np.ndarray) -> HumanRow:
    """Score every rating against the mean of its sentence, as in Table 4 of Hutto & Gilbert (2014).

    The class is the sign, and all pairs of rating and mean count alike.

    Args:
        ratings: (N, R) from -4 to 4, padded with NaN, of one genre.

    Raises:
        ValueError: If a sentence has fewer than two ratings.
    """
    given, ratings = _checked(ratings)
    mean = np.nanmean(ratings, axis=1, keepdims=True)  # (N, R) -> (N, 1)
    pairs = ratings[given], np.broadcast_to(mean, ratings.shape)[given]  # (M,), (M,)
    report = score_classification(_classes(pairs[1], 0), _classes(pairs[0], 0), SENTIMENTS)
    return HumanRow(float(np.corrcoef(pairs)[0, 1]), report.weighted_precision,
                    report.weighted_recall, report.weighted_f1)


def leave_one_rater_out(ratings: np.ndarray, band: float = 0.5) -> TaskReport:
    """Score every rating against the mean of the other ratings of its sentence: a human ceiling.

    Args:
        ratings: (N, R) from -4 to 4, padded with NaN, of the sentences to score.
        band: values from -band to band are neutral; 0 makes the class the sign.

    Raises:
        ValueError: If a sentence has fewer than two ratings.
    """
    given, ratings = _checked(ratings)
    total, count = np.nansum(ratings, axis=1, keepdims=True), given.sum(axis=1, keepdims=True)
    others = (total - ratings) / (count - 1)  # (N, R)
    return score_classification(_classes(others[given], band), _classes(ratings[given], band),
                                SENTIMENTS)


def _checked(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ratings = np.asarray(ratings, dtype=np.float64)
    given = ~np.isnan(ratings)
    if ratings.ndim != 2 or given.sum(axis=1).min(initial=2) < 2:
        raise ValueError("ratings must be (N, R) with two or more ratings for each sentence, "
                         f"got shape {ratings.shape}")
    return given, ratings


def _classes(values: np.ndarray, band: float) -> np.ndarray:
    return 1 + (values > band).astype(np.int64) - (values < -band)


def _read_corpus() -> tuple[list[str], list[str], list[int], np.ndarray]:
    """Return sentences, document ids, genre ids and ratings (N, 99) of all four genres."""
    files = _data_files()
    sentences, groups, genres, ratings = [], [], [], []
    for genre, stem in enumerate(STEMS):
        rated = {row[0]: row[3] for row in _table(files[f"{stem}_anonDataRatings.txt"])}
        for name, _, sentence in _table(files[f"{stem}_GroundTruth.txt"]):
            sentences.append(sentence.strip())
            groups.append(f"{GENRES[genre]} {name.split('_')[0]}")
            genres.append(genre)
            ratings.append(json.loads(rated[name]))
    padded = np.full((len(ratings), max(map(len, ratings))), np.nan, dtype=np.float32)
    for row, values in zip(padded, ratings, strict=True):
        row[:len(values)] = values
    return sentences, groups, genres, padded


def _table(content: bytes) -> Iterable[list[str]]:
    return (line.split("\t") for line in content.decode("utf-8-sig").split("\r\n"))


def _cache_folder() -> Path:
    chosen, shared = os.environ.get("MTL_HELPERS_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    caches = Path(shared) if os.path.isabs(shared) else Path("~/.cache")
    return Path(chosen or caches / "mtl_helpers").expanduser() / "hutto_gilbert_2014"


def _data_files() -> dict[str, bytes]:
    """Return the data files by name, from the cache, or else fetched and then cached."""
    folder = _cache_folder()
    files = _cached(folder)
    if files is None:
        if folder.is_dir():
            logger.warning("The corpus cached in %s is damaged and is fetched again.", folder)
        try:
            files = _extracted(_downloaded())
        except OSError as error:
            raise CorpusError(f"the corpus could not be fetched: {error}") from error
        try:
            _store(files, folder)
        except OSError as error:
            if _cached(folder) is None:
                logger.warning("The corpus could not be cached in %s (%s).", folder, error)
    return files


def _cached(folder: Path) -> dict[str, bytes] | None:
    try:
        files = {name: (folder / name).read_bytes() for name in FILES}
    except OSError:
        return None
    digests = b"".join(sha256(content).digest() for content in files.values())
    return files if sha256(digests).hexdigest() == FILES_SHA256 else None


def _downloaded() -> bytes:
    """Return the source archive; pip checks its hash before it runs any of its code."""
    with tempfile.TemporaryDirectory() as folder:
        requirement = Path(folder, "requirement.txt")
        requirement.write_text(f"vaderSentiment==3.3.2 --hash=sha256:{ARCHIVE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary",
                   "vaderSentiment", "--dest", folder, "--requirement", str(requirement)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace")
        archives = list(Path(folder).glob("*.tar.gz"))
        if done.returncode or len(archives) != 1:
            raise CorpusError("pip could not fetch the source archive of vaderSentiment==3.3.2, "
                              f"which holds the corpus:\n{done.stderr[-1000:].strip()}")
        archive = archives[0].read_bytes()
    found = sha256(archive).hexdigest()
    if found != ARCHIVE_SHA256:
        raise CorpusError(f"{archives[0].name} must have sha256 {ARCHIVE_SHA256}, got {found} "
                          f"({len(archive)} bytes): an incomplete or altered download")
    return archive


def _extracted(archive: bytes) -> dict[str, bytes]:
    opened: Any = tarfile.open  # the archive's hash says that the members are files
    with opened(fileobj=io.BytesIO(archive)) as tar:
        inner = tar.extractfile(INNER_ARCHIVE).read()
    with opened(fileobj=io.BytesIO(inner)) as tar:
        return {name: tar.extractfile(f"hutto_ICWSM_2014/{name}").read() for name in FILES}


def _store(files: dict[str, bytes], folder: Path) -> None:
    """Write the files beside `folder`, then rename them into place all at once."""
    staging = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        (staging / "new").mkdir(parents=True)
        for name, content in files.items():
            (staging / "new" / name).write_bytes(content)
        if _cached(folder) is None:  # otherwise another process was first
            if folder.is_dir():
                os.replace(folder, staging / "damaged")
            os.replace(staging / "new", folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
