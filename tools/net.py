"""Does a rewrite of the package compute the same, to the last bit?

    python tools/net.py OLD NEW [--without NAME ...]

Each checkout's package runs all that `net_worker.py` lists, in processes of one thread, and
every number is compared. A name to leave out is a group, such as synthetic, or a pattern of
items or values, such as "freezing/*table". The exit status is 1 if anything differs.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

WORKER = Path(__file__).resolve().with_name("net_worker.py")
Values = dict[str, Any]  # arrays, and text for all that is no number, by place
SETTINGS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"}


def run_side(checkout: Path, scratch: Path, without: list[str]) -> dict[str, Values]:
    """{item: its values} of one checkout, from a process alone and from two together.

    Args:
        scratch: the folder to work in, made here; its name is that of the side.
    """
    scratch.mkdir()
    environment = os.environ | SETTINGS | {"PYTHONPATH": str(checkout)}
    worker = [str(WORKER), str(checkout), str(scratch), *without]
    commands = [[sys.executable, *worker]]
    if "trainings" not in without:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        commands.append([sys.executable, *torchrun, *worker])
    started = time.monotonic()
    for command in commands:
        done = subprocess.run(command, env=environment, cwd=scratch, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout}")
    print(f"{scratch.name} ({checkout}): {time.monotonic() - started:.0f} s", flush=True)
    found: dict[str, Values] = {}
    for path in sorted(scratch.glob("*.npz")):
        with np.load(path) as arrays:
            names, *values = (arrays[f"arr_{i}"] for i in range(len(arrays.files)))
        for (item, place), value in zip(json.loads(str(names)), values, strict=True):
            found.setdefault(item, {})[place] = str(value) if value.dtype.kind == "U" else value
    return found


def difference(old: Any, new: Any) -> str | None:
    """How far apart two values are; None if they are equal to the last bit."""
    for one, other in ((old, new), (new, old)):
        if one is None:
            return f"only in the {'new' if one is old else 'old'} one: {other!r:.60}"
    if isinstance(old, str) or isinstance(new, str):
        return None if str(old) == str(new) else texts(str(old), str(new))
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f"{old.dtype} {old.shape} is now {new.dtype} {new.shape}"
    if old.tobytes() == new.tobytes():
        return None
    first, second = old.astype(float), new.astype(float)
    gaps = np.where(np.isnan(first) & np.isnan(second), 0, np.abs(first - second))
    places = np.flatnonzero(gaps != 0)
    if not len(places):
        return "the same numbers with other bits (-0.0 or a kind of NaN)"
    return (f"{len(places)} of {gaps.size} numbers, first at {places[0]} "
            f"({first.flat[places[0]]:.17g} is now {second.flat[places[0]]:.17g}), "
            f"by up to {gaps.max():.3g}")


def texts(old: str, new: str) -> str:
    """Two texts from shortly before where they begin to differ."""
    start = max(0, len(os.path.commonprefix([old, new])) - 20)
    return f"{old[start : start + 70]!r} is now {new[start : start + 70]!r}"


def compare(old: dict[str, Values], new: dict[str, Values], without: list[str]) -> bool:
    """Print what differs and a table of the groups; whether all is equal."""
    table: dict[str, dict[str, int]] = {}
    digests: dict[str, Any] = {}
    for item in old | new:
        group = item.split("/")[0]
        row = table.setdefault(group, {"items": 0, "values": 0, "differ": 0})
        digest = digests.setdefault(group, hashlib.sha256())
        wrong = []
        for place in old.get(item, {}) | new.get(item, {}):
            if any(fnmatch(f"{item}{place}", pattern) for pattern in without):
                continue
            pair = old.get(item, {}).get(place), new.get(item, {}).get(place)
            row["values"] += 1
            digest.update(f"{item}{place}".encode() + np.asarray(pair[0]).tobytes())
            gap = f"{pair[0]}, {pair[1]}" if place == "/raised" else difference(*pair)
            if gap:
                wrong.append(f"    {place[1:] or 'value'}: {gap}")
        row["items"] += 1
        row["differ"] += bool(wrong)
        if wrong:
            print(f"{item}: {len(wrong)} values differ", *wrong[:5], sep="\n")
    print(f"{'group':12} {'items':>6} {'values':>7} {'differ':>7}  sha256 of the old values")
    for group, row in table.items():
        print(f"{group:12} {row['items']:6} {row['values']:7} {row['differ']:7}  "
              f"{digests[group].hexdigest()[:16]}")
    return not any(row["differ"] for row in table.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        old = run_side(given.old.resolve(), Path(scratch, "old"), given.without)
        new = run_side(given.new.resolve(), Path(scratch, "new"), given.without)
    sys.exit(0 if compare(old, new, given.without) else 1)


if __name__ == "__main__":
    main()
