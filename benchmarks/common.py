"""What the benchmarks share: options, contestants in turn, the memory of a process, the record."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from experiments.records import RESULTS, write_record

Name = TypeVar("Name")
Found = TypeVar("Found")


def parser(told: str, **numbers: int) -> argparse.ArgumentParser:
    """A parser of options that are whole numbers, each with what it is where none is given."""
    made = argparse.ArgumentParser(description=told.splitlines()[0])
    for name, default in numbers.items():
        made.add_argument(f"--{name}", type=int, default=default, help=f"{default} if not given")
    return made


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def interleaved(contestants: Mapping[Name, Callable[[], Found]], rounds: int,
                warm_up: int = 1) -> dict[Name, list[Found]]:
    """What each contestant gives in each round, without the rounds that warm up.

    A round runs every contestant once, so that a slow moment of the machine meets all of them.
    """
    found: dict[Name, list[Found]] = {name: [] for name in contestants}
    for _ in range(warm_up + rounds):
        for name, run in contestants.items():
            found[name].append(run())
    return {name: values[warm_up:] for name, values in found.items()}


def median(values: Sequence[float]) -> float:
    return float(np.median(values))


def median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """The median over the rounds of the ratio of two contestants."""
    return median(np.divide(values, others).tolist())


def peak_memory(module: str, *arguments: str) -> int:
    """Peak resident memory (bytes) of a fresh process that runs a module.

    To be called first, while this process is small: Linux lets a child begin at its parent's peak.
    """
    command = [sys.executable, "-m", module, *arguments]
    _, status, usage = os.wait4(os.posix_spawn(sys.executable, command, os.environ), 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed")
    return usage.ru_maxrss if sys.platform == "darwin" else 1024 * usage.ru_maxrss


def keep(name: str, record: dict[str, Any]) -> None:
    """Write the record of a benchmark into results/benchmarks, and show it."""
    write_record(RESULTS / "benchmarks" / f"{name}.json", record)
    print(json.dumps(record, indent=1))
