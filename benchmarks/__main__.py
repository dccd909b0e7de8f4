"""Set-up and documents, then the rivals beside ours, each with its table: `make bench` runs this.

Each benchmark writes its record into results/benchmarks. Run it on an idle machine.
"""

from __future__ import annotations

import subprocess
import sys

from experiments import benchmark_tables, readme, task_3

TABLES = {"documents": readme.documents, "encode": benchmark_tables.encode_speed,
          "train": benchmark_tables.training_speed, "freezing": task_3.speeds}

for name, table in TABLES.items():
    print(f"\n{name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True,
                   stdout=subprocess.DEVNULL)
    print(table(), flush=True)
