"""Execute the documents of the series, rewrite them, and compare them with a fresh run.

    run               execute into build/, and say how long each document took
    update            execute, rewrite the committed notebooks, and say which gates fail
    check             execute, and compare with the committed notebooks
    repository URL    set the public address in every document and in the README
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import struct
import sys
import tempfile
import time
from pathlib import Path

import gates
import jupytext
import matplotlib.font_manager  # noqa: F401  (its first import on a machine prints a notice)
import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter, MarkdownExporter, NotebookExporter
from nbconvert.writers import FilesWriter
from nbformat import NotebookNode

ROOT = gates.ROOT
DOCUMENTS = ("Task_1.ipynb", "Task_2.ipynb", "Task_3.md", "Task_4.ipynb")

EXEMPT_TAGS = {"versions", "timing"}  # what these cells print depends on the machine
TOLERANCE = 1e-3
TOLERANCES = {"training": 0.02, "points": 2.0}  # by tag: live scores, as shares and in points
IMAGE_TOLERANCE = 0.1  # share of the width and of the height

NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
URL = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")

KERNEL_ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # what tqdm says without widgets
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}

NO_NETWORK = """import socket

def refuse(*_, **__):
    raise OSError("documents run without a network once the series is set up")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


class ThisPythonKernel(AsyncKernelManager):
    """A kernel of the Python that runs this file, whichever kernels are registered."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        command.append("--log-level=ERROR")
        return KernelSpec(argv=command, language="python", display_name="Python 3")


def existing(root: Path = ROOT) -> list[Path]:
    """The documents that are written so far, in reading order."""
    return [root / name for name in DOCUMENTS if (root / name).is_file()]


def read(path: Path) -> NotebookNode:
    """A document as a notebook; in Markdown the plain `python` fences are the code cells."""
    if path.suffix != ".md":
        return nbformat.read(path, as_version=4)
    notebook = jupytext.read(path)
    for number, cell in enumerate(notebook.cells):
        if cell.source.startswith("%%"):  # a fence in another language, which stays text
            text = f"```{cell.source.removeprefix('%%')}\n```"
            notebook.cells[number] = nbformat.v4.new_markdown_cell(text)
    return notebook


def without_software(png: bytes) -> bytes:
    """A PNG file without the text that names the program that wrote it."""
    kept, position = [png[:8]], 8
    while position < len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        chunk = png[position : position + 12 + length]  # length, type, data, checksum
        if not chunk[4:].startswith(b"tEXtSoftware\0"):
            kept.append(chunk)
        position += len(chunk)
    return b"".join(kept)


def clean(notebook: NotebookNode) -> None:
    """Remove what differs between machines or runs without being content."""
    notebook.metadata = nbformat.from_dict(gates.METADATA)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        for output in cell.get("outputs", []):
            png = output.get("data", {}).get("image/png")
            if png:
                stripped = without_software(base64.b64decode(png))
                output.data["image/png"] = base64.b64encode(stripped).decode() + "\n"


def write_build(path: Path, notebook: NotebookNode) -> None:
    """Write an executed document into the folder `build` beside it: as it is, and as HTML."""
    same = MarkdownExporter() if path.suffix == ".md" else NotebookExporter()
    for exporter in (same, HTMLExporter(embed_images=True)):
        exporter.log.setLevel("ERROR")  # it asks for a description of each figure
        where = {"name": path.stem, "path": str(path.parent)}
        resources = {"metadata": where, "unique_key": path.stem, "output_files_dir": path.stem}
        text, resources = exporter.from_notebook_node(notebook, resources)
        writer = FilesWriter(build_directory=str(path.parent / "build"))
        writer.write(text, resources, path.stem)


def run(path: Path, offline: bool = False) -> NotebookNode:
    """Execute a document in a fresh kernel in its folder, and write it into `build`.

    `offline` keeps the kernel off the network, so that the outputs do not depend on whether
    the machine has internet. Where a cell raises, `build` has the document up to that cell.
    """
    notebook = read(path)
    client = NotebookClient(
        notebook, kernel_name="python3", kernel_manager_class=ThisPythonKernel,
        timeout=None, startup_timeout=300, store_widget_state=False, record_timing=False,
        coalesce_streams=True,
    )
    try:
        with tempfile.TemporaryDirectory() as profile:
            environment = os.environ | KERNEL_ENVIRONMENT | {"IPYTHONDIR": profile}
            if offline:
                Path(profile, "sitecustomize.py").write_text(NO_NETWORK)
                environment |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": profile}
            client.execute(cwd=str(path.parent), env=environment)
    finally:
        clean(notebook)
        write_build(path, notebook)
    return notebook


def do(verb: str, path: Path) -> list[str]:
    """Run, update or check one document, and give what went wrong or differs.

    Markdown keeps no outputs, so there is nothing in it to rewrite or to compare.
    """
    try:
        fresh = run(path, offline=verb != "run")
    except CellExecutionError as error:
        return [str(error)]
    if verb == "update" and path.suffix == ".ipynb":
        nbformat.write(fresh, path)
    if verb == "check" and path.suffix == ".ipynb":
        return compare(read(path), fresh)
    return []


def compare(committed: NotebookNode, fresh: NotebookNode) -> list[str]:
    """The differences between the outputs of two runs of the same cells, one line for each."""
    problems = []
    pairs = zip(committed.cells, fresh.cells, strict=True)
    for number, (old, new) in enumerate(pairs, start=1):
        tags = set(old.metadata.get("tags", []))
        if old.cell_type != "code" or tags & EXEMPT_TAGS:
            continue
        before, after = contents(old), contents(new)
        if list(before) != list(after):
            problems.append(f"cell {number}: shows {list(after)}, committed {list(before)}")
        tolerance = max([TOLERANCES[tag] for tag in tags & TOLERANCES.keys()], default=TOLERANCE)
        for kind in [kind for kind in before if kind in after]:
            if kind.endswith("image/png"):
                difference = image_difference(before[kind], after[kind])
            else:
                difference = text_difference(before[kind], after[kind], tolerance)
            if difference:
                problems.append(f"cell {number}, {kind}: {difference}")
    return problems


def contents(cell: NotebookNode) -> dict[str, str]:
    """What a code cell shows: {number of the output and its kind: text or encoded image}."""
    found = {}
    for number, output in enumerate(cell.outputs, start=1):
        if output.output_type == "stream":
            found[f"output {number} {output.name}"] = output.text
        for kind, data in sorted(output.get("data", {}).items()):
            found[f"output {number} {kind}"] = str(data)
    return found


def text_difference(committed: str, fresh: str, tolerance: float) -> str:
    """The first line whose words differ at all, or whose numbers differ more than allowed."""
    old_lines, new_lines = committed.splitlines(), fresh.splitlines()
    if len(old_lines) != len(new_lines):
        return f"{len(new_lines)} lines, committed are {len(old_lines)}"
    for old, new in zip(old_lines, new_lines, strict=True):
        pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=False)
        near = all(abs(float(a) - float(b)) <= tolerance + 1e-9 for a, b in pairs)
        if words(old) != words(new) or not near:
            return f"{new.strip()!r}, committed is {old.strip()!r} (tolerance {tolerance:g})"
    return ""


def words(line: str) -> list[str]:
    """What stands between the numbers of a line, with single spaces."""
    return [" ".join(part.split()) for part in NUMBER.split(line)]


def image_difference(committed: str, fresh: str) -> str:
    """Whether two PNG images differ in width or height by more than allowed."""
    old, new = size(committed), size(fresh)
    if any(abs(a - b) > IMAGE_TOLERANCE * a for a, b in zip(old, new, strict=True)):
        return f"an image of {new[0]}x{new[1]} pixels, committed is {old[0]}x{old[1]}"
    return ""


def size(image: str) -> tuple[int, int]:
    """Width and height of an encoded PNG image in pixels."""
    width, height = struct.unpack(">II", base64.b64decode(image)[16:24])
    return width, height


def failed_gates(root: Path = ROOT) -> list[str]:
    """Every gate that the pages of a folder and the docstrings beside them fail."""
    pages = [root / "README.md", root / "CONTRIBUTING.md", *existing(root)]
    pages = [page for page in pages if page.is_file()]
    problems = gates.different_addresses(pages)
    for page in pages:
        problems += gates.failed(page)
    for path in sorted((root / "mtl_helpers").glob("*.py")):
        dangling = gates.dangling_pointers(path.read_text(encoding="utf-8"), root)
        problems += [f"{path.name}: {problem}" for problem in dangling]
    return problems


def set_repository(url: str, root: Path = ROOT) -> None:
    """Replace the public address in every document and in the README."""
    match = URL.fullmatch(url)
    if not match:
        raise SystemExit(f"URL must be like https://github.com/OWNER/NAME, and it is {url!r}")
    paths = [path for path in [root / "README.md", *existing(root)] if path.is_file()]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    for old in {address for text in texts.values() for address in gates.ADDRESS.findall(text)}:
        place = re.compile(rf"(?<=/){re.escape(old)}(?![\w-])")
        texts = {path: place.sub(match[1], text) for path, text in texts.items()}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(gates.ADDRESS.findall(text))} places")


def main(arguments: list[str] | None = None, root: Path = ROOT) -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("verb", choices=["run", "update", "check", "repository"])
    parser.add_argument("names", nargs="*")
    verb, names = vars(parser.parse_args(arguments)).values()
    if verb == "repository":
        return set_repository(" ".join(names), root)
    failures = 0
    for path in [root / name for name in names] or existing(root):
        started = time.perf_counter()
        problems = do(verb, path)
        seconds = time.perf_counter() - started
        print(f"{path.name}: {seconds:.0f} s", *problems, sep="\n", flush=True)
        failures += bool(problems)
    failed = failed_gates(root) if verb == "update" else []
    print(*failed, sep="\n", end="\n" if failed else "")
    if failures or failed:
        sys.exit(f"{failures} of the documents failed, and {len(failed)} gates")


if __name__ == "__main__":
    main()
