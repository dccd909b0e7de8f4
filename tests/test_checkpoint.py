"""Checkpoints: exact round trips, broken files, faults and kills while saving, what is kept."""

import errno
import hashlib
import json
import logging
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtl_helpers.checkpoint import load_checkpoint, save_checkpoint

FILES = ["state.json", "tensors.safetensors", "SHA256SUMS"]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
          torch.int16, torch.int8, torch.uint8, torch.complex64, torch.float8_e4m3fn,
          torch.uint16, torch.uint32, torch.uint64]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def quick_flushes():
    """The disk is not waited for: no test takes the power away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


def bits(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def same(first, second):
    """Whether two states are equal to the bit; a tuple counts as a list."""
    if isinstance(first, torch.Tensor):
        return (isinstance(second, torch.Tensor) and first.dtype == second.dtype
                and first.shape == second.shape and torch.equal(bits(first), bits(second)))
    if isinstance(first, dict):
        return (isinstance(second, dict) and list(first) == list(second)
                and [type(key) for key in first] == [type(key) for key in second]
                and all(same(first[key], second[key]) for key in first))
    if isinstance(first, (list, tuple)):
        return (isinstance(second, list) and len(first) == len(second)
                and all(map(same, first, second)))
    if isinstance(first, float) and math.isnan(first):
        return type(second) is float and math.isnan(second)
    return type(first) is type(second) and repr(first) == repr(second)  # repr tells -0.0 from 0.0


def state_of(step):
    """A small state that differs in every step, in its tensors and in the rest."""
    return {"step": step, "model": {"weight": torch.full((3, 2), float(step))},
            "optimizer": {"state": {0: {"exp_avg": torch.full((5,), -step, dtype=torch.bfloat16)}}}}


def assert_loads(folder, *steps):
    """The step that is loaded is one of those given, and the state is the one of that step."""
    step, state = load_checkpoint(folder)
    assert step in steps and same(state_of(step), state)
    return step


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def seal(path):
    """Make SHA256SUMS fit what the other files hold now."""
    sums = [f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n"
            for name in FILES[:2]]
    (path / "SHA256SUMS").write_text("".join(sums))


# Round trips


def train(model, optimizer, scheduler, steps):
    for step in range(steps):
        inputs = torch.sin(torch.arange(12.0).reshape(3, 4) + step)  # (B, D)
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        scheduler.step()


def make_training(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    optimizer = torch.optim.AdamW([{"params": model[0].parameters(), "lr": np.float64(1e-3)},
                                   {"params": model[2].parameters(), "lr": 3e-2}], amsgrad=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    return model, optimizer, scheduler


def test_training_goes_on_as_if_it_had_never_stopped(tmp_path):
    whole = make_training(seed=0)
    train(*whole, steps=3)
    state = {name: part.state_dict() for name, part in zip("mos", whole, strict=True)}
    state["rng"] = [torch.get_rng_state(), random.Random(0).getstate()]
    save_checkpoint(tmp_path, 3, state)
    step, loaded = load_checkpoint(tmp_path)
    assert step == 3 and list(loaded["o"]["state"]) == [0, 1, 2, 3]
    assert loaded["o"]["param_groups"][0]["lr"] == state["o"]["param_groups"][0]["lr"]
    assert all(same(state["o"]["state"][key], loaded["o"]["state"][key]) for key in range(4))
    assert same(state["m"], loaded["m"]) and same(state["rng"], loaded["rng"])

    resumed = make_training(seed=1)
    for name, part in zip("mos", resumed, strict=True):
        part.load_state_dict(loaded[name])
    for training in (whole, resumed):
        train(*training, steps=3)
    assert same(whole[0].state_dict(), resumed[0].state_dict())
    assert whole[2].get_last_lr() == resumed[2].get_last_lr()


def test_odd_tensors_and_numbers_come_back_to_the_bit(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    nans = torch.tensor([0x7FC00001, 0x7F800001, 0x80000000 - 2**32], dtype=torch.int32)
    state = {
        "shared": [base, base, base[1:3], base.view(-1)], "empty": base[:0],
        "strided": base.t()[::2],
        "expanded": torch.ones(1).expand(2, 3), "scalar": torch.tensor(3, dtype=torch.uint8),
        "nan": nans.view(torch.float32), "conjugate": torch.tensor([1 + 2j]).conj(),
        "leaf": nn.Parameter(torch.ones(2, dtype=torch.bfloat16)), "negative": torch.ones(2).neg(),
        "tied": nn.Linear(2, 2, bias=False).weight, 7: "int key", "7": "str key", -1: {}, "": (),
        "numbers": (math.inf, -math.inf, math.nan, -0.0, 5e-324, 0.1, 2**130, -(2**63), True, None),
        "text": "é \u2028 \x00 \U0001f600 \\ \"", "__metadata__": torch.zeros(1), "dict": [[1, 2]],
        "looks like a reference": {"tensor": "state['empty']"}}
    state |= {str(dtype): torch.arange(16, dtype=torch.uint8).view(dtype) for dtype in DTYPES}
    state |= {"bool": torch.tensor([True, False])}
    before = {key: value.clone() for key, value in state.items() if isinstance(value, torch.Tensor)}
    save_checkpoint(tmp_path, 0, state)
    step, loaded = load_checkpoint(tmp_path)
    assert step == 0 and same(state | {"conjugate": torch.tensor([1 - 2j])}, loaded)
    assert all(same(before[key], loaded[key]) for key in before if key != "conjugate")
    loaded["shared"][0].zero_()
    assert loaded["shared"][1].sum() == base.sum(), "what is loaded can be changed, one by one"


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = math.prod(shape) * dtype.itemsize
    data = torch.tensor(list(draw(st.binary(min_size=size, max_size=size))), dtype=torch.uint8)
    tensor = data.view(dtype).reshape(shape)
    return tensor.transpose(0, -1) if len(shape) > 1 and draw(st.booleans()) else tensor


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | tensors()
KEYS = st.text(max_size=3) | st.integers(-3, 3) | st.sampled_from(["dict", "tensor", "1", "0"])
NESTED = st.recursive(LEAVES, lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)), max_leaves=8)


@settings(max_examples=60)
@given(st.dictionaries(KEYS, NESTED, max_size=4), st.integers(0, 10**9))
def test_any_state_comes_back(state, step):
    with tempfile.TemporaryDirectory() as folder:
        path = save_checkpoint(folder, step, state)
        assert path == Path(folder) / f"step-{step:08d}"
        found, loaded = load_checkpoint(folder)
        assert found == step and same(state, loaded)


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(("state", "place"), [
    ({"optimizer": [{1}]}, r"state\['optimizer'\]\[0\] .*set"),
    ({"a": {3: np.zeros(2)}}, r"state\['a'\]\[3\] .*ndarray"),
    ({"a": (1, nn.Linear(1, 1))}, r"state\['a'\]\[1\] .*Linear"),
    ({"a": b"bytes"}, r"state\['a'\] .*bytes"),
    ({"a": {(1, 2): 0}}, r"state\['a'\] .*keys str or int.*\(1, 2\)"),
    ({True: 0}, r"state .*True"),
    ({"a": {Colour.RED: 0}}, r"state\['a'\] .*Colour"),
    ({"a": torch.eye(2).to_sparse()}, r"state\['a'\] .*sparse"),
    ({"a": torch.ones(2, device="meta")}, r"state\['a'\] .*meta"),
    ({"a": torch.ones(2, dtype=torch.complex128)}, r"state\['a'\] .*complex128"),
    (nn.Linear(1, 1), r"state .*Linear")])
def test_what_cannot_be_stored_is_named_by_its_place(tmp_path, state, place):
    with pytest.raises(TypeError, match=f"(?s)^{place}"):
        save_checkpoint(tmp_path, 1, state)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("step", "keep"), [
    (-1, 2), (1.0, 2), (True, 2), ("1", 2), (1, 0), (1, None)])
def test_step_and_keep_are_checked(tmp_path, step, keep):
    with pytest.raises(ValueError, match="step must be an int >= 0 and keep an int >= 1, got"):
        save_checkpoint(tmp_path, step, {}, keep)


# What is there, and what is kept


def test_no_checkpoint_is_none(tmp_path):
    assert load_checkpoint(tmp_path) is None and load_checkpoint(tmp_path / "nowhere") is None
    (tmp_path / "step-notes.txt").touch()
    assert load_checkpoint(str(tmp_path)) is None


def test_the_newest_is_the_greatest_number_and_keep_newest_stay(tmp_path):
    folder = tmp_path / "new" / "deep"
    for step in (99_999_999, 100_000_000):  # its name is longer, and first in the alphabet
        save_checkpoint(folder, step, state_of(step), keep=1)
        assert_loads(folder, step)
        assert names(folder) == [f"step-{step}"]
    for keep in (3, 2):
        folder = tmp_path / str(keep)
        (folder / "other").mkdir(parents=True)
        for step in range(5):
            save_checkpoint(folder, step, state_of(step), keep)
        assert names(folder) == ["other", *[f"step-{step:08d}" for step in range(5 - keep, 5)]]
    assert names(folder / "step-00000004") == sorted(FILES)
    assert len({path.stat().st_mode for path in (folder / "step-00000004").iterdir()}) == 1


def test_a_good_one_stays_as_long_as_only_broken_ones_are_newer(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, state_of(step), keep=5)
    for step in (2, 3):
        (tmp_path / f"step-0000000{step}" / "state.json").write_text("{}")
    save_checkpoint(tmp_path, 4, state_of(4), keep=2)
    assert "step-00000001" in names(tmp_path), "only one newer checkpoint verifies"
    shutil.rmtree(tmp_path / "step-00000004")
    assert_loads(tmp_path, 1)
    for step in (4, 5):
        save_checkpoint(tmp_path, step, state_of(step), keep=2)
    assert names(tmp_path) == ["step-00000004", "step-00000005"]


def test_later_steps_are_left_alone(tmp_path):
    for step in (9, 2, 3):
        save_checkpoint(tmp_path, step, state_of(step), keep=1)
    assert names(tmp_path) == ["step-00000003", "step-00000009"]


@pytest.mark.parametrize("broken", [True, False])
def test_a_step_saved_again_replaces_the_first(tmp_path, broken):
    path = save_checkpoint(tmp_path, 1, {"first": True})
    if broken:
        (path / "tensors.safetensors").unlink()
    assert save_checkpoint(tmp_path, 1, state_of(1)) == path
    assert_loads(tmp_path, 1)
    assert names(tmp_path) == ["step-00000001"]


def test_what_killed_saves_have_left_is_removed(tmp_path):
    save_checkpoint(tmp_path, 1, state_of(1))
    stale = tmp_path / f".new-step-00000002-{'0' * 32}"
    shutil.copytree(tmp_path / "step-00000001", stale)
    (tmp_path / ".mine").mkdir()
    assert_loads(tmp_path, 1)
    save_checkpoint(tmp_path, 3, state_of(3))
    assert names(tmp_path) == [".mine", "step-00000001", "step-00000003"]


# Broken checkpoints


@pytest.fixture
def two(tmp_path):
    """A folder with checkpoints of the steps 1 and 2."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, state_of(step))
    return tmp_path


