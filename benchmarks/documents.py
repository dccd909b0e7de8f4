"""Time of setting up from a clone, and of executing each document.

    python -m benchmarks.documents

Writes results/benchmarks/documents.json. The clone is installed by its own Makefile, from pip's
cache where that has the packages; the corpus is there already. Run it on an idle machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from typing import Any

from experiments.records import RESULTS, write_record

ROOT = RESULTS.parent


def timed(command: list[str]) -> float:
    """Seconds of a command in the repository, which must succeed."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    return round(time.perf_counter() - start, 1)


def measure() -> dict[str, Any]:
    """Seconds of the set-up, then of each document."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        set_up = timed(["make", "-C", folder, f"PYTHON={sys.executable}", ".venv/installed"])
    names = sorted(path.name for path in ROOT.glob("Task_*.*"))
    return {"config": {"python": sys.version.split()[0]}, "set_up": set_up,
            "documents": {name: timed([sys.executable, "tools/documents.py", "run", name])
                          for name in names}}


if __name__ == "__main__":
    record = measure()
    write_record(RESULTS / "benchmarks" / "documents.json", record)
    print(json.dumps(record, indent=1))
