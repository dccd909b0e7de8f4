"""Gates on the committed pages: GitHub draws all of them, and nothing tells of a machine.

Each gate gives the problems that it finds; `tools/documents.py update` prints them.
"""

from __future__ import annotations

import base64
import json
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
Gate = Callable[[NotebookNode], list[str]]

FIRST_CELL = ROOT.joinpath("tools", "first_cell.py").read_text(encoding="utf-8").strip()
REPOSITORY = re.compile(r'(?<=REPOSITORY = ")(?:https://github\.com/([\w.-]+/[\w.-]+))?(?=")')
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
DRAWN = {"text/plain", "text/markdown", "text/latex", "image/png"}
MACHINE_PATH = re.compile(
    r"(?<![\w.-])/(?:home|root|tmp|work|Users|private|mnt)\b(?:/\S*)?"
    r"|[A-Z]:\\+Users\S*|\S*(?:site|dist)-packages\S*"
)
MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
ANSI_CODE = re.compile("\x1b")
PROGRESS_BAR = re.compile(r"\r|\d%\||\b(?:it/s|s/it)\b|\[\d+:\d\d<")
FOLDED = re.compile(r"<details>.*?</details>", flags=re.DOTALL)
FENCE = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
FIRST_FENCE = re.compile(r"(?<=^```python\n).*?(?=^```)", flags=re.MULTILINE | re.DOTALL)


# What a notebook consists of


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells that are not empty."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if cell.source.strip()]


def tags(cell: NotebookNode) -> set[str]:
    """The tags of a cell."""
    return set(cell.metadata.get("tags", []))