def rewrite(path, **changes):
    """Change state.json and make its sha256 fit."""
    record = json.loads((path / "state.json").read_text()) | changes
    (path / "state.json").write_text(json.dumps(record))
    seal(path)


BREAKS = {
    "empty folder": lambda path: [(path / name).unlink() for name in FILES],
    "a file": lambda path: shutil.rmtree(path) or path.touch(),
    "unknown format": lambda path: rewrite(path, format="mtl_helpers checkpoint 2"),
    "wrong step": lambda path: rewrite(path, step=3),
    "missing tensor": lambda path: rewrite(path, state={"dict": [["a", {"tensor": "b"}]]}),
    "no state": lambda path: rewrite(path, state={"dict": 3}),
    "no record": lambda path: (path / "state.json").write_text("[]") and seal(path),
    "no json": lambda path: (path / "state.json").write_text("{") and seal(path),
    "no text": lambda path: (path / "state.json").write_bytes(b"\xff") and seal(path),
    "swapped": lambda path: shutil.copy(path / FILES[0], path / FILES[1]),
    **{f"{name} deleted": lambda path, name=name: (path / name).unlink() for name in FILES},
    **{f"{name} a folder": lambda path, name=name: (path / name).unlink() or (path / name).mkdir()
       for name in FILES}}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_one_is_named_and_the_older_one_loaded(two, caplog, how):
    BREAKS[how](two / "step-00000002")
    assert_loads(two, 1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(two / "step-00000002") in caplog.text
    shutil.rmtree(two / "step-00000001")
    with pytest.raises(ValueError, match=f"(?s){two}.*step-00000002: ."):
        load_checkpoint(two)


@pytest.mark.parametrize("name", FILES)
def test_every_changed_byte_and_a_shorter_file_are_noticed(two, name):
    logging.getLogger("mtl_helpers.checkpoint").disabled = True
    try:
        file = two / "step-00000002" / name
        data = file.read_bytes()
        for position in range(len(data)):
            changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1:]
            for content in [changed] if position % 5 else [changed, data[:position]]:
                file.write_bytes(content)
                assert load_checkpoint(two)[0] == 1
        file.write_bytes(data)
        assert_loads(two, 2)
    finally:
        logging.getLogger("mtl_helpers.checkpoint").disabled = False


