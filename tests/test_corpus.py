"""The real corpus: its rows, labels and raters, and what can go wrong while it is fetched."""

from __future__ import annotations

import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from mtl_helpers import corpus as corpus_module
from mtl_helpers.corpus import (
    FILES,
    GENRES,
    INNER_ARCHIVE,
    SENTIMENTS,
    STEMS,
    CorpusError,
    human_row,
    leave_one_rater_out,
    load_corpus,
    load_ratings,
)
from mtl_helpers.data import LabelledSentences

MOVIE, PRODUCT, EDITORIAL, TWEET = range(4)
SIZES = [10605, 3708, 5190, 4200]


@pytest.fixture(scope="module")
def corpus() -> LabelledSentences:
    return load_corpus(("genre", "sentiment", "valence"))


@pytest.fixture(scope="module")
def ratings() -> np.ndarray:
    return load_ratings()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return corpus_module._data_files()


# Rows and labels


def test_every_row_is_there(corpus: LabelledSentences) -> None:
    assert len(corpus) == sum(SIZES) == 23703
    assert np.bincount(corpus.labels["genre"]).tolist() == SIZES
    assert (np.diff(corpus.labels["genre"]) >= 0).all()
    assert np.bincount(corpus.labels["sentiment"]).tolist() == [9029, 4567, 10107]


def test_every_line_of_the_files_is_a_row(
    corpus: LabelledSentences, files: dict[str, bytes]
) -> None:
    lines = [
        line for stem in STEMS for line in files[f"{stem}_GroundTruth.txt"].splitlines()
    ]  # bytes split at CRLF only where it stands, and a last line needs none
    assert len(lines) == len(corpus)
    for line, sentence in zip(lines, corpus.sentences, strict=True):
        assert line.split(b"\t")[2].decode().strip() == sentence


def test_sentences_are_clean(corpus: LabelledSentences) -> None:
    text = "".join(corpus.sentences)
    assert not set(text) & set("\r\n\t\ufeff\ufffd\x00") and "Ã" not in text
    assert {"é", "–", "’"} <= set(text)  # what UTF-8 is needed for
    assert all(sentence and sentence == sentence.strip() for sentence in corpus.sentences)


def test_about_150_sentences_occur_more_than_once(corpus: LabelledSentences) -> None:
    texts = Counter(" ".join(sentence.casefold().split()) for sentence in corpus.sentences)
    assert sum(count - 1 for count in texts.values()) == 148


def test_documents_are_known_for_products_and_editorials_only(corpus: LabelledSentences) -> None:
    assert corpus.groups is not None
    genre_of: dict[object, int] = {}
    for group, genre in zip(corpus.groups, corpus.labels["genre"], strict=True):
        assert genre_of.setdefault(group, genre) == genre  # ids are unique over the genres
    assert np.bincount(list(genre_of.values())).tolist() == [10605, 300, 498, 4200]


def test_tasks_can_be_chosen(corpus: LabelledSentences) -> None:
    assert list(load_corpus().labels) == ["genre", "sentiment"]
    assert list(load_corpus(("valence",)).labels) == ["valence"]
    assert corpus.labels["valence"].dtype == np.float32
    assert corpus.labels["genre"].dtype == corpus.labels["sentiment"].dtype == np.int64
    for wrong in (("genre", "topic"), "genre"):
        with pytest.raises(ValueError, match="tasks must be among .*'valence'"):
            load_corpus(wrong)


def test_sentiment_is_valence_with_a_neutral_band(corpus: LabelledSentences) -> None:
    valence, sentiment = corpus.labels["valence"], corpus.labels["sentiment"]
    assert (valence[sentiment == 0] < -0.5).all() and (valence[sentiment == 2] > 0.5).all()
    assert (np.abs(valence[sentiment == 1]) <= 0.5).all()
    assert (np.abs(valence) == 0.5).sum() > 100  # the edges of the band occur, and are neutral
    assert GENRES == ["movie review", "product review", "news editorial", "tweet"]
    assert SENTIMENTS == ["negative", "neutral", "positive"]


