"""Records of runs, each with what it was run on: made in build/runs, kept in results.

    python -m experiments.records collect

A run writes its own file, build/runs/STUDY/NAME.json, so that runs can go side by side and be
stopped. `collect` moves them into results/STUDY.jsonl, a line a run. A record is looked for in
both places. results/benchmarks holds a file for each benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Record = dict[str, Any]
RESULTS = Path(__file__).resolve().parent.parent / "results"
RUNS = RESULTS.parent / "build" / "runs"


def environment() -> Record:
    """Versions, processor and threads, for the record of a run."""
    import torch  # not needed by what only reads or collects

    packages = ("torch", "transformers", "sentence-transformers", "scikit-learn", "numpy")
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
        "processor": models[0] if models else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


# One file


def write_whole(path: Path, text: str) -> None:
    """Write a text file; whoever reads it sees the old one or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    with staging.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staging, path)


def write_record(path: Path, record: Record) -> None:
    """Write a record with its environment into a file of its own."""
    write_whole(path, json.dumps(record | {"environment": environment()}, indent=1) + "\n")


def add_record(study: str, name: str, record: Record) -> None:
    """Keep the record of a run in build/runs until it is collected."""
    write_record(RUNS / study / f"{name}.json", record)


def digits(probabilities: np.ndarray) -> str:
    """Probabilities (N, C) as a string, three digits each."""
    return "".join(f"{min(999, round(1000 * p)):03d}" for p in probabilities.ravel().tolist())


def from_digits(text: str, classes: int) -> np.ndarray:
    """Probabilities (N, C), whose rows sum to 1, from the string that `digits` made."""
    values = np.array([int(text[i : i + 3]) for i in range(0, len(text), 3)], dtype=np.float64)
    rows = np.maximum(values.reshape(-1, classes), 0.25)  # what was rounded to 0 is not none
    return rows / rows.sum(axis=1, keepdims=True)


# Reading


def find_record(study: str, name: str) -> Record | None:
    """The record of a run, collected or not; None where there is none."""
    return read_records(study).get(name)


def read_records(study: str) -> dict[str, Record]:
    """All records of a study by name. All who read share them: they are not to be changed.

    What is collected counts, where build/runs has other records of the same names.
    """
    waiting = _files(RUNS / study)  # first: what is collected meanwhile is found below
    return waiting | _files(RESULTS / study) | collected(study)


def collected(study: str) -> dict[str, Record]:
    """The records in results/STUDY.jsonl, in the order of its lines."""
    path = RESULTS / f"{study}.jsonl"
    return _read(path) if path.is_file() else {}


def _files(folder: Path) -> dict[str, Record]:
    found = {}
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(FileNotFoundError):  # just collected
            found[path.stem] = _read(path)
    return found


def _read(path: Path) -> Any:
    now = path.stat()
    return _parsed(path, now.st_mtime_ns, now.st_size)


@functools.cache
def _parsed(path: Path, modified: int, size: int) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    found = {}
    for line in text.splitlines():
        record = json.loads(line)
        found[record.pop("name")] = record
    environments = _read(path.with_name("environments.json"))  # which was written before
    for record in found.values():
        record["environment"] = environments[record["environment"]]
    return found


# Collecting


def collect() -> list[Path]:
    """Move the records of build/runs into results; return files with another record there.

    A file leaves build/runs once its line is on the disk, so that a kill loses nothing. What
    is in results stays as it is. One process collects at a time.
    """
    import fcntl

    RUNS.mkdir(parents=True, exist_ok=True)
    refused = []
    with (RUNS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # free again when the process ends, however it does
        for folder in sorted(path for path in RUNS.iterdir() if path.is_dir()):
            refused += _collect_study(folder)
    return refused


def _collect_study(folder: Path) -> list[Path]:
    there, waiting = collected(folder.name), _files(folder)
    if new := waiting.keys() - there.keys():
        _write_lines(RESULTS / f"{folder.name}.jsonl", waiting | there)
        print(f"{folder.name}: {len(new)} collected")
    refused = []
    for name, record in waiting.items():
        path = folder / f"{name}.json"
        if there.get(name, record) == record:
            path.unlink()
        else:
            refused.append(path)
    return refused


def _write_lines(path: Path, records: dict[str, Record]) -> None:
    """Write a line for each record, and their environments into a file of their own."""
    common = path.with_name("environments.json")
    environments = dict(_read(common)) if common.is_file() else {}
    lines = []
    for name in sorted(records, key=lambda name: _place(name, records[name]["config"])):
        facts = dict(records[name])
        found = facts.pop("environment")
        key = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:8]
        environments[key] = found
        line = {"name": name, "environment": key} | facts
        lines.append(json.dumps(line, separators=(",", ":")) + "\n")
    write_whole(common, json.dumps(environments, indent=1) + "\n")
    write_whole(path, "".join(lines))


def _place(name: str, config: Record) -> tuple[str, float, int, str]:
    """Where a run stands among those of its study: by arm, rate and seed, or else by name."""
    return config.get("arm", name), config.get("encoder_lr", 0), config.get("seed", 0), name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["collect"])
    parser.parse_args()
    refused = collect()
    for path in refused:
        print(f"{path}: results/{path.parent.name}.jsonl has another record of this run; "
              "delete this file or, to take it, that line", file=sys.stderr)
    sys.exit(bool(refused))


if __name__ == "__main__":
    main()