def test_nothing_that_verifies_is_an_error_with_every_reason(two):
    (two / "step-00000001" / "state.json").unlink()
    (two / "step-00000002" / "tensors.safetensors").write_bytes(b"")
    with pytest.raises(ValueError) as caught:
        load_checkpoint(two)
    for part in (str(two), "step-00000001: ", "state.json", "step-00000002: tensors.safetensors"):
        assert part in str(caught.value)


# Faults while saving


def fail_at(monkeypatch, function, number, error):
    """Make the number-th call of a function fail; the returned list grows with each call."""
    owner, _, name = function.rpartition(".")
    owner = {"os": os, "Path": Path}[owner]
    original, calls = getattr(owner, name), []

    def fail(*arguments, **settings):
        calls.append(arguments)
        if len(calls) == number:
            raise error
        return original(*arguments, **settings)

    monkeypatch.setattr(owner, name, fail)
    return calls


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("function", ["os.fsync", "os.open", "Path.rename", "Path.mkdir",
                                      "Path.write_bytes", "Path.read_text", "Path.read_bytes"])
def test_a_fault_anywhere_loses_nothing(tmp_path, monkeypatch, function, step, error):
    for number in range(1, 20):
        folder = tmp_path / str(number)
        for first in (1, 2):
            save_checkpoint(folder, first, state_of(first))
        with monkeypatch.context() as patch:
            calls = fail_at(patch, function, number, error)
            try:
                save_checkpoint(folder, step, state_of(step) | {"again": True})
                saved = True
            except (OSError, KeyboardInterrupt) as caught:
                saved = False
                assert type(caught) is type(error)
                if isinstance(caught, OSError):
                    assert caught.errno == errno.ENOSPC and str(folder) in str(caught)
        found, state = load_checkpoint(folder)
        new = state.pop("again", False)
        assert same(state_of(found), state) and found == (step if new else 2) and (new or not saved)
        assert not list(folder.glob(".new-*"))
        assert (folder / "step-00000002").exists(), "what was to be replaced has its name again"
        for path in folder.glob("step-*"):
            assert names(path) == sorted(FILES)
        if len(calls) < number:
            break
    assert saved and number > 1, "every call has failed once"