# Ratings


def test_ratings_are_those_of_15_to_99_raters(ratings: np.ndarray) -> None:
    assert ratings.shape == (23703, 99) and ratings.dtype == np.float32
    counts = (~np.isnan(ratings)).sum(axis=1)
    assert counts.min() == 15 and counts.max() == 99 and np.median(counts) == 20
    assert set(np.unique(ratings[~np.isnan(ratings)])) == set(range(-4, 5))


def test_ratings_stand_beside_their_sentences(
    corpus: LabelledSentences, ratings: np.ndarray, files: dict[str, bytes]
) -> None:
    """The order of the product files differs, so the means in the other file are a check."""
    valence = corpus.labels["valence"]
    np.testing.assert_allclose(valence, np.nanmean(ratings, axis=1), atol=1e-6)
    stated = np.concatenate([
        np.loadtxt(io.BytesIO(files[f"{stem}_GroundTruth.txt"]), delimiter="\t", usecols=1,
                   comments=None, encoding="utf-8")
        for stem in STEMS
    ])
    differs = np.abs(valence - stated) > 1e-3
    assert np.bincount(corpus.labels["genre"][differs], minlength=4).tolist() == [0, 0, 0, 199]
    assert 1.12 < np.abs(valence - stated).max() < 1.13
    stated_sentiment = 1 + (stated > 0.5).astype(int) - (stated < -0.5)
    np.testing.assert_array_equal(corpus.labels["sentiment"], stated_sentiment)


def test_a_known_sentence_has_its_ratings(corpus: LabelledSentences, ratings: np.ndarray) -> None:
    row = SIZES[MOVIE]  # the first of the file that begins with a byte order mark
    assert corpus.sentences[row].startswith("troubleshooting ad-2500")
    listed = [0, -1, 0, 0, -1, -2, 0, -2, 0, -2, -1, 0, -1, -2, -1, -1, -1, -2, 0, -1]
    assert ratings[row, :20].tolist() == listed and np.isnan(ratings[row, 20:]).all()
    assert corpus.labels["valence"][row] == np.float32(-0.9)


@pytest.mark.parametrize(("genre", "correlation", "scores"), [
    (TWEET, 0.888, ("0.95", "0.76", "0.84")),
    (MOVIE, 0.899, ("0.95", "0.90", "0.92")),
    (PRODUCT, 0.911, ("0.94", "0.80", "0.85")),
    (EDITORIAL, 0.745, ("0.87", "0.55", "0.65")),
])
def test_the_human_row_of_table_4_is_reproduced(
    corpus: LabelledSentences, ratings: np.ndarray, genre: int, correlation: float,
    scores: tuple[str, str, str],
) -> None:
    row = human_row(ratings[corpus.labels["genre"] == genre])
    assert (f"{row.precision:.2f}", f"{row.recall:.2f}", f"{row.f1:.2f}") == scores
    assert abs(row.correlation - correlation) < 0.001


def test_a_human_row_worked_by_hand() -> None:
    nan = np.nan
    row = human_row(np.array([[2, 1, nan], [-1, 1, nan], [-2, -3, -1]]))
    # Signs of the means: positive, neutral, negative; 5 of 7 ratings agree, neutral is never said.
    assert row.recall == pytest.approx(5 / 7)
    assert row.precision == pytest.approx((2 * 2 / 3 + 2 * 0 + 3 * 3 / 4) / 7)
    pairs = np.corrcoef([2, 1, -1, 1, -2, -3, -1], [1.5, 1.5, 0, 0, -2, -2, -2])
    assert row.correlation == pytest.approx(pairs[0, 1])


def test_leaving_one_rater_out_worked_by_hand() -> None:
    ratings = np.array([[2, 2, -1]])  # the others: 0.5, 0.5 and 2
    assert leave_one_rater_out(ratings, band=0.5).confusion.tolist() == [
        [0, 0, 0], [0, 0, 2], [1, 0, 0]]
    assert leave_one_rater_out(ratings, band=0).confusion.tolist() == [
        [0, 0, 0], [0, 0, 0], [1, 0, 2]]