def outputs(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Every output with the number of its code cell."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        for output in cell.outputs:
            yield number, output


def shown(output: NotebookNode) -> str:
    """The text that an output shows."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join(output.traceback)
    kinds = [kind for kind in sorted(output.data) if kind.startswith("text/")]
    return "\n".join(output.data[kind] for kind in kinds)


def shows(pattern: re.Pattern[str], notebook: NotebookNode) -> list[str]:
    """The first match of a pattern in each output."""
    problems = []
    for number, output in outputs(notebook):
        match = pattern.search(shown(output))
        if match:
            problems.append(f"code cell {number} shows {match[0]!r}")
    return problems


# The gates on a notebook


def no_widgets(notebook: NotebookNode) -> list[str]:
    problems = ["metadata.widgets"] if "widgets" in notebook.metadata else []
    for number, output in outputs(notebook):
        kinds = [kind for kind in output.get("data", {}) if "widget" in kind]
        problems += [f"code cell {number}: {kind}" for kind in kinds]
    return problems


def no_errors(notebook: NotebookNode) -> list[str]:
    found = [(n, output) for n, output in outputs(notebook) if output.output_type == "error"]
    return [f"code cell {number}: {output.ename}" for number, output in found]


def no_stderr(notebook: NotebookNode) -> list[str]:
    found = [(n, output) for n, output in outputs(notebook) if output.get("name") == "stderr"]
    return [f"code cell {number}: {output.text[:80]!r}" for number, output in found]


def drawn_by_github(notebook: NotebookNode) -> list[str]:
    problems = []
    for number, output in outputs(notebook):
        kinds = set(output.get("data", {}))
        allowed = DRAWN | ({"image/svg+xml"} if "image/png" in kinds else set())
        problems += [f"code cell {number}: {kind}" for kind in sorted(kinds - allowed)]
    return problems


def executed_in_order(notebook: NotebookNode) -> list[str]:
    counts = [cell.execution_count for cell in code_cells(notebook)]
    return [] if counts == [*range(1, len(counts) + 1)] else [f"execution counts {counts}"]


def small_file(notebook: NotebookNode) -> list[str]:
    size = len(nbformat.writes(notebook).encode())
    return [f"{size // 1000} KB, allowed are 500 KB"] if size > 500_000 else []


def no_machine_paths(notebook: NotebookNode) -> list[str]:
    sources = [(cell.cell_type, MACHINE_PATH.search(cell.source)) for cell in notebook.cells]
    problems = [f"a {kind} cell has {match[0]!r}" for kind, match in sources if match]
    return problems + shows(MACHINE_PATH, notebook)


def no_memory_addresses(notebook: NotebookNode) -> list[str]:
    return shows(MEMORY_ADDRESS, notebook)


def nothing_for_terminals(notebook: NotebookNode) -> list[str]:
    return shows(ANSI_CODE, notebook) + shows(PROGRESS_BAR, notebook)


def no_software_tag(notebook: NotebookNode) -> list[str]:
    problems = []
    for number, output in outputs(notebook):
        image = base64.b64decode(output.get("data", {}).get("image/png", ""))
        if b"tEXtSoftware\0" in image:
            problems.append(f"code cell {number}: a PNG image with a Software tag")
    return problems


def clean_metadata(notebook: NotebookNode) -> list[str]:
    problems = []
    for number, cell in enumerate(notebook.cells, start=1):
        keys = sorted(set(cell.metadata) - {"tags"})
        if keys:
            problems.append(f"metadata {keys} of cell {number}")
    if notebook.metadata != METADATA:
        problems.append(f"metadata of the notebook: {json.dumps(notebook.metadata)}")
    return problems


def unique_cell_ids(notebook: NotebookNode) -> list[str]:
    ids = [cell.get("id") for cell in notebook.cells]
    return [] if None not in ids and len(set(ids)) == len(ids) else [f"cell ids {ids}"]


def setup_cell_first(notebook: NotebookNode) -> list[str]:
    cells = code_cells(notebook)
    if not cells:
        return ["no code cell"]
    problems = [] if "versions" in tags(cells[0]) else ["code cell 1 has no tag `versions`"]
    return problems + other_first_cell(cells[0].source)


def other_first_cell(source: str) -> list[str]:
    """Whether code is not the set-up cell that all documents share, but for its address."""
    same = REPOSITORY.sub("", source.strip()) == FIRST_CELL
    return [] if same else ["code cell 1 is not tools/first_cell.py: tools/documents.py cells"]


def few_cells(notebook: NotebookNode) -> list[str]:
    count = len(notebook.cells)
    return [f"{count} cells, allowed are 75"] if count > 75 else []


def short_outputs(notebook: NotebookNode) -> list[str]:
    problems = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        lines = sum(len(FOLDED.sub("", shown(output)).splitlines()) for output in cell.outputs)
        if lines > 25 and "source" not in tags(cell):
            problems.append(f"code cell {number} shows {lines} lines, allowed are 25")
    return problems


def short_cells(notebook: NotebookNode) -> list[str]:
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    long = [(number, lines) for number, lines in enumerate(lengths, start=1) if lines > 30]
    return [f"code cell {number}: {lines} lines, allowed are 30" for number, lines in long]


def short_median_cell(notebook: NotebookNode) -> list[str]:
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    median = statistics.median(lengths or [0])
    return [f"the median code cell has {median} lines, allowed are 10"] if median > 10 else []


def listed_source_is_current(notebook: NotebookNode) -> list[str]:
    now = set()
    for file in (ROOT / "mtl_helpers").glob("*.py"):
        now |= {line.strip() for line in file.read_text(encoding="utf-8").splitlines()}
    problems = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        listed = [shown(output) for output in cell.outputs if "source" in tags(cell)]
        old = [line for line in "\n".join(listed).splitlines() if line.strip() not in now]
        problems += [f"code cell {number} lists {line!r}" for line in old]
    return problems


GATES: list[Gate] = [
    no_widgets, no_errors, no_stderr, drawn_by_github, executed_in_order, small_file,
    no_machine_paths, no_memory_addresses, nothing_for_terminals, no_software_tag,
    clean_metadata, unique_cell_ids, setup_cell_first, few_cells, short_outputs,
    short_cells, short_median_cell, listed_source_is_current,
]


# Gates on text, on links and across pages


def markdown_drawn_by_github(text: str) -> list[str]:
    """GitHub draws display formulas in ```math fences, and knows no operatorname."""
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        if "$$" in line or line.lstrip().startswith(r"\["):
            problems.append(f"line {number}: a formula that is not in a math fence")
        if r"\operatorname" in line:
            problems.append(rf"line {number}: \operatorname")
        if MACHINE_PATH.search(line) or ANSI_CODE.search(line):
            problems.append(f"line {number}: a path of the machine or an ANSI code")
    return problems


def text_of(page: Path) -> str:
    """The text of a page without its code: Markdown, or the Markdown cells of a notebook."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return FENCE.sub("", text)
    cells = nbformat.reads(text, as_version=nbformat.NO_CONVERT).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def headings(page: Path) -> list[str]:
    """The headings of a page, without markup."""
    found = re.findall(r"^#{1,6} +(.+?)[ #]*$", text_of(page), flags=re.MULTILINE)
    return [re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading) for heading in found]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings: GitHub's in Markdown, Jupyter's in a notebook."""
    found = headings(page)
    if page.suffix == ".md":
        found = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in found]
    return {heading.replace(" ", "-") for heading in found}


def broken_links(page: Path) -> list[str]:
    """The relative links and images of a page that lead to no file or to no heading."""
    text = text_of(page)
    targets = re.findall(r"\]\(([^)\s]+)[^)]*\)", text)
    targets += re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    problems = []
    for target in targets:
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if re.match(r"[a-z]+:", target):
            continue
        if not file.exists():
            problems.append(f"{target} leads to no file")
        elif anchor and file.suffix in {".md", ".ipynb"} and anchor not in anchors(file):
            problems.append(f"{target} leads to no heading")
    return problems


def failed(page: Path) -> list[str]:
    """Every gate that a page fails, with its name and the problem."""
    text = page.read_text(encoding="utf-8")
    found = {"broken_links": broken_links(page)}
    if page.suffix == ".md":
        found["markdown_drawn_by_github"] = markdown_drawn_by_github(text)
        code = FIRST_FENCE.search(text)
        if code and page.name.startswith("Task_"):
            found["setup_cell_first"] = other_first_cell(code[0])
    else:
        notebook = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
        found |= {gate.__name__: gate(notebook) for gate in GATES}
    pairs = [(name, problem) for name, problems in found.items() for problem in problems]
    return [f"{page.name}, {name}: {problem}" for name, problem in pairs]
