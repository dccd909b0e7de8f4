"""The real corpus (Hutto & Gilbert, 2014): one archive, fetched once. Goes with data.py."""

import io
import json
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path

import numpy as np

from .data import LabelledSentences

GENRES = ["movie review", "product review", "news editorial", "tweet"]
SENTIMENTS = ["negative", "neutral", "positive"]

ARCHIVE = "vaderSentiment-3.3.2.tar.gz"  # holds the corpus, in an archive of its own
ARCHIVE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
STEMS = ["movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets"]

logger = logging.getLogger(__name__)


class CorpusError(RuntimeError):
    """The corpus could not be fetched, or what was fetched is not the corpus."""


def load_corpus(tasks: Sequence[str] = ("genre", "sentiment")) -> LabelledSentences:
    """Return all 23,703 sentences, movie reviews first, then products, editorials and tweets.

    The first call fetches the corpus with pip and caches it in the folder that the variable
    MTL_HELPERS_CACHE names, by default ~/.cache/mtl_helpers; later calls need no network.
    Product reviews and editorials have document ids as groups; other sentences their own.
    Hutto & Gilbert, ICWSM 2014. Explained in Task_1.ipynb, section 1.6.

    Args:
        tasks: any of "genre" (ids of GENRES), "sentiment" (ids of SENTIMENTS: mean rating
            below -0.5, between, above 0.5) and "valence" (mean rating from -4 to 4).

    Raises:
        ValueError: If a task is unknown.
        CorpusError: If the corpus is not cached and cannot be fetched.
    """
    sentences, documents, genres, ratings = _read_corpus()
    valence = np.nanmean(ratings.astype(np.float64), axis=1)  # (N, R) -> (N,)
    sentiment = 1 + (valence > 0.5) - (valence < -0.5)
    labels = {"genre": np.array(genres), "sentiment": sentiment, "valence": valence}
    if not set(tasks) <= labels.keys():
        raise ValueError(f"tasks must be among {(*labels,)}, got {tasks!r}")
    return LabelledSentences(sentences, {task: labels[task] for task in tasks}, documents)


def load_ratings() -> np.ndarray:
    """Return the single ratings of each sentence of the corpus, (N, 99), padded with NaN."""
    return _read_corpus()[3]


def _read_corpus() -> tuple[list[str], list[str], list[int], np.ndarray]:
    """Return all sentences, their documents and genres, and their ratings, (N, 99)."""
    sentences, documents, genres, ratings = [], [], [], []
    with (tarfile.open(fileobj=io.BytesIO(_archive())) as outer,
          tarfile.open(fileobj=outer.extractfile(INNER_ARCHIVE)) as tar):
        for genre, stem in enumerate(STEMS):
            rated = {row[0]: row[3] for row in _table(tar, f"{stem}_anonDataRatings.txt")}
            for name, _, sentence in _table(tar, f"{stem}_GroundTruth.txt"):
                sentences.append(sentence.strip())
                documents.append(f"{GENRES[genre]} {name.split('_')[0]}")
                genres.append(genre)
                ratings.append(json.loads(rated[name]))
    padded = np.array(list(zip_longest(*ratings, fillvalue=np.nan)), dtype=np.float32)
    return sentences, documents, genres, padded.T.copy()  # (99, N) -> (N, 99)


def _table(tar: tarfile.TarFile, name: str) -> list[list[str]]:
    text = tar.extractfile(f"hutto_ICWSM_2014/{name}").read()  # type: ignore[union-attr]
    return [line.split("\t") for line in text.decode("utf-8-sig").split("\r\n")]


def _archive() -> bytes:
    """Return the archive, from the cache, or else fetched and then cached."""
    path = _cache_path()
    if cached := _verified(path):
        return cached
    if os.path.isfile(path):
        logger.warning("The corpus cached in %s is damaged and is fetched again.", path)
    content = _fetched()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as aside:
            Path(aside, ARCHIVE).write_bytes(content)
            os.replace(Path(aside, ARCHIVE), path)  # at once, whoever else reads or writes it
    except OSError as error:
        logger.warning("The corpus could not be cached in %s (%s).", path, error)
    return content


def _cache_path() -> Path:
    chosen, shared = os.environ.get("MTL_HELPERS_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    caches = Path(shared) if os.path.isabs(shared) else Path("~/.cache")
    return Path(chosen or caches / "mtl_helpers").expanduser() / ARCHIVE


def _verified(path: Path) -> bytes | None:
    """Return the archive in a file; None where there is none, or an altered one."""
    content = path.read_bytes() if os.path.isfile(path) else b""
    return content if sha256(content).hexdigest() == ARCHIVE_SHA256 else None


def _fetched() -> bytes:
    """Return the archive from pip, which checks the hash before it runs any of its code."""
    with tempfile.TemporaryDirectory() as folder:
        requirement = Path(folder, "requirement.txt")
        requirement.write_text(f"vaderSentiment==3.3.2 --hash=sha256:{ARCHIVE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary",
                   "vaderSentiment", "--dest", folder, "--requirement", str(requirement)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors="replace")
        content = _verified(Path(folder, ARCHIVE))
    if not content:
        raise CorpusError(f"pip could not fetch {ARCHIVE}, which holds the corpus, with "
                          f"sha256 {ARCHIVE_SHA256}:\n{done.stderr[-1000:].strip()}")
    return content