@pytest.mark.parametrize("band", [0.0, 0.5])
def test_leaving_one_rater_out_agrees_with_a_plain_loop(ratings: np.ndarray, band: float) -> None:
    chosen = ratings[::300]
    gold, said = [], []
    for row in chosen:
        given = row[~np.isnan(row)].astype(int).tolist()
        for i, rating in enumerate(given):
            others = given[:i] + given[i + 1:]
            mean = sum(others) / len(others)
            gold.append("+" if mean > band else "-" if mean < -band else "0")
            said.append("+" if rating > band else "-" if rating < -band else "0")
    report = leave_one_rater_out(chosen, band)
    assert report.n == len(gold)
    assert report.accuracy == pytest.approx(accuracy_score(gold, said))
    assert report.macro_f1 == pytest.approx(f1_score(gold, said, average="macro"))
    assert report.weighted_f1 == pytest.approx(f1_score(gold, said, average="weighted"))


@pytest.mark.parametrize(("band", "weighted_f1", "accuracy", "macro_f1"), [
    (0.0, [0.92, 0.84, 0.63, 0.84], [0.90, 0.79, 0.54, 0.75], [0.62, 0.65, 0.49, 0.57]),
    (0.5, [0.88, 0.85, 0.67, 0.82], [0.88, 0.85, 0.67, 0.82], [0.69, 0.81, 0.67, 0.78]),
])
def test_the_human_ceiling_of_each_genre(
    corpus: LabelledSentences, ratings: np.ndarray, band: float, weighted_f1: list[float],
    accuracy: list[float], macro_f1: list[float],
) -> None:
    reports = [
        leave_one_rater_out(ratings[corpus.labels["genre"] == genre], band) for genre in range(4)
    ]
    assert [round(report.weighted_f1, 2) for report in reports] == weighted_f1
    assert [round(report.accuracy, 2) for report in reports] == accuracy
    assert [round(report.macro_f1, 2) for report in reports] == macro_f1
    assert reports[TWEET].labels == tuple(SENTIMENTS)


@pytest.mark.parametrize("wrong", [[1, 2, 3], [[1, np.nan], [1, 2]]])
def test_ratings_are_checked(wrong: list) -> None:
    for function in (human_row, leave_one_rater_out):
        with pytest.raises(ValueError, match=r"ratings must be \(N, R\) with two or more ratings"):
            function(wrong)


# Fetching. A folder with a package named pip stands in for pip, so that the whole path is run.


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def archive(files: dict[str, bytes]) -> bytes:
    """A source archive with the corpus, and with members that must not be written anywhere."""
    inner = {f"hutto_ICWSM_2014/{name}": content for name, content in files.items()}
    extra = {"../escaped.txt": b"", "/escaped.txt": b"", "hutto_ICWSM_2014/_README_.txt": b""}
    return tar({"../escaped.txt": b"", INNER_ARCHIVE: tar({**extra, **inner})})