@pytest.mark.skipif(os.name != "posix", reason="needs folders that can be flushed")
def test_all_is_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    events, rename = [], Path.rename
    monkeypatch.setattr(os, "fsync", lambda file: events.append(os.fstat(file).st_ino))
    monkeypatch.setattr(Path, "rename", lambda *paths: events.append("rename") or rename(*paths))
    path = save_checkpoint(tmp_path, 1, state_of(1))
    files = {file.stat().st_ino for file in path.iterdir()}
    assert set(events[:3]) == files
    assert events[3:] == [path.stat().st_ino, "rename", tmp_path.stat().st_ino]


def test_what_is_read_back_must_be_what_was_written(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, state_of(1))
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: write(path, data[:-1]))
    with pytest.raises(OSError, match="(?s)step 2 .*sha256.*" + str(tmp_path)) as caught:
        save_checkpoint(tmp_path, 2, state_of(2))
    assert caught.value.errno == errno.EIO
    assert names(tmp_path) == ["step-00000001"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written(two):
    two.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match=str(two)):
            save_checkpoint(two, 3, state_of(3))
        assert_loads(two, 2)
    finally:
        two.chmod(0o755)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=str(tmp_path / "file")):
        save_checkpoint(tmp_path / "file", 1, {})
    with pytest.raises(OSError):
        load_checkpoint(tmp_path / "file")


