"""Time of the README's first command in a fresh clone: setting up, then each document.

    python -m benchmarks.documents

Writes results/benchmarks/documents.json. pip and the corpus come from their caches where these have
them. Run it on an idle machine.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.common import keep
from experiments.records import RESULTS

ROOT = RESULTS.parent


def measure() -> dict[str, Any]:
    """Seconds of the set-up, then of each document."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        make = ["make", "-C", folder, f"PYTHON={sys.executable}"]
        start = time.perf_counter()
        subprocess.run([*make, ".venv/installed"], check=True, stdout=sys.stderr)
        set_up = time.perf_counter() - start
        told = subprocess.run([*make, "notebooks"], check=True, stdout=subprocess.PIPE, text=True)
    return {"config": {"python": sys.version.split()[0]}, "set_up": round(set_up, 1),
            "documents": {name: int(seconds) for name, seconds in re.findall(
                r"^(Task_\S+): (\d+) s$", told.stdout, flags=re.MULTILINE)}}


if __name__ == "__main__":
    keep("documents", measure())
