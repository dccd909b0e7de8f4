"""Gates on the committed documents, a failing example of each gate, and the fresh run."""

from __future__ import annotations

import base64
import json
import re
import statistics
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import documents
import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

Gate = Callable[[NotebookNode], list[str]]
ROOT = documents.ROOT
DRAWN = {"text/plain", "text/markdown", "text/latex", "image/png"}
MACHINE_PATH = re.compile(
    r"(?<![\w.-])/(?:home|root|tmp|work|Users|private|mnt)\b(?:/\S*)?"
    r"|[A-Z]:\\+Users\S*|\S*(?:site|dist)-packages\S*"
)
MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
PROGRESS_BAR = re.compile(r"\r|\d%\||\b(?:it/s|s/it)\b|\[\d+:\d\d<")


# What a notebook consists of


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if cell.source.strip()]


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def outputs(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """Every output with the number of its code cell."""
    cells = enumerate(code_cells(notebook), start=1)
    return [(number, output) for number, cell in cells for output in cell.outputs]


def shown(output: NotebookNode) -> str:
    """The text that an output shows."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join(output.traceback)
    texts = [output.data[kind] for kind in sorted(output.data) if kind.startswith("text/")]
    return "\n".join(texts)


def matches(pattern: re.Pattern[str], notebook: NotebookNode) -> list[str]:
    found = [(number, pattern.search(shown(output))) for number, output in outputs(notebook)]
    return [f"code cell {number} shows {match[0]!r}" for number, match in found if match]


# The gates: each takes a notebook and gives its problems


def no_widgets(notebook: NotebookNode) -> list[str]:
    problems = ["metadata.widgets"] if "widgets" in notebook.metadata else []
    kinds = [(n, kind) for n, output in outputs(notebook) for kind in output.get("data", {})]
    return problems + [f"code cell {n}: {kind}" for n, kind in kinds if "widget" in kind]


def no_errors(notebook: NotebookNode) -> list[str]:
    failed = [(n, o) for n, o in outputs(notebook) if o.output_type == "error"]
    return [f"code cell {number}: {output.ename}" for number, output in failed]


def no_stderr(notebook: NotebookNode) -> list[str]:
    streams = [(n, o) for n, o in outputs(notebook) if o.get("name") == "stderr"]
    return [f"code cell {number}: {output.text[:80]!r}" for number, output in streams]


def drawn_by_github(notebook: NotebookNode) -> list[str]:
    problems = []
    for number, output in outputs(notebook):
        kinds = set(output.get("data", {}))
        allowed = DRAWN | ({"image/svg+xml"} if "image/png" in kinds else set())
        problems += [f"code cell {number}: {kind}" for kind in sorted(kinds - allowed)]
    return problems


def executed_in_order(notebook: NotebookNode) -> list[str]:
    counts = [cell.execution_count for cell in code_cells(notebook)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"execution counts {counts}"]


def small_file(notebook: NotebookNode) -> list[str]:
    size = len(nbformat.writes(notebook).encode())
    return [f"{size // 1000} KB, allowed are 500 KB"] if size > 500_000 else []


def no_machine_paths(notebook: NotebookNode) -> list[str]:
    sources = [(cell, MACHINE_PATH.search(cell.source)) for cell in notebook.cells]
    problems = [f"a {cell.cell_type} cell has {match[0]!r}" for cell, match in sources if match]
    return problems + matches(MACHINE_PATH, notebook)


def no_memory_addresses(notebook: NotebookNode) -> list[str]:
    return matches(MEMORY_ADDRESS, notebook)


def no_ansi_codes(notebook: NotebookNode) -> list[str]:
    return matches(re.compile("\x1b"), notebook)


def no_progress_bars(notebook: NotebookNode) -> list[str]:
    return matches(PROGRESS_BAR, notebook)


def no_software_tag(notebook: NotebookNode) -> list[str]:
    images = [(n, o.get("data", {}).get("image/png", "")) for n, o in outputs(notebook)]
    tagged = [n for n, image in images if b"tEXtSoftware\0" in base64.b64decode(image)]
    return [f"code cell {number}: a PNG image with a Software tag" for number in tagged]


def clean_metadata(notebook: NotebookNode) -> list[str]:
    kept = [set(cell.metadata) - {"tags"} for cell in notebook.cells]
    problems = [f"metadata {sorted(keys)} of cell {n}" for n, keys in enumerate(kept, 1) if keys]
    if set(notebook.metadata) != {"kernelspec", "language_info"}:
        problems.append(f"metadata of the notebook: {sorted(notebook.metadata)}")
    elif notebook.metadata.kernelspec.name != "python3" or len(notebook.metadata.language_info) > 1:
        problems.append(f"metadata of the notebook: {json.dumps(notebook.metadata)}")
    return problems


def unique_cell_ids(notebook: NotebookNode) -> list[str]:
    ids = [cell.get("id") for cell in notebook.cells]
    return [] if None not in ids and len(set(ids)) == len(ids) else [f"cell ids {ids}"]


def setup_cell_first(notebook: NotebookNode) -> list[str]:
    first = code_cells(notebook)[0] if code_cells(notebook) else new_code_cell()
    problems = [] if "versions" in tags(first) else ["the first code cell has no tag `versions`"]
    return problems + ([] if documents.ADDRESS.search(first.source) else ["it sets no REPOSITORY"])


def few_cells(notebook: NotebookNode) -> list[str]:
    number = len(notebook.cells)
    return [f"{number} cells, allowed are 60"] if number > 60 else []


def short_outputs(notebook: NotebookNode) -> list[str]:
    problems = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        lines = sum(len(shown(output).splitlines()) for output in cell.outputs)
        if lines > 25 and "source" not in tags(cell):
            problems.append(f"code cell {number} shows {lines} lines, allowed are 25")
    return problems


def short_cells(notebook: NotebookNode) -> list[str]:
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    return [f"code cell {n}: {x} lines, allowed are 30" for n, x in enumerate(lengths, 1) if x > 30]


def short_median_cell(notebook: NotebookNode) -> list[str]:
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    median = statistics.median(lengths or [0])
    return [f"the median code cell has {median} lines, allowed are 10"] if median > 10 else []


def listed_source_is_current(notebook: NotebookNode) -> list[str]:
    files = (ROOT / "mtl_helpers").glob("*.py")
    now = {line.strip() for file in files for line in file.read_text("utf-8").splitlines()}
    listed = [(number, line) for number, cell in enumerate(code_cells(notebook), start=1)
              if "source" in tags(cell) for output in cell.outputs
              for line in shown(output).splitlines()]
    return [f"code cell {number} lists {line!r}" for number, line in listed
            if line.strip() and line.strip() not in now]


GATES = [
    no_widgets,
    no_errors,
    no_stderr,
    drawn_by_github,
    executed_in_order,
    small_file,
    no_machine_paths,
    no_memory_addresses,
    no_ansi_codes,
    no_progress_bars,
    no_software_tag,
    clean_metadata,
    unique_cell_ids,
    setup_cell_first,
    few_cells,
    short_outputs,
    short_cells,
    short_median_cell,
    listed_source_is_current,
]


def name_of(gate: Gate) -> str:
    return gate.__name__


# Gates on text, on links and across files


def markdown_drawn_by_github(text: str) -> list[str]:
    """GitHub draws display formulas in ```math fences, and knows no operatorname."""
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        if "$$" in line or line.lstrip().startswith(r"\["):
            problems.append(f"line {number}: a formula that is not in a math fence")
        if r"\operatorname" in line:
            problems.append(rf"line {number}: \operatorname")
        if MACHINE_PATH.search(line) or "\x1b" in line:
            problems.append(f"line {number}: a path of the machine or an ANSI code")
    return problems


def text_of(path: Path) -> str:
    """The text of a page without its code: Markdown, or the Markdown cells of a notebook."""
    if path.suffix == ".ipynb":
        cells = documents.read(path).cells
        return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def headings(path: Path) -> list[str]:
    found = re.findall(r"^#{1,6} +(.+?)[ #]*$", text_of(path), flags=re.M)
    return [re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading) for heading in found]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings: GitHub's in Markdown, Jupyter's in a notebook."""
    if path.suffix == ".ipynb":
        return {heading.replace(" ", "-") for heading in headings(path)}
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings(path)]
    return {heading.replace(" ", "-") for heading in words}


def broken_links(path: Path) -> list[str]:
    """The relative links and images of a page that lead to no file or to no heading."""
    text = text_of(path)
    targets = re.findall(r"\]\(([^)\s]+)[^)]*\)", text)
    targets += re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    problems = []
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists():
            problems.append(f"{path.name}: {target} leads to no file")
        elif anchor and file.suffix in {".md", ".ipynb"} and anchor not in anchors(file):
            problems.append(f"{path.name}: {target} leads to no heading")
    return problems


def different_addresses(paths: list[Path]) -> list[str]:
    """The addresses of the repository, if the files do not all have the same one."""
    found = {path.name: documents.ADDRESS.findall(path.read_text("utf-8")) for path in paths}
    if len({address for names in found.values() for address in names}) > 1:
        return [f"{name}: {sorted(set(names))}" for name, names in found.items()]
    return []


def dangling_pointers(source: str, root: Path) -> list[str]:
    """The sections that docstrings name, as in `Task_1.ipynb, "Pooling"`, and that no page has."""
    words = " ".join(source.split())
    problems = []
    for name, section in re.findall(r'(Task_\d\.(?:ipynb|md)), "([^"]+)"', words):
        if (root / name).is_file() and section not in headings(root / name):
            problems.append(f'{name} has no section "{section}"')
    return problems


# The committed documents


def pages() -> list[Path]:
    return [path for path in [ROOT / "README.md", *documents.existing()] if path.is_file()]


def test_the_first_document_exists() -> None:
    assert (ROOT / documents.DOCUMENTS[0]).is_file()


def committed(name: str) -> Path:
    if not (ROOT / name).is_file():
        pytest.skip(f"{name} is not written yet")
    return ROOT / name


@pytest.mark.parametrize("gate", GATES, ids=name_of)
@pytest.mark.parametrize("name", [name for name in documents.DOCUMENTS if name.endswith("ipynb")])
def test_committed_notebook(name: str, gate: Gate) -> None:
    assert gate(nbformat.read(committed(name), as_version=nbformat.NO_CONVERT)) == []


@pytest.mark.parametrize("name", [name for name in documents.DOCUMENTS if name.endswith("md")])
def test_committed_markdown(name: str) -> None:
    assert markdown_drawn_by_github(committed(name).read_text(encoding="utf-8")) == []


def test_links_of_the_pages_lead_somewhere() -> None:
    assert [problem for path in pages() for problem in broken_links(path)] == []


def test_the_address_is_the_same_everywhere() -> None:
    assert different_addresses(pages()) == []


def test_sections_that_docstrings_name_exist() -> None:
    for path in sorted((ROOT / "mtl_helpers").glob("*.py")):
        assert dangling_pointers(path.read_text(encoding="utf-8"), ROOT) == [], path.name


@pytest.mark.documents
@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_fresh_run_shows_what_is_committed(name: str) -> None:
    assert documents.do("check", committed(name)) == []


# Examples: a notebook that passes every gate, and one that fails for each


def png(width: int = 7, height: int = 4, software: bool = False) -> str:
    """A grey PNG image as notebooks keep it, with or without the tag of the program."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    parts += [(b"tEXt", b"Software\0Matplotlib")] if software else []
    parts += [(b"IDAT", zlib.compress((b"\0" + b"\x80" * width) * height)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode() + "\n"


def image(**settings: int | bool) -> NotebookNode:
    return new_output("display_data", data={"image/png": png(**settings), "text/plain": "<Figure>"})


def stream(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


def data(kind: str, value: str = "x") -> NotebookNode:
    return new_output("display_data", data={kind: value, "text/plain": "x"})


SETUP = 'REPOSITORY = "https://github.com/somebody/something"'


def good_notebook(source: str = "1 + 1", *shown: NotebookNode, **keys: object) -> NotebookNode:
    """A notebook that passes every gate, if its second code cell does."""
    cells = [
        new_markdown_cell("# Show it"),
        new_code_cell(SETUP, execution_count=1, metadata={"tags": ["versions"]}),
        new_code_cell(source, execution_count=2, outputs=list(shown)),
    ]
    notebook = new_notebook(cells=cells)
    documents.clean(notebook)
    notebook.metadata.update(keys)
    return notebook


def unordered() -> NotebookNode:
    notebook = good_notebook()
    notebook.cells[-1].execution_count = 3
    return notebook


def with_software_tag() -> NotebookNode:
    notebook = good_notebook()
    notebook.cells[-1].outputs = [image(software=True)]
    return notebook


def with_volatile_metadata() -> NotebookNode:
    notebook = good_notebook()
    notebook.cells[-1].metadata["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
    return notebook


def with_equal_ids() -> NotebookNode:
    notebook = good_notebook()
    notebook.cells[0].id = notebook.cells[1].id
    return notebook


def without_setup() -> NotebookNode:
    notebook = good_notebook()
    del notebook.cells[1]
    return notebook


def without_address() -> NotebookNode:
    notebook = good_notebook()
    notebook.cells[1].source = "import torch"
    return notebook


def with_long_cells(lines: int) -> NotebookNode:
    notebook = good_notebook("\n".join(["x = 1"] * lines))
    notebook.cells.append(new_code_cell(notebook.cells[-1].source, execution_count=3))
    return notebook


def folder_path(*names: str) -> str:
    return "/" + "/".join(names)


def with_old_source() -> NotebookNode:
    notebook = good_notebook("x", stream("def pool(an_argument_of_once: int) -> None:\n"))
    notebook.cells[-1].metadata["tags"] = ["source"]
    return notebook


WIDGET = "application/vnd.jupyter.widget-view+json"
FAILING = [
    (no_widgets, good_notebook(widgets={WIDGET: {}})),
    (no_widgets, good_notebook("x", data(WIDGET))),
    (no_errors, good_notebook("x", new_output("error", ename="NameError", evalue="x"))),
    (no_stderr, good_notebook("x", stream("Warning: x", name="stderr"))),
    (drawn_by_github, good_notebook("x", data("text/html", "<b>x</b>"))),
    (drawn_by_github, good_notebook("x", data("image/svg+xml", "<svg/>"))),
    (drawn_by_github, good_notebook("x", data("application/javascript", "x()"))),
    (executed_in_order, unordered()),
    (small_file, good_notebook("x", stream("x" * 500_000))),
    (no_machine_paths, good_notebook("x", stream("in " + folder_path("home", "me", "x.py")))),
    (no_machine_paths, good_notebook("x", stream("'" + folder_path("root") + "'"))),
    (no_machine_paths, good_notebook("x", stream("cache=" + folder_path("tmp", "x")))),
    (no_machine_paths, good_notebook("x", stream(folder_path("work", "main") + ": x"))),
    (no_machine_paths, good_notebook("x", stream("file://" + folder_path("Users", "me")))),
    (no_machine_paths, good_notebook("x", stream(r"C:\Users\me\x.py"))),
    (no_machine_paths, good_notebook("x", stream("lib/python3.11/site-packages/torch"))),
    (no_machine_paths, good_notebook("open('" + folder_path("home", "me", "x") + "')")),
    (no_memory_addresses, good_notebook("x", stream("<Head object at 0x7f3a5c0d2e10>"))),
    (no_ansi_codes, good_notebook("x", stream("\x1b[31mred\x1b[0m"))),
    (no_progress_bars, good_notebook("x", stream(" 50%|#####     | 1/2 [00:01<00:01, 1.0it/s]"))),
    (no_progress_bars, good_notebook("x", stream("1/2\r2/2"))),
    (no_software_tag, with_software_tag()),
    (clean_metadata, with_volatile_metadata()),
    (clean_metadata, good_notebook(language_info={"name": "python", "version": "3.11.7"})),
    (clean_metadata, good_notebook(kernelspec={"name": "my-env", "display_name": "My"})),
    (unique_cell_ids, with_equal_ids()),
    (setup_cell_first, without_setup()),
    (setup_cell_first, without_address()),
    (few_cells, new_notebook(cells=[new_markdown_cell("x") for _ in range(61)])),
    (short_outputs, good_notebook("x", stream("x\n" * 26))),
    (short_outputs, good_notebook("x", stream("x\n" * 13), stream("x\n" * 13))),
    (short_cells, with_long_cells(31)),
    (short_median_cell, with_long_cells(11)),
    (listed_source_is_current, with_old_source()),
]


@pytest.mark.parametrize("gate", GATES, ids=name_of)
def test_a_good_notebook_passes(gate: Gate) -> None:
    shown = stream("accuracy 0.698 \u00b1 0.007, 45 % |x|"), image()
    assert gate(good_notebook("\n".join(["x = 1"] * 10), *shown)) == []
    address = "https://example.org" + folder_path("work", "x")
    assert gate(good_notebook(f"# {address} and and/root", *shown)) == []


@pytest.mark.parametrize(("gate", "notebook"), FAILING, ids=[name_of(gate) for gate, _ in FAILING])
def test_a_gate_fails_on_its_example(gate: Gate, notebook: NotebookNode) -> None:
    assert gate(notebook) != []


def test_every_gate_has_a_failing_example() -> None:
    assert {gate for gate, _ in FAILING} == set(GATES)


def test_a_long_listing_of_source_is_allowed() -> None:
    notebook = good_notebook("x", stream("return losses\n" * 60))
    notebook.cells[-1].metadata["tags"] = ["source"]
    assert short_outputs(notebook) == listed_source_is_current(notebook) == []


@pytest.mark.parametrize(
    "line", ["$$a = b$$", r"\[a = b\]", r"$\operatorname{x}$", folder_path("home", "me")]
)
def test_the_markdown_gate_fails_on_its_examples(line: str) -> None:
    assert markdown_drawn_by_github("# Title\n\n```math\na = b\n```\nand $a$.\n") == []
    assert markdown_drawn_by_github(f"# Title\n\n{line}\n") != []


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    page, notebook = tmp_path / "README.md", tmp_path / "Task_1.ipynb"
    nbformat.write(good_notebook(), notebook)
    good = ["Task_1.ipynb", "Task_1.ipynb#Show-it", "#the-two-commands", "https://example.org/x"]
    heading = "## The `two` commands\n"
    page.write_text(heading + "\n".join(f"[x]({link})" for link in good), encoding="utf-8")
    assert broken_links(page) == []
    for link in ["Task_2.ipynb", "Task_1.ipynb#nothing", "#nothing", "results/x.png"]:
        page.write_text(f"{heading}![x]({link})", encoding="utf-8")
        assert len(broken_links(page)) == 1, link
        page.write_text(f'{heading}<img src="{link}">', encoding="utf-8")
        assert len(broken_links(page)) == 1, link
    notebook.write_text(nbformat.writes(new_notebook(cells=[new_markdown_cell("[x](x.md)")])))
    assert broken_links(notebook) == ["Task_1.ipynb: x.md leads to no file"]


def test_sections_that_do_not_exist_are_found(tmp_path: Path) -> None:
    nbformat.write(good_notebook(), tmp_path / "Task_1.ipynb")
    assert dangling_pointers('Explained in Task_1.ipynb,\n    "Show it".', tmp_path) == []
    assert dangling_pointers('Explained in Task_2.ipynb, "Later".', tmp_path) == []
    assert dangling_pointers('Explained in Task_1.ipynb, "Hide it".', tmp_path) != []


# The address


BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{}/blob/main/Task_1.ipynb)\n"
)


def test_different_addresses_are_found_and_set(tmp_path: Path) -> None:
    page, notebook = tmp_path / "README.md", tmp_path / "Task_1.ipynb"
    paper = "[code](https://github.com/some/paper)"
    page.write_text(BADGE.format("first/one") + paper, encoding="utf-8")
    nbformat.write(good_notebook(), notebook)
    assert len(different_addresses([page, notebook])) == 2
    documents.set_repository("https://github.com/me/mine.git", tmp_path)
    assert different_addresses([page, notebook]) == []
    assert page.read_text(encoding="utf-8") == BADGE.format("me/mine") + paper
    assert documents.read(notebook).cells[1].source.endswith('"https://github.com/me/mine"')


@pytest.mark.parametrize("url", ["", "me/mine", "https://github.com/me", "https://gitlab.com/a/b"])
def test_an_address_that_is_not_on_github_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="https://github.com/OWNER/NAME"):
        documents.set_repository(url, tmp_path)


# The comparison


def differences(old: NotebookNode, new: NotebookNode, *cell_tags: str) -> list[str]:
    committed, fresh = good_notebook("x", old), good_notebook("x", new)
    for notebook in (committed, fresh):
        notebook.cells[-1].metadata["tags"] = list(cell_tags)
    return documents.compare(committed, fresh)


@pytest.mark.parametrize(
    ("old", "new", "cell_tags"),
    [
        ("accuracy 0.698", "accuracy 0.699", []),
        ("a  -0.0001", "a   0.0002", []),
        ("1e-7 apart", "3e-07 apart", []),
        ("accuracy 0.698", "accuracy 0.717", ["training"]),
        ("12.1 s", "13.9 seconds", ["timing"]),
        ("torch 2.13.0", "torch 2.11.0 on another machine\nwith more lines", ["versions"]),
    ],
)
def test_the_comparison_allows(old: str, new: str, cell_tags: list[str]) -> None:
    assert differences(stream(old), stream(new), *cell_tags) == []


@pytest.mark.parametrize(
    ("old", "new", "cell_tags"),
    [
        ("accuracy 0.698", "accuracy 0.700", []),
        ("accuracy 0.698", "macro-F1 0.698", []),
        ("accuracy 0.698", "accuracy 0.698\n0.1", []),
        ("accuracy 0.698", "accuracy nan", []),
        ("23,703 sentences", "23,704 sentences", ["training"]),
        ("accuracy 0.698", "accuracy 0.719", ["training"]),
        ("all-MiniLM-L6-v2", "all-MiniLM-L12-v2", ["training"]),
    ],
)
def test_the_comparison_finds(old: str, new: str, cell_tags: list[str]) -> None:
    assert len(differences(stream(old), stream(new), *cell_tags)) == 1


def test_images_are_compared_by_structure() -> None:
    assert differences(image(width=100, height=50), image(width=105, height=50)) == []
    assert len(differences(image(width=100, height=50), image(width=120, height=50))) == 1
    assert len(differences(image(), stream("x"))) == 1
    assert len(differences(stream("x"), stream("x", name="stderr"))) == 1


# The execution, in small


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a notebook that `update` has rewritten, on a machine with a foreign kernel."""
    folder = tmp_path_factory.mktemp("two words")
    kernel = folder / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    kernel.joinpath("kernel.json").write_text(
        json.dumps({"argv": ["no-such-program"], "display_name": "x", "language": "python"})
    )
    source = (
        "import sys\nfrom pathlib import Path\n"
        "from tqdm.autonotebook import tqdm\nfor _ in tqdm(range(3)): pass\n"
        f"print(Path.cwd().name, sys.executable == {sys.executable!r})"
    )
    figure = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
    notebook = good_notebook(source)
    notebook.cells.append(new_code_cell(figure))
    notebook.cells.append(new_code_cell("1 / 4"))
    nbformat.write(notebook, folder / "Task_1.ipynb")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        assert documents.do("update", folder / "Task_1.ipynb") == []
    return folder


def test_an_updated_notebook_passes_every_gate(executed: Path) -> None:
    notebook = documents.read(executed / "Task_1.ipynb")
    gates = [gate for gate in GATES if gate is not no_machine_paths]  # it names this Python
    assert [problem for gate in gates for problem in gate(notebook)] == []
    assert shown(outputs(notebook)[0][1]) == "two words0 True\n"
    assert notebook.cells[-1].outputs[0].data == {"text/plain": "0.25"}
    assert "image/png" in notebook.cells[-2].outputs[0].data


def test_a_second_run_shows_and_writes_the_same(executed: Path) -> None:
    path = executed / "Task_1.ipynb"
    before = path.read_bytes()
    assert documents.do("check", path) == []
    assert documents.do("update", path) == []
    assert path.read_bytes() == before
    path.write_bytes(before.replace(b"0.25", b"0.35"))
    assert len(documents.do("check", path)) == 1
    path.write_bytes(before)


def test_documents_are_built_as_they_are_and_as_html(executed: Path) -> None:
    assert (executed / "build" / "Task_1.ipynb").is_file()
    assert "two words" in (executed / "build" / "Task_1.html").read_text(encoding="utf-8")


def test_a_document_in_markdown_is_executed_and_not_rewritten(tmp_path: Path) -> None:
    text = "# Freeze it\n\n```bash\nexit 1\n```\n\n```python\nprint(6 * 7)\n```\n"
    (tmp_path / "Task_3.md").write_text(text, encoding="utf-8")
    assert documents.do("update", tmp_path / "Task_3.md") == []
    assert (tmp_path / "Task_3.md").read_text(encoding="utf-8") == text
    built = (tmp_path / "build" / "Task_3.md").read_text(encoding="utf-8")
    assert "    42" in built and "```bash\nexit 1\n```" in built


def test_a_document_that_goes_online_is_not_what_is_committed(tmp_path: Path) -> None:
    source = "import socket\ntry:\n    socket.create_connection(('localhost', 9), 1)\n"
    source += "except ConnectionRefusedError:\n    print('there is a network')"
    path = tmp_path / "Task_1.ipynb"
    nbformat.write(good_notebook(source), path)
    assert documents.do("run", path) == []
    (problem,) = documents.do("check", path)
    assert "documents run without a network" in problem


def test_a_cell_that_raises_fails_the_document_and_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "Task_1.ipynb"
    nbformat.write(good_notebook("raise ValueError('no such label')"), path)
    before = path.read_bytes()
    (problem,) = documents.do("update", path)
    assert "no such label" in problem
    assert path.read_bytes() == before
    assert no_errors(documents.read(tmp_path / "build" / "Task_1.ipynb")) != []
