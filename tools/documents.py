"""Execute the documents of the series, rewrite them, and compare them with a fresh run.

    run               execute into build/, and say how long each document took
    update            execute, rewrite the committed notebooks, and say which gates fail
    check             execute, and compare with the committed notebooks
    cells             write tools/first_cell.py into every document, with README's address
    repository [URL]  set the public address, by default git's origin, in cells and badges
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import comparison
import gates
import jupytext
import matplotlib.font_manager  # noqa: F401  (its first import on a machine prints a notice)
import nbformat
import page_gates
import printed
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter, MarkdownExporter, NotebookExporter
from nbconvert.writers import FilesWriter
from nbformat import NotebookNode

ROOT = gates.ROOT
DOCUMENTS = ("Task_1.ipynb", "Task_2.ipynb", "Task_3.md", "Task_4.ipynb")

URL = re.compile(  # https or ssh
    r"(?:https://(?:\w+@)?|ssh://git@|git@)github\.com[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?")
BADGE = ("[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
         "(https://colab.research.google.com/github/{}/blob/main/{})")
BADGES = re.compile(r"\n\n\[!\[[^\n]*colab\.research\.google\.com/github/[^\n]*")

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
        elif cell.source.strip() == gates.FIRST_CELL:
            cell.metadata["tags"] = ["versions"]  # as in the notebooks
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


def as_html(notebook: NotebookNode, path: Path) -> str:
    """The document at a path as one HTML page, which holds the figures that its text names.

    The exporter's own `embed_images` would close each <details> before what it holds.
    """
    exporter = HTMLExporter()
    exporter.log.setLevel("ERROR")  # it asks for a description of each figure
    html, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})

    def embedded(match: re.Match[str]) -> str:
        png = base64.b64encode((path.parent / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{png}"'

    return re.sub(r'src="([\w/-]+\.png)"', embedded, html)


def write_build(path: Path, notebook: NotebookNode) -> None:
    """Write an executed document into the folder `build` beside it: as it is, and as HTML."""
    build = path.parent / "build"
    exporter = MarkdownExporter() if path.suffix == ".md" else NotebookExporter()
    resources = {"unique_key": path.stem, "output_files_dir": path.stem}
    text, resources = exporter.from_notebook_node(notebook, resources)
    FilesWriter(build_directory=str(build)).write(text, resources, path.stem)
    (build / f"{path.stem}.html").write_text(as_html(notebook, path), encoding="utf-8")


def run(path: Path, offline: bool = False) -> NotebookNode:
    """Execute a document in a fresh kernel in its folder, and write it into `build`.

    `offline` keeps the kernel off the network and off a GPU, so that the outputs do not depend
    on what the machine has. Where a cell raises, `build` has the document up to that cell.
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
                environment |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": profile,
                                "MTL_HELPERS_DEVICE": "cpu"}
            client.execute(cwd=str(path.parent), env=environment)
    finally:
        clean(notebook)
        write_build(path, notebook)
    return notebook


def do(verb: str, path: Path) -> list[str]:
    """Run, update or check one document, and give what went wrong or differs.

    Of Markdown it is what the code printed that is rewritten or compared.
    """
    try:
        fresh = run(path, offline=verb != "run")
    except CellExecutionError as error:
        return [str(error)]
    if verb == "update" and path.suffix == ".ipynb":
        nbformat.write(fresh, path)
    if verb == "check" and path.suffix == ".ipynb":
        return comparison.compare(read(path), fresh)
    if path.suffix == ".md" and verb != "run":
        text = path.read_text(encoding="utf-8")
        if verb == "check":
            return comparison.compare(with_outputs(read(path), printed.printed(text)), fresh)
        path.write_text(printed.with_printed(text, printed.fresh(fresh)), encoding="utf-8")
    return []


