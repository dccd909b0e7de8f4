"""Time of the README's first command in a fresh clone: setting up, then each document.

    python -m benchmarks.documents [--without-avx512]

Writes results/benchmarks/documents.json or, without AVX-512, documents-avx2.json; a processor that
has it leaves it alone then, bfloat16 included. pip and the corpus come from their caches where
these have them. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import keep
from experiments.records import RESULTS

ROOT = RESULTS.parent
WITHOUT = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
           "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
NO_BFLOAT16 = "import torch\ntorch.cpu._is_avx512_bf16_supported = lambda: False\n"


def measure(without_avx512: bool) -> dict[str, Any]:
    """Seconds of the set-up, then of each document."""
    os.environ.update(WITHOUT if without_avx512 else {})  # before torch is imported, here too
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as patch:
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        make = ["make", "-C", folder, f"PYTHON={sys.executable}"]
        start = time.perf_counter()
        subprocess.run([*make, ".venv/installed"], check=True, stdout=sys.stderr)
        set_up = time.perf_counter() - start
        if without_avx512:  # make starts every Python without PYTHONPATH
            Path(patch, "sitecustomize.py").write_text(NO_BFLOAT16)
            make.append(f"RUN=PYTHONPATH={patch} .venv/bin/python")
        told = subprocess.run([*make, "notebooks"], check=True, stdout=subprocess.PIPE, text=True)
    return {"config": {"python": sys.version.split()[0], "without_avx512": without_avx512},
            "set_up": round(set_up, 1),
            "documents": {name: int(seconds) for name, seconds in re.findall(
                r"^(Task_\S+): (\d+) s$", told.stdout, flags=re.MULTILINE)}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without-avx512", action="store_true")
    without = parser.parse_args().without_avx512
    keep("documents-avx2" if without else "documents", measure(without))
