"""Random kills of training runs: does what goes on end with the weights of what was not killed?

    python -m benchmarks.kills [--kills 200]

Writes results/benchmarks/kills.json: how many kills there were, how many of them inside a save, how
many runs came to their end after them and how many of those had the same weights to the bit.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import keep, parser
from experiments.records import RESULTS
from mtl_helpers.batching import SCHEDULES

SCRIPT = RESULTS.parent / "tests" / "training_process.py"


def main() -> None:
    each = parser(__doc__, kills=200).parse_args().kills // len(SCHEDULES)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, SCRIPT, "kill", folder, str(each), str(each // 4),
                        *SCHEDULES], check=True)
        report = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
    kills, runs = report["kills"], report["runs"]
    keep("kills", {
        "config": {"schedules": list(SCHEDULES), "of_each": each}, "kills": len(kills),
        "inside_a_save": sum(kill["inside"] for kill in kills),
        "steps_lost": max(kill["told"] - kill["found"] for kill in kills),
        "runs": len(runs), "same_weights": sum(run["same"] for run in runs)})


if __name__ == "__main__":
    main()