def in_child(work):
    """Run work in a forked child; its process id."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)  # a forked process has not the threads of its parent
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


@needs_fork
@forks
def test_a_file_that_cannot_grow(tmp_path):
    """The limit on the size of files stands for a full disk."""
    save_checkpoint(tmp_path, 1, state_of(1))

    def save():
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(OSError, match=str(tmp_path)) as caught:
            save_checkpoint(tmp_path, 2, {"large": torch.zeros(100_000)})
        assert caught.value.errno == errno.EFBIG

    assert os.waitpid(in_child(save), 0)[1] == 0
    assert names(tmp_path) == ["step-00000001"]
    assert_loads(tmp_path, 1)


# Kills while saving


def save_and_be_killed(folder, step, change):
    """Save in a child that is killed before its change-th change to the disk; True if it was."""
    def save():
        changes = iter(range(1, 10_000))

        def kill(event, arguments):
            writes = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
            if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
                if next(changes) == change:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        save_checkpoint(folder, step, state_of(step) | {"again": True}, keep=1)

    return os.WIFSIGNALED(os.waitpid(in_child(save), 0)[1])


@needs_fork
@forks
@pytest.mark.parametrize("step", [1, 2])
def test_a_kill_before_any_change_loses_nothing(tmp_path, step):
    between = 0
    for change in range(1, 100):
        folder = tmp_path / str(change)
        save_checkpoint(folder, 1, state_of(1))
        killed = save_and_be_killed(folder, step, change)
        between += not list(folder.glob("step-*"))
        found, state = load_checkpoint(folder)
        new = state.pop("again", False)
        assert same(state_of(found), state) and found == (step if new else 1) and (new or killed)
        if not killed:
            break
        save_checkpoint(folder, 3, state_of(3), keep=1)
        assert names(folder) == ["step-00000003"]
    assert 6 < change < 99 and between == (step == 1)
    assert names(folder) == [f"step-{step:08d}"]


@needs_fork
@forks
def test_a_kill_at_any_moment_loses_nothing_that_was_saved(tmp_path):
    moments = random.Random(0)
    last = 0
    for _ in range(8):
        read, write = os.pipe()

        def save_on(write=write, first=last + 1):
            for step in range(first, 100_000):
                save_checkpoint(tmp_path, step, state_of(step) | {"large": torch.zeros(50_000)})
                os.write(write, f"{step}\n".encode())

        child = in_child(save_on)
        os.close(write)
        time.sleep(moments.uniform(0.05, 0.3))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the child failed"
        with os.fdopen(read) as printed:
            last = max([last, *map(int, printed.read().split())])
        found = load_checkpoint(tmp_path)
        assert (found[0] if found else 0) in (last, last + 1)
        if found:
            assert found[1].pop("large").shape == (50_000,) and same(state_of(found[0]), found[1])
            last = found[0]
    assert last > 8, "too few were saved to test anything"