def with_outputs(notebook: NotebookNode, texts: list[str | None]) -> NotebookNode:
    """A notebook made of Markdown, with what the page says that its code printed."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, text in zip(cells, texts, strict=True):
        stream = nbformat.v4.new_output("stream", name="stdout", text=text or "")
        cell.outputs = [stream] if text else []
    return notebook


def failed_gates(root: Path = ROOT) -> list[str]:
    """Every gate that the pages of a folder and the docstrings beside them fail."""
    texts = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")
    pages = [*(root / name for name in texts), *existing(root)]
    pages = [page for page in pages if page.is_file()]
    problems = page_gates.different_addresses(pages)
    for page in pages:
        problems += gates.failed(page) + page_gates.failed(page)
    for path in sorted((root / "mtl_helpers").glob("*.py")):
        dangling = page_gates.dangling_pointers(path.read_text(encoding="utf-8"), root)
        problems += [f"{path.name}: {problem}" for problem in dangling]
    return problems


def public_address(url: str, root: Path = ROOT) -> str:
    """OWNER/NAME of an address, or of git's origin where it is empty."""
    if not url:
        command = ["git", "-C", str(root), "remote", "get-url", "origin"]
        url = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    match = URL.fullmatch(url)
    if not match:
        raise SystemExit(f"URL must be like https://github.com/OWNER/NAME, and it is {url!r}")
    return match[1]


def write_cells(address: str, root: Path = ROOT) -> None:
    """Write the set-up cell into every document, with OWNER/NAME or without an address.

    With one, README and the notebooks get a badge below their title, and without one none.
    """
    cell = gates.FIRST_CELL
    if address:
        cell = gates.REPOSITORY.sub(f"https://github.com/{address}", cell)
    for path in existing(root):
        if path.suffix == ".md":
            path.write_text(with_first_fence(path.read_text(encoding="utf-8"), cell), "utf-8")
        else:
            notebook = read(path)
            with_first_cell(notebook, cell)
            title = notebook.cells[0]
            title.source = with_badge(title.source, address, path.name)
            nbformat.write(notebook, path)
        print(f"{path.name}: {address or 'no address'}")
    readme = root / "README.md"
    if readme.is_file():
        text = with_badge(readme.read_text(encoding="utf-8"), address, DOCUMENTS[0])
        readme.write_text(text, encoding="utf-8")


def with_first_cell(notebook: NotebookNode, cell: str) -> None:
    """Let the first code cell be the set-up cell, in place of one that is there."""
    place, first = next((place, one) for place, one in enumerate(notebook.cells)
                        if one.cell_type == "code")
    if "REPOSITORY" not in first.source:
        first = nbformat.v4.new_code_cell(id="set-up")
        notebook.cells.insert(place, first)
    first.source = cell
    first.metadata = nbformat.from_dict({"tags": ["versions"]})


def with_first_fence(text: str, cell: str) -> str:
    """A page in Markdown whose first fence of Python is the set-up cell."""
    found = gates.FIRST_FENCE.search(text)
    if found is None:
        return text
    rest = "" if "REPOSITORY" in found[0] else f"```\n\n```python\n{found[0]}"
    return text[: found.start()] + cell + "\n" + rest + text[found.end() :]


def with_badge(text: str, address: str, document: str) -> str:
    """A page's text with a badge below its title, or without one where there is no address."""
    text = BADGES.sub("", text)
    if not address:
        return text
    title, *rest = text.split("\n\n", maxsplit=1)
    return "\n\n".join([title, BADGE.format(address, document), *rest])


def main(arguments: list[str] | None = None, root: Path = ROOT) -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("verb", choices=["run", "update", "check", "cells", "repository"])
    parser.add_argument("names", nargs="*")
    verb, names = vars(parser.parse_args(arguments)).values()
    if verb == "repository":
        return write_cells(public_address(" ".join(names), root), root)
    if verb == "cells":
        return write_cells(max(page_gates.addresses(root / "README.md")), root)
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
