"""Records of runs: one JSON file each, written whole or not at all, with what they were run on."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent.parent / "results"


def environment() -> dict[str, Any]:
    """Versions, processor and threads, for the record of a run."""
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


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record with its environment; a reader sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(record | {"environment": environment()}, indent=1)
    staging.write_text(text + "\n", encoding="utf-8")
    os.replace(staging, path)


def read_record(path: Path) -> dict[str, Any]:
    """The record in one file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_records(folder: str) -> dict[str, dict[str, Any]]:
    """All records of a folder in `results`, by file name without its ending."""
    return {path.stem: read_record(path) for path in sorted((RESULTS / folder).glob("*.json"))}
