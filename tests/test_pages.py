"""The code blocks of README.md and CONTRIBUTING.md run as they stand, in an empty folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import documents
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = {name: (ROOT / name).read_text(encoding="utf-8")
         for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")}
SORTS = {"sort", "argsort", "sort_values"}
NEVER_STABLE = {"argpartition", "topk"}


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGES[page], flags=re.M | re.S)


@pytest.mark.parametrize(("page", "count"), [("README.md", 1), ("CONTRIBUTING.md", 1)])
def test_python_blocks_run(
        page: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(blocks(page)) >= count
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), {"__name__": "__main__"})


def test_commands_name_modules_and_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in PAGES.values():
        for module in re.findall(r"python -m ((?:experiments|benchmarks)\.\w+)", text):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
        for target in re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", text, flags=re.M):
            name = next(filter(None, target))
            assert re.search(rf"^{name}:", makefile, flags=re.M), name


# Sorts are the same on every processor


def unstable_sorts(source: str) -> list[str]:
    """The calls that may put equal values in another order where a processor sorts otherwise."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            stable = {"kind='stable'", "stable=True"} & set(map(ast.unparse, call.keywords))
            if name in NEVER_STABLE or (name in SORTS and not stable):
                found.append(ast.unparse(call))
    return found


def test_every_sort_is_stable() -> None:
    sources = {}
    for folder in ("mtl_helpers", "experiments", "benchmarks", "tools", "tests"):
        for path in sorted((ROOT / folder).glob("*.py")):
            sources[f"{folder}/{path.name}"] = path.read_text(encoding="utf-8")
    for path in documents.existing():
        cells = [cell for cell in documents.read(path).cells if cell.cell_type == "code"]
        sources[path.name] = "\n".join(cell.source for cell in cells)
    for page in ("README.md", "CONTRIBUTING.md"):
        sources[page] = "\n".join(blocks(page))
    assert len(sources) > 50 and all(map(str.strip, sources.values()))
    for name, source in sources.items():
        assert unstable_sorts(source) == [], f"{name}: sort stably, lists by sorted()"


@pytest.mark.parametrize(("source", "found"), [
    ("numpy.argsort(-confidence)[:6]", True), ("np.sort(rows, kind='quicksort')", True),
    ("lengths.argsort()", True), ("values.sort()", True), ("torch.sort(x, descending=True)", True),
    ("scores.topk(3)", True), ("np.argpartition(x, 3)", True),
    ("from numpy import argsort\nargsort(x)", True),
    ("np.argsort(x, kind='stable')", False), ("torch.argsort(x, stable=True)", False),
    ("sorted(x)", False), ("np.lexsort((x, y))", False)])
def test_an_unstable_sort_is_found(source: str, found: bool) -> None:
    assert bool(unstable_sorts(source)) == found
