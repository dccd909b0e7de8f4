"""The code blocks of README.md and CONTRIBUTING.md run as they stand, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUN = """import json, sys
for number, block in enumerate(json.load(sys.stdin), 1):
    print("block", number, flush=True)
    exec(compile(block, f"block {number}", "exec"), {"__name__": "__main__"})
"""


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.mark.parametrize(("page", "count"), [("README.md", 10), ("CONTRIBUTING.md", 1)])
def test_python_blocks_run(page: str, count: int, tmp_path: Path) -> None:
    found = blocks(page, "python")
    assert len(found) >= count
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(found), cwd=tmp_path, timeout=400, text=True,
        capture_output=True, env=os.environ | {"TQDM_DISABLE": "1", "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    assert done.stdout.count("block ") == len(found)


def test_commands_name_modules_and_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for module in re.findall(r"python -m ((?:experiments|benchmarks)\.\w+)", text):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
        for target in re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", text, flags=re.M):
            name = next(filter(None, target))
            assert re.search(rf"^{name}:", makefile, flags=re.M), name
