"""Checkpoints that are there whole or not at all: written aside, verified, renamed; no pickle.

`step-00000125` has `tensors.safetensors`, `state.json` (all else) and, of both, `SHA256SUMS`.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

FORMAT = "mtl_helpers checkpoint 1"
TENSORS, STATE, SUMS = "tensors.safetensors", "state.json", "SHA256SUMS"
NAME = re.compile(r"(?:\.old-)?step-([0-9]{8,})(?:-[0-9a-f]{32})?")
FAULTS = (OSError, ValueError, TypeError, KeyError)  # that reading a broken checkpoint raises
logger = logging.getLogger(__name__)


def save_checkpoint(folder: str | Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write the state after `step` optimizer steps as one new sub-folder, complete or not at all.

    Args:
        folder: where the checkpoints are, made if missing; one process at a time may save there.
        step: optimizer steps so far; a checkpoint of the same step is replaced.
        state: nested dicts (keys str or int), lists, tuples, tensors, str, int, float, bool, None.
        keep: how many that verify, with this one, must be there before an older one is removed.

    Raises:
        TypeError: if state holds anything else; names its place, such as state['optimizer'][0].
        OSError: if it could not be saved; names folder, and all that was there still is.
    """
    if type(step) is not int or step < 0 or type(keep) is not int or keep < 1:
        raise ValueError(f"step must be an int >= 0 and keep an int >= 1, got {step!r}, {keep!r}")
    target, files = Path(folder, f"step-{step:08d}"), _serialize(step, state)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for unfinished in target.parent.glob(".new-step-*"):  # of killed saves; may fill the disk
            shutil.rmtree(unfinished, ignore_errors=True)
        _place(target, step, files)
        _remove_older(target.parent, step, keep)
    except (OSError, ValueError) as error:
        raise OSError(getattr(error, "errno", None) or errno.EIO,
                      f"step {step} could not be saved ({error})", str(folder)) from error
    return target


def load_checkpoint(folder: str | Path) -> tuple[int, dict[str, Any]] | None:
    """The newest checkpoint that verifies: (step, state); None where there is none at all.

    Tuples come back as lists, tensors on the CPU. A broken checkpoint is logged and skipped.

    Raises:
        ValueError: if there are checkpoints in folder but none verifies.
    """
    reasons = []
    for step, path in _find(Path(folder)) if os.path.lexists(folder) else []:
        try:
            return step, _read(path, step)
        except FAULTS as error:
            logger.warning("%s is broken and was skipped: %s", path, error)
            reasons.append(f"{path.name}: {error}")
    if reasons:
        raise ValueError(f"folder {folder} has no checkpoint that verifies: {'; '.join(reasons)}")
    return None


def _serialize(step: int, state: dict[str, Any]) -> dict[str, bytes]:
    tensors: dict[str, torch.Tensor] = {}
    record = {"format": FORMAT, "step": step, "state": _pack(state, "state", tensors)}
    files = {STATE: json.dumps(record).encode(), TENSORS: save(tensors)}
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()]
    return files | {SUMS: "".join(sums).encode()}


def _pack(value: Any, place: str, tensors: dict[str, torch.Tensor]) -> Any:
    """JSON of a part of the state; dense copies of its tensors go to tensors, by their place."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_pack(part, f"{place}[{index}]", tensors) for index, part in enumerate(value)]
    if isinstance(value, dict) and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, _pack(part, f"{place}[{key!r}]", tensors)]
                         for key, part in value.items()]}
    try:
        copy = torch.empty(value.shape, dtype=value.dtype, device="cpu").copy_(value.detach())
        save({place: copy.new_empty(0)})
    except (AttributeError, TypeError, KeyError, RuntimeError) as error:
        raise TypeError(f"{place} must be a dict (keys str or int), list, tuple, dense tensor, str,"
                        f" int, float, bool or None, got {type(value)}: {value!r}"[:300]) from error
    tensors[place] = copy
    return {"tensor": place}


def _unpack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(part, tensors) for part in value]
    if isinstance(value, dict) and "dict" in value:
        return {key: _unpack(part, tensors) for key, part in value["dict"]}
    return tensors[value["tensor"]] if isinstance(value, dict) else value


def _read(path: Path, step: int) -> dict[str, Any]:
    """State of one checkpoint; raises one of FAULTS if it does not verify."""
    sums = (path / SUMS).read_text(encoding="utf-8")
    files = {name: (path / name).read_bytes() for name in (STATE, TENSORS)}
    for name, data in files.items():
        if f"{hashlib.sha256(data).hexdigest()}  {name}\n" not in sums:
            raise ValueError(f"{name} or {SUMS} is not as it was saved (sha256 differs)")
    record = json.loads(files[STATE])
    if (record["format"], record["step"]) != (FORMAT, step):
        raise ValueError(f"{STATE} must be {FORMAT!r} of step {step}, got {str(record)[:60]}")
    return _unpack(record["state"], load(files[TENSORS]))


def _place(target: Path, step: int, files: dict[str, bytes]) -> None:
    """Write and verify the files in a hidden folder, then give it the place of target."""
    hidden = f"{target.name}-{uuid.uuid4().hex}"
    new, old = target.with_name(f".new-{hidden}"), target.with_name(f".old-{hidden}")
    try:
        new.mkdir()
        for name, data in files.items():
            (new / name).write_bytes(data)
            _flush(new / name)
        _flush(new)
        _read(new, step)
        if target.exists():
            target.rename(old)
        new.rename(target)
        _flush(target.parent)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _find(folder: Path) -> list[tuple[int, Path]]:
    """(step, path), newest first; includes what a save killed between its two renames set aside."""
    matches = [(NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted([(int(match[1]), path) for match, path in matches if match], reverse=True)


def _remove_older(folder: Path, step: int, keep: int) -> None:
    verified = {step}
    for other, path in _find(folder):
        if other < step and len(verified) >= keep:
            shutil.rmtree(path, ignore_errors=True)  # half of one never verifies
        elif other < step:
            with contextlib.suppress(*FAULTS):
                _read(path, other)
                verified.add(other)


def _flush(path: Path) -> None:
    """Bring a file, or the entries of a folder, to disk."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