class FakePip:
    """Puts a package named pip before the real one; `becomes` sets what it does."""

    def __init__(self, folder: Path, archive: bytes) -> None:
        self.package = folder / "modules" / "pip"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").touch()
        self.calls = folder / "calls"
        self.archive = folder / "vaderSentiment-3.3.2.tar.gz"
        self.archive.write_bytes(archive)
        self.becomes("shutil.copy(archive, destination)")

    def becomes(self, action: str) -> None:
        (self.package / "__main__.py").write_text(
            "import os, pathlib, shutil, sys, time\n"
            f"archive = {str(self.archive)!r}\n"
            "destination = sys.argv[sys.argv.index('--dest') + 1]\n"
            f"pathlib.Path({str(self.calls)!r}).open('a').write('called\\n')\n"
            f"{action}\n"
        )

    @property
    def count(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test, and the folder in it that the corpus goes to."""
    monkeypatch.setenv("MTL_HELPERS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hutto_gilbert_2014"


@pytest.fixture
def pip(
    tmp_path: Path, cache: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> FakePip:
    fake = FakePip(tmp_path, archive)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.setattr(corpus_module, "ARCHIVE_SHA256", sha256(archive).hexdigest())
    return fake


def assert_complete(folder: Path) -> None:
    """The corpus is cached, and nothing else lies in its folder or beside it."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert corpus_module._cached(folder) is not None


def test_the_corpus_is_fetched_once_and_then_read_from_the_cache(
    pip: FakePip, cache: Path, corpus: LabelledSentences, caplog: pytest.LogCaptureFixture
) -> None:
    first = load_corpus()
    assert_complete(cache)
    pip.becomes("sys.exit('there is no network')")
    second = load_corpus()
    assert pip.count == 1 and not caplog.records
    assert first.sentences == second.sentences == corpus.sentences
    assert not list(cache.parent.parent.rglob("escaped.txt"))


def test_a_cache_folder_that_stands_empty_is_filled(pip: FakePip, cache: Path) -> None:
    cache.mkdir(parents=True)
    assert len(load_corpus()) == 23703
    assert_complete(cache)


def test_pip_is_asked_for_the_hash_and_the_source_only(pip: FakePip) -> None:
    pip.becomes(
        "print(sys.argv[1:], open(sys.argv[-1]).read(), file=sys.stderr)\nsys.exit(1)"
    )
    with pytest.raises(CorpusError) as error:
        load_corpus()
    assert "'download', '--no-deps', '--no-binary', 'vaderSentiment', '--dest'" in str(error.value)
    requirement = f"vaderSentiment==3.3.2 --hash=sha256:{corpus_module.ARCHIVE_SHA256}"
    assert requirement in str(error.value)


@pytest.mark.parametrize(("action", "message"), [
    ("shutil.copy(archive, destination)\nos.truncate("
     "os.path.join(destination, os.path.basename(archive)), 100_000)",
     r"must have sha256 \w+, got \w+ \(100000 bytes\): an incomplete or altered download"),
    ("open(os.path.join(destination, 'x.tar.gz'), 'wb').write(open(archive, 'rb').read() + b'0')",
     "x.tar.gz must have sha256"),
    ("open(os.path.join(destination, 'x.tar.gz'), 'wb').close()", r"\(0 bytes\)"),
    ("sys.exit('ERROR: no such host')", r"(?s)pip could not fetch .*3\.3\.2.*ERROR: no such host"),
    ("print('done')", "pip could not fetch"),
    ("os.abort()", "pip could not fetch"),
    ("shutil.rmtree(destination)", "pip could not fetch"),
], ids=["truncated", "altered", "empty", "refused", "nothing", "aborted", "vanished"])
def test_a_failed_download_is_one_clear_error_and_leaves_no_cache(
    pip: FakePip, cache: Path, action: str, message: str
) -> None:
    pip.becomes(action)
    with pytest.raises(CorpusError, match=message):
        load_corpus()
    assert not cache.parent.exists()
    pip.becomes("shutil.copy(archive, destination)")
    assert len(load_corpus()) == 23703
    assert_complete(cache)


def test_a_python_without_pip_is_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"  # without site-packages, hence without pip
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(CorpusError, match="No module named pip"):
        load_corpus()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(CorpusError, match="could not be fetched: .*absent"):
        load_corpus()
    assert not cache.parent.exists()


@pytest.fixture
def real_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip, without settings of its own and without an index."""
    for name in list(os.environ):
        if name.upper().startswith("PIP_"):
            monkeypatch.delenv(name)
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0", "PIP_TIMEOUT": "5",
                "PIP_CACHE_DIR": str(tmp_path / "pip"), "NO_PROXY": "*", "no_proxy": "*"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def test_without_network_the_error_is_that_of_pip(
    cache: Path, real_pip: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(CorpusError, match="(?s)pip could not fetch.*No matching distribution"):
        load_corpus()
    assert not cache.parent.exists()


def test_code_of_an_altered_archive_is_not_run(
    cache: Path, real_pip: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip runs the set-up code of a source archive, so it has to know the hash before it does."""
    links = tmp_path / "links"
    links.mkdir()
    code = f"open({str(tmp_path / 'was_run')!r}, 'w').close()\nraise SystemExit('was run')"
    (links / "vaderSentiment-3.3.2.tar.gz").write_bytes(
        tar({"vaderSentiment-3.3.2/setup.py": code.encode()}))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    with pytest.raises(CorpusError, match="(?s)DO NOT MATCH THE HASHES"):
        load_corpus()
    assert not (tmp_path / "was_run").exists()
    assert not cache.parent.exists()


def test_an_interrupt_from_the_keyboard_leaves_no_cache(
    pip: FakePip, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(corpus_module.subprocess, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_corpus()
    with monkeypatch.context() as patch:
        patch.setattr(corpus_module.os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_corpus()
    assert not list(cache.parent.iterdir())
    assert len(load_corpus()) == 23703
    assert_complete(cache)


# The cache


@pytest.mark.parametrize("damage", ["changed", "cut short", "missing"])
def test_a_damaged_cache_is_noticed_and_fetched_again(
    pip: FakePip, cache: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    load_corpus()
    for calls, name in enumerate(FILES, start=1):
        content = (cache / name).read_bytes()
        if damage == "missing":
            (cache / name).unlink()
        elif damage == "cut short":
            (cache / name).write_bytes(content[:-1])
        else:
            (cache / name).write_bytes(content[:500] + b"?" + content[501:])
        caplog.clear()
        assert corpus_module._data_files()[name] == content
        assert f"{cache} is damaged" in caplog.text
        assert pip.count == calls + 1
        assert_complete(cache)


def test_a_damaged_cache_that_cannot_be_fetched_again_is_refused(pip: FakePip, cache: Path) -> None:
    load_corpus()
    (cache / FILES[0]).write_bytes(b"1\t2.0\tThis is not the corpus.")
    pip.becomes("sys.exit('there is no network')")
    for function in (load_corpus, load_ratings):
        with pytest.raises(CorpusError, match="there is no network"):
            function()


def test_a_cache_that_cannot_be_written_still_gives_the_corpus(
    pip: FakePip, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise PermissionError(13, "Read-only file system")

    for module, name in ((Path, "mkdir"), (Path, "write_bytes"), (os, "replace")):
        caplog.clear()
        with monkeypatch.context() as patch:
            patch.setattr(module, name, refuse)
            assert len(load_corpus()) == 23703
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert f"could not be cached in {cache}" in caplog.text
        assert "Read-only file system" in caplog.text
        assert not cache.exists() and not list(cache.parent.parent.glob("cache/*"))
    cache.parent.rmdir()
    cache.parent.write_text("A file stands where the folder should be.")
    assert len(load_corpus()) == 23703
    assert pip.count == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_still_gives_the_corpus(
    pip: FakePip, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.mkdir()
    cache.parent.chmod(0o500)
    assert len(load_corpus()) == 23703
    assert "could not be cached" in caplog.text


def test_variables_move_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    name = "hutto_gilbert_2014"
    for variables, folder in [
        ({}, tmp_path / ".cache" / "mtl_helpers" / name),
        ({"XDG_CACHE_HOME": ""}, tmp_path / ".cache" / "mtl_helpers" / name),
        ({"XDG_CACHE_HOME": "relative"}, tmp_path / ".cache" / "mtl_helpers" / name),
        ({"XDG_CACHE_HOME": "/shared"}, Path("/shared/mtl_helpers") / name),
        ({"XDG_CACHE_HOME": "/shared", "MTL_HELPERS_CACHE": "/mine"}, Path("/mine") / name),
        ({"MTL_HELPERS_CACHE": "~/mine"}, tmp_path / "mine" / name),
        ({"MTL_HELPERS_CACHE": ""}, tmp_path / ".cache" / "mtl_helpers" / name),
    ]:
        for variable in ("XDG_CACHE_HOME", "MTL_HELPERS_CACHE"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        assert corpus_module._cache_folder() == folder


# Several processes, and killed ones. They import copies of the three files, which takes less time.


@pytest.fixture
def process(pip: FakePip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Starts a Python that runs code with the corpus module at hand, and the fake pip."""
    (tmp_path / "modules" / "copied").mkdir()
    for name in ("corpus.py", "data.py", "evaluation.py"):
        shutil.copy(Path(corpus_module.__file__).with_name(name), tmp_path / "modules" / "copied")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    expected = corpus_module.ARCHIVE_SHA256
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        code = f"from copied import corpus\ncorpus.ARCHIVE_SHA256 = {expected!r}\n{code}"
        pipe = subprocess.PIPE
        one = subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True)
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()
        one.communicate()


def finished(started: subprocess.Popen[str]) -> str:
    output, errors = started.communicate(timeout=60)
    assert started.returncode == 0, errors
    return output.strip() + errors


def test_processes_that_start_at_once_all_get_the_corpus(
    process, pip: FakePip, cache: Path
) -> None:
    pip.becomes(  # each waits until all are downloading
        f"while len(open({str(pip.calls)!r}).readlines()) < 3:\n"
        "    time.sleep(0.01)\n"
        "shutil.copy(archive, destination)"
    )
    started = [process("print(len(corpus.load_corpus()))") for _ in range(3)]
    assert [finished(one) for one in started] == ["23703"] * 3
    assert pip.count == 3
    assert_complete(cache)


def test_processes_that_repair_a_damaged_cache_at_once_all_get_the_corpus(
    process, pip: FakePip, cache: Path
) -> None:
    load_corpus()
    (cache / FILES[3]).write_bytes(b"damaged")
    started = [process("print(len(corpus.load_corpus()))") for _ in range(3)]
    for one in started:
        assert finished(one).startswith("23703")
    assert_complete(cache)


def test_a_process_that_was_overtaken_keeps_what_the_other_one_cached(
    pip: FakePip, cache: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    replace = os.replace

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", replace)
        corpus_module._store(files, cache)
        replace(source, target)

    monkeypatch.setattr(os, "replace", overtaken)
    assert len(load_corpus()) == 23703
    assert_complete(cache)
    assert not caplog.records
    folder = cache.stat().st_ino
    corpus_module._store(files, cache)  # overtaken earlier, it does not touch the other's folder
    assert cache.stat().st_ino == folder
    assert_complete(cache)


def test_a_process_killed_while_it_downloads_leaves_no_cache(
    process, pip: FakePip, cache: Path
) -> None:
    pip.becomes(
        "content = open(archive, 'rb').read()\n"
        "half = open(os.path.join(destination, 'vaderSentiment-3.3.2.tar.gz'), 'wb')\n"
        "half.write(content[:len(content) // 2])\n"
        "half.flush()\n"
        "parent = os.getppid()\n"
        "while os.getppid() == parent:\n"
        "    time.sleep(0.01)"
    )
    started = process("corpus.load_corpus()")
    deadline = time.monotonic() + 60
    while not pip.count and time.monotonic() < deadline:
        time.sleep(0.01)
    started.kill()
    started.communicate()
    assert started.returncode == -signal.SIGKILL and not cache.parent.exists()
    pip.becomes("shutil.copy(archive, destination)")
    assert finished(process("print(len(corpus.load_corpus()))")) == "23703"
    assert_complete(cache)


@pytest.mark.parametrize("written", [0, 5])
def test_a_process_killed_while_it_writes_leaves_no_cache(
    process, pip: FakePip, cache: Path, written: int
) -> None:
    kill = f"""
import os, pathlib, signal
write, names = pathlib.Path.write_bytes, []
def write_half(path, content):
    names.append(path.name)
    if len(names) <= {written}:
        return write(path, content)
    write(path, content[:len(content) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.write_bytes = write_half
corpus.load_corpus()
"""
    started = process(kill)
    started.communicate(timeout=60)
    assert started.returncode == -signal.SIGKILL
    assert not cache.exists() and len(list(cache.parent.rglob("*.txt"))) == written + 1
    assert finished(process("print(len(corpus.load_corpus()))")) == "23703"
    assert corpus_module._cached(cache) is not None
