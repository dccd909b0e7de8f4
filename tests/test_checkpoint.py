"""Whole folders and checkpoints: exact round trips, broken files, faults and kills while saving."""

import contextlib
import errno
import hashlib
import itertools
import json
import logging
import math
import os
import random
import shutil
import stat
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
import torch
from killed import forks, killed_before, names
from torch import nn

from mtl_helpers.checkpoint import find_folder, load_checkpoint, save_checkpoint, whole_folder

FILES = ["state.json", "tensors.safetensors", "SHA256SUMS"]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
          torch.int16, torch.int8, torch.uint8, torch.complex64, torch.float8_e4m3fn,
          torch.uint16, torch.uint32, torch.uint64]
pytestmark = pytest.mark.usefixtures("quick_flushes")
name_of = "step-{:08d}".format


@pytest.fixture
def two(tmp_path):
    """A folder with checkpoints of the steps 1 and 2."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, state_of(step))
    return tmp_path


def bits(value):
    """A state as types and values that == compares to the bit; a tuple counts as a list."""
    if isinstance(value, torch.Tensor):
        data = value.detach().contiguous().reshape(-1).view(torch.uint8)
        return value.dtype, value.shape, data.tolist()
    if isinstance(value, dict):
        return dict, [(type(key), key, bits(part)) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return list, [bits(part) for part in value]
    return type(value), repr(value)  # repr tells -0.0 from 0.0, and one NaN is like another


def state_of(step):
    """A small state that differs in every step, in its tensors and in the rest."""
    return {"step": step, "model": {"weight": torch.full((3, 2), float(step))},
            "optimizer": {"state": {0: {"exp_avg": torch.full((5,), -step, dtype=torch.bfloat16)}}}}


def assert_loads(folder, step):
    found, state = load_checkpoint(folder)
    assert found == step and bits(state_of(step)) == bits(state)


def test_odd_tensors_and_numbers_come_back_to_the_bit(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    nans = torch.tensor([0x7FC00001, 0x7F800001, 0x80000000 - 2**32], dtype=torch.int32)
    state = {
        "random": [torch.get_rng_state(), random.getstate()],
        "shared": [base, base, base[1:3], base.view(-1)], "strided": base.t()[::2],
        "empty": base[:0], "expanded": torch.ones(1).expand(2, 3), "scalar": torch.tensor(True),
        "nan": nans.view(torch.float32), "conjugate": torch.tensor([1 + 2j]).conj(),
        "leaf": nn.Parameter(torch.ones(2, dtype=torch.bfloat16)), "negative": torch.ones(2).neg(),
        7: "int key", "7": "str key", -1: {}, "": (), "numpy": np.float64(0.1),
        "numbers": (math.inf, -math.inf, math.nan, -0.0, 5e-324, 0.1, 2**130, -(2**63), True, None),
        "text": "é \u2028 \x00 \U0001f600 \\ \"", "__metadata__": torch.zeros(1), "dict": [[1, 2]],
        "looks like a reference": {"tensor": "state['empty']"}, "tensor": [{"dict": [["a", {}]]}]}
    state |= {str(dtype): torch.arange(16, dtype=torch.uint8).view(dtype) for dtype in DTYPES}
    before = {key: value.clone() for key, value in state.items() if isinstance(value, torch.Tensor)}
    save_checkpoint(tmp_path, 0, state)
    step, loaded = load_checkpoint(tmp_path)
    expected = state | {"conjugate": torch.tensor([1 - 2j]), "numpy": 0.1}
    assert step == 0 and bits(expected) == bits(loaded)
    assert all(bits(before[key]) == bits(loaded[key]) for key in before if key != "conjugate")
    loaded["shared"][0].zero_()
    assert loaded["shared"][1].sum() == base.sum(), "what is loaded can be changed, one by one"


def test_what_cannot_be_stored_is_named_by_its_place(tmp_path):
    red = IntEnum("Colour", "RED").RED
    for state, place in (
            ({"optimizer": [{1}]}, r"state\['optimizer'\]\[0\] .*set"),
            ({"a": {3: np.zeros(2)}}, r"state\['a'\]\[3\] .*ndarray"),
            ({"a": (1, nn.Linear(1, 1))}, r"state\['a'\]\[1\] .*Linear"),
            ({"a": {(1, 2): 0}}, r"state\['a'\] .*keys str or int.*\(1, 2\)"),
            ({True: 0}, "state .*True"), ({"a": {red: 0}}, r"state\['a'\] .*Colour"),
            ({"a": torch.eye(2).to_sparse()}, r"state\['a'\] .*indices"),
            ({"a": torch.ones(2, device="meta")}, r"state\['a'\] .*meta"),
            ({"a": torch.ones(2, dtype=torch.complex128)}, r"state\['a'\] .*complex128")):
        with pytest.raises(TypeError, match=f"(?s)^{place}"):
            save_checkpoint(tmp_path, 1, state)
    assert names(tmp_path) == []


def test_no_checkpoint_is_none_and_a_file_in_its_place_an_error(tmp_path, monkeypatch):
    assert load_checkpoint(tmp_path) is None and load_checkpoint(tmp_path / "nowhere") is None
    file = tmp_path / "step-notes.txt"
    file.touch()
    assert load_checkpoint(str(tmp_path)) is None
    for use in (load_checkpoint, lambda folder: save_checkpoint(folder, 1, {})):
        with pytest.raises(OSError, match=str(file)):
            use(file)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert save_checkpoint("~/run", 1, {}) == tmp_path / "run" / name_of(1)
    assert load_checkpoint("~/run") == (1, {})


def test_the_greatest_numbers_stay_and_later_steps_are_left_alone(tmp_path):
    for steps, keep, left in (
            ([99_999_999, 100_000_000], 1, [100_000_000]),  # longer, and first in the alphabet
            (range(5), 3, [2, 3, 4]), (range(5), 2, [3, 4]), ([9, 8, 2, 3], 1, [3, 8, 9])):
        folder = tmp_path / "deep" / f"{keep}-{len(steps)}"
        (folder / "other").mkdir(parents=True)
        for step in steps:
            path = save_checkpoint(folder, step, state_of(step), keep)
        assert_loads(folder, max(steps))
        assert names(folder) == ["other", *map(name_of, left)] and names(path) == sorted(FILES)
        assert len({file.stat().st_mode for file in path.iterdir()}) == 1


def test_a_broken_step_is_replaced_and_what_killed_saves_have_left_is_removed(two):
    (two / name_of(2) / "tensors.safetensors").unlink()
    shutil.copytree(two / name_of(1), two / f".{name_of(3)}.unfinished")
    (two / ".mine").mkdir()
    assert_loads(two, 1)
    assert save_checkpoint(two, 2, state_of(2)) == two / name_of(2)
    assert_loads(two, 2)
    assert names(two) == [".mine", name_of(1), name_of(2)]


def assert_skipped(folder, caplog):
    """Step 2 is named in one warning, and step 1 loaded."""
    caplog.clear()
    assert_loads(folder, 1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(folder / name_of(2)) in caplog.text


@pytest.mark.parametrize("changes", [
    b"[]", b"{", b"\xff", b"[" * 100_000, None, {"format": "mtl_helpers checkpoint 3"}, {"step": 3},
    {"state": {"dict": [["a", {"tensor": "b"}]]}}, {"state": {"dict": 3}}])
def test_a_record_that_is_none_is_named_although_its_sums_fit(two, caplog, changes):
    path = two / name_of(2)
    if isinstance(changes, dict):
        changes = json.dumps(json.loads((path / "state.json").read_text()) | changes).encode()
    (path / ("state.json" if changes else "tensors.safetensors")).write_bytes(changes or b"")
    sums = [f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n"
            for name in FILES[:2]]
    (path / "SHA256SUMS").write_text("".join(sums))
    assert_skipped(two, caplog)


@pytest.mark.parametrize("name", FILES)
def test_changed_bytes_and_shorter_or_missing_files_are_noticed(two, caplog, name):
    file = two / name_of(2) / name
    data = file.read_bytes()
    for position in (0, len(data) // 2, len(data) - 1):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1:]
        for content in (changed, data[:position]):
            file.write_bytes(content)
            assert_skipped(two, caplog)
    file.write_bytes(data)
    assert_loads(two, 2)
    file.unlink()
    assert_skipped(two, caplog)
    file.mkdir()
    assert_skipped(two, caplog)


def test_nothing_that_verifies_or_is_of_version_0_1_is_an_error_with_every_reason(two):
    (two / name_of(1) / "state.json").unlink()
    shutil.rmtree(two / name_of(2))
    (two / name_of(2)).touch()
    with pytest.raises(ValueError, match=rf"(?s){two}.*step-00000002: .*step-00000001: .*\.json"):
        load_checkpoint(two)
    with pytest.raises(ValueError, match="mtl_helpers checkpoint 2.* 'mtl_helpers checkpoint 1'"):
        load_checkpoint(Path(__file__).parent / "saved_0_1" / "checkpoints")


def write(target, data):
    with whole_folder(target) as new:
        (new / "deep").mkdir()
        for name in ("a", "deep/b"):
            (new / name).write_bytes(data)


def held(target):
    """What the folder that loading finds holds; it is whole."""
    folder = find_folder(target)
    if folder.exists():
        data, other = ((folder / name).read_bytes() for name in ("a", "deep/b"))
        assert data == other
        return data


@pytest.mark.parametrize("lasting", [True, False])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize(("owner", "function"), [
    (os, "fsync"), (Path, "rename"), (Path, "mkdir"), (Path, "write_bytes")])
def test_a_fault_anywhere_loses_nothing(tmp_path, monkeypatch, owner, function, error, lasting):
    """The number-th call fails, and all that follow where the fault is a lasting one."""
    original, target = getattr(owner, function), tmp_path / "folder"
    for old, number in itertools.product((None, b"old"), range(1, 9)):
        calls, raised = itertools.count(1), None

        def fail(*arguments, calls=calls, number=number, **settings):
            call = next(calls)
            if call == number or lasting and call > number:
                raise error
            return original(*arguments, **settings)

        shutil.rmtree(target, ignore_errors=True)
        if old:
            write(target, old)
        with monkeypatch.context() as patch:
            patch.setattr(owner, function, fail)
            try:
                write(target, b"new")
            except (OSError, KeyboardInterrupt) as caught:
                raised = caught
        assert held(target) in (b"new", old) and raised in (None, error)
        assert raised or held(target) == b"new"
        if not (lasting and function == "rename"):  # what is set aside then cannot go back
            assert names(tmp_path) == ["folder"] * bool(held(target))
        write(target, b"next")
        assert held(target) == b"next" and names(tmp_path) == ["folder"]
    assert next(calls) <= number, "every call has failed once"


@pytest.mark.skipif(os.name != "posix", reason="needs folders that can be flushed")
def test_all_is_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    events, rename, target = [], Path.rename, tmp_path / "folder"
    monkeypatch.setattr(os, "fsync", lambda file: events.append(os.fstat(file).st_ino))
    monkeypatch.setattr(Path, "rename", lambda *paths: events.append("rename") or rename(*paths))
    write(target, b"new")
    assert {path.stat().st_ino for path in target.rglob("*")} == set(events[:3])
    assert events[3:] == [target.stat().st_ino, "rename", tmp_path.stat().st_ino]


@pytest.mark.parametrize(("folders", "data"), [(True, b"new"), (False, b"old")])
def test_a_drive_need_not_flush_folders_but_files(tmp_path, monkeypatch, folders, data):
    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == folders:
            raise OSError(errno.EINVAL, "Invalid argument")

    write(tmp_path / "folder", b"old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError) if data == b"old" else contextlib.nullcontext():
        write(tmp_path / "folder", b"new")
    assert held(tmp_path / "folder") == data and names(tmp_path) == ["folder"]


def test_a_disk_that_lies_or_is_full_is_named(two, monkeypatch):
    write_bytes = Path.write_bytes

    def write_less(path, data):
        write_bytes(path, data[:-1])
        if reason == "No space left":
            raise OSError(errno.ENOSPC, reason)

    monkeypatch.setattr(Path, "write_bytes", write_less)
    for reason in ("SHA256SUMS differs", "No space left"):
        with pytest.raises(OSError, match=f"step 3 .*{two}.*{reason}"):
            save_checkpoint(two, 3, state_of(3))
        assert_loads(two, 2)
        assert names(two) == [name_of(1), name_of(2)]


@forks
@pytest.mark.parametrize("step", [1, 2])
def test_a_kill_before_any_change_loses_nothing(tmp_path, step):
    """Also between the two renames of a step that is saved again; the next save cleans up."""
    between = 0
    for change in range(1, 100):
        folder = tmp_path / str(change)
        save_checkpoint(folder, 1, state_of(1))
        killed = killed_before(change, lambda folder=folder: save_checkpoint(
            folder, step, state_of(step) | {"again": True}, keep=1))
        between += f".{name_of(1)}.set-aside" in names(folder) and name_of(1) not in names(folder)
        found, state = load_checkpoint(folder) or pytest.fail("none is left")
        new = state.pop("again", False)
        assert bits(state_of(found)) == bits(state) and found == (step if new else 1)
        if not killed:
            break
        save_checkpoint(folder, 3, state_of(3), keep=1)
        assert names(folder) == [name_of(3)]
    assert 6 < change < 99 and between == (step == 1)
    assert new and names(folder) == [name_of(step)]
