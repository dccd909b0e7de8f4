"""Folders and checkpoints that are there whole or not at all; no pickle.

A checkpoint `step-00000125` has `tensors.safetensors`, `state.json` (all else) and, of both,
`SHA256SUMS`.
"""

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

FORMAT = "mtl_helpers checkpoint 2"
TENSORS, STATE, SUMS = "tensors.safetensors", "state.json", "SHA256SUMS"
NAME = re.compile(r"\.?step-([0-9]{8,})(?:\.set-aside)?")
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a hidden folder to write into; it becomes `target` once the block ends well.

    Its files are on the disk before it is renamed. An older folder is set aside first, so that
    a kill between the two renames leaves that one, which `find_folder` finds. One process at a
    time may write a target.

    Raises:
        OSError: if the folder can't be written or renamed; what was there still is.
    """
    if os.path.ismount(target) or Path.cwd().is_relative_to(target):
        raise OSError(f"{target} is a mount point or the current folder, which can't be "
                      f"replaced: name a folder inside it, such as {target / 'model'}")
    new, old = hidden(target, "unfinished"), hidden(target, "set-aside")
    tidy(target)
    new.mkdir(parents=True)
    try:
        yield new
        for path in [*new.rglob("*"), new]:
            flush(path)
        if target.exists():
            target.rename(old)
        new.rename(target)
        flush(target.parent)
    finally:
        tidy(target)


def hidden(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{kind}")


def find_folder(target: Path) -> Path:
    """The folder, or what a save that was killed between its renames had set aside of it."""
    old = hidden(target, "set-aside")
    return old if old.exists() and not target.exists() else target


def tidy(target: Path) -> None:
    """After a save that was stopped: what was set aside goes back, what else it left goes."""
    old = find_folder(target)
    if old != target:
        old.rename(target)
    for kind in ("unfinished", "set-aside"):
        shutil.rmtree(hidden(target, kind), ignore_errors=True)


def flush(path: Path) -> None:
    """Bring a file to disk, or the entries of a folder where the drive can do that."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError:
            if path.is_file():
                raise
        finally:
            os.close(descriptor)


def save_checkpoint(folder: str | Path, step: int, state: dict[str, Any],
                    keep: int = 2) -> Path:
    """Write the state after `step` optimizer steps as one sub-folder, complete or not at all.

    Args:
        folder: where the checkpoints are, made if missing; one process at a time saves there.
        step: optimizer steps so far; a checkpoint of the same step is replaced.
        state: nested dicts (keys str or int), lists, tuples, tensors, text, numbers, None.
        keep: how many are left, with this one; those of the lowest steps are removed.

    Raises:
        TypeError: if state holds anything else; names its place, as state['optimizer'][0].
        OSError: if it could not be saved; names folder, and all that was there still is.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(folder, 10, {"weights": torch.ones(2), "epoch": 1})
    ...     load_checkpoint(folder)
    (10, {'weights': tensor([1., 1.]), 'epoch': 1})
    """
    if step < 0 or keep < 1:
        raise ValueError(f"step must be at least 0 and keep at least 1, got {step} and {keep}")
    files = _serialize(step, state)
    target = Path(folder).expanduser() / f"step-{step:08d}"
    for left in target.parent.glob(".step-*.*"):  # of killed saves; they may fill the disk
        tidy(left.with_name(left.stem.removeprefix(".")))
    try:
        with whole_folder(target) as new:
            for name, data in files.items():
                (new / name).write_bytes(data)
            _read(new, step)  # what is on the disk is what was meant
    except (OSError, ValueError) as error:
        raise OSError(f"step {step} could not be saved in {folder}: {error}") from error
    for older, path in _checkpoints(target.parent)[keep:]:
        if older < step:
            shutil.rmtree(path, ignore_errors=True)
    return target


def load_checkpoint(folder: str | Path) -> tuple[int, dict[str, Any]] | None:
    """The newest checkpoint that verifies: (step, state); None where there is none at all.

    Tuples come back as lists, tensors on the CPU. A broken checkpoint is logged and skipped.

    Raises:
        ValueError: if there are checkpoints in folder but none verifies; says why.
    """
    reasons = []
    for step, path in _checkpoints(Path(folder).expanduser()):
        try:
            return step, _read(path, step)
        except Exception as error:  # safetensors raises its own
            logger.warning("%s can't be used and was skipped: %s", path, error)
            reasons.append(f"{path.name}: {error}")
    if reasons:
        raise ValueError(f"folder {folder} has no checkpoint that verifies: "
                         f"{'; '.join(reasons)}")
    return None


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Step and path of each checkpoint in a folder, newest first; of those set aside too."""
    paths = folder.iterdir() if os.path.lexists(folder) else []  # raises where it can't look
    found = []
    for path in paths:
        match = NAME.fullmatch(path.name)
        if match:
            found.append((int(match[1]), path))
    return sorted(found, reverse=True)


def _serialize(step: int, state: dict[str, Any]) -> dict[str, bytes]:
    tensors: dict[str, torch.Tensor] = {}
    record = {"format": FORMAT, "step": step, "state": _pack(state, "state", tensors)}
    files = {STATE: json.dumps(record).encode(), TENSORS: save(tensors)}
    return files | {SUMS: _sums(files)}


def _sums(files: dict[str, bytes]) -> bytes:
    lines = ""
    for name, data in files.items():
        lines += f"{sha256(data).hexdigest()}  {name}\n"
    return lines.encode()


def _read(path: Path, step: int) -> dict[str, Any]:
    """State of one checkpoint; raises what it may if it does not verify."""
    files = {name: (path / name).read_bytes() for name in (STATE, TENSORS)}
    if _sums(files).decode() != (path / SUMS).read_text():  # CRLF is read as well
        raise ValueError(f"its files are not as they were saved ({SUMS} differs)")
    record = json.loads(files[STATE])
    if (record["format"], record["step"]) != (FORMAT, step):
        raise ValueError(f"{STATE} must be {FORMAT!r} of step {step}, "
                         f"got {record['format']!r} of step {record['step']}")
    return _unpack(record["state"], load(files[TENSORS]))


def _pack(value: Any, place: str, tensors: dict[str, torch.Tensor]) -> Any:
    """JSON of a part of the state; dense copies of its tensors go to tensors, by place."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_pack(part, f"{place}[{index}]", tensors) for index, part in enumerate(value)]
    if isinstance(value, dict) and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, _pack(part, f"{place}[{key!r}]", tensors)]
                         for key, part in value.items()]}
    if isinstance(value, torch.Tensor) and value.layout == torch.strided:
        with contextlib.suppress(KeyError, NotImplementedError):  # complex128; without data
            copy = torch.empty(value.shape, dtype=value.dtype, device="cpu")
            copy.copy_(value.detach())
            save({place: copy.new_empty(0)})
            tensors[place] = copy
            return {"tensor": place}
    raise TypeError(f"{place} must be a dict (keys str or int), list, tuple, dense tensor, "
                    f"str, int, float, bool or None, got {type(value)}: {value!r:.200}")


def _unpack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(part, tensors) for part in value]
    if isinstance(value, dict) and "dict" in value:
        return {key: _unpack(part, tensors) for key, part in value["dict"]}
    return tensors[value["tensor"]] if isinstance(value, dict) else value
