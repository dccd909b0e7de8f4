"""Gates on the committed documents, a failing example of each gate, and the fresh run."""

import base64
import io
import json
import subprocess
import sys

import comparison
import documents
import gates
import nbformat
import page_gates
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from PIL.PngImagePlugin import PngInfo


def test_the_committed_pages_pass_every_gate():
    assert (documents.ROOT / documents.DOCUMENTS[0]).is_file() and documents.failed_gates() == []


@pytest.mark.documents
@pytest.mark.parametrize("path", documents.existing(), ids=lambda path: path.name)
def test_fresh_run_shows_what_is_committed(path):
    assert documents.do("check", path) == []


# A notebook that passes every gate, and the changes after which it fails one


def data(kind, value="x"):
    return new_output("display_data", data={kind: value, "text/plain": "<Figure>"})


def image(width=7, height=4, **tags):
    file, info = io.BytesIO(), PngInfo()
    for name, text in tags.items():
        info.add_text(name, text)
    Image.new("L", (width, height)).save(file, "PNG", pnginfo=info)
    return data("image/png", base64.b64encode(file.getvalue()).decode() + "\n")


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def good_notebook(source="1 + 1", *shown, tag=""):
    """A notebook that passes every gate, if its last code cell does."""
    cells = [
        new_markdown_cell("# Show it\n\n**In short.** It is shown."),
        new_code_cell(gates.FIRST_CELL, execution_count=1, metadata={"tags": ["versions"]}),
        new_code_cell(source, execution_count=2, outputs=list(shown))]
    notebook = new_notebook(cells=cells)
    documents.clean(notebook)
    notebook.cells[-1].metadata = nbformat.from_dict({"tags": [tag]} if tag else {})
    return notebook


def write(notebook, folder):
    """A notebook in a folder where its first cell finds a series, which does nothing."""
    (folder / "experiments").mkdir(exist_ok=True)
    (folder / "experiments" / "page.py").write_text("set_up = str\n", encoding="utf-8")
    nbformat.write(notebook, folder / "Task_1.ipynb")
    return folder / "Task_1.ipynb"


def cell(number=-1, **keys):
    """A change: the last cell, or another one, has these keys."""
    return lambda notebook: notebook.cells[number].update(nbformat.from_dict(keys))


def shows(*outputs, tag=""):
    return cell(outputs=list(outputs), metadata={"tags": [tag]} if tag else {})


def prints(*texts):
    return [shows(stream(text)) for text in texts]


def has(**metadata):
    return lambda notebook: notebook.metadata.update(nbformat.from_dict(metadata))


def with_long_cells(lines):
    """The last two of three code cells have so many lines."""
    long = new_code_cell("\n".join(["x = 1"] * lines), execution_count=3)
    return lambda notebook: notebook.update(cells=[*notebook.cells[:2], long, long])


def folder_path(*names):
    return "/" + "/".join(names)


WIDGET = "application/vnd.jupyter.widget-view+json"
HOME = folder_path("home", "me", "x.py")
FAILING = {
    gates.no_widgets: [has(widgets={WIDGET: {}}), shows(data(WIDGET))],
    gates.no_errors: [shows(new_output("error", ename="NameError", evalue="x"))],
    gates.no_stderr: [shows(stream("Warning: x", name="stderr"))],
    gates.drawn_by_github: [
        shows(data("text/html", "<b>x</b>")), shows(data("image/svg+xml", "<svg/>")),
        shows(data("application/javascript", "x()"))],
    gates.executed_in_order: [cell(execution_count=3)],
    gates.small_file: prints("x" * 500_000),
    gates.no_machine_paths: [
        cell(source=f"open('{HOME}')"),
        *prints(f"in {HOME}", f"'{folder_path('root')}'", f"cache={folder_path('tmp', 'x')}",
                f"{folder_path('work', 'main')}: x", f"file://{folder_path('Users', 'me')}",
                r"C:\Users\me\x.py", "lib/python3.11/site-packages/torch")],
    gates.no_memory_addresses: prints("<Head object at 0x7f3a5c0d2e10>"),
    gates.nothing_for_terminals: prints(
        "\x1b[31mred\x1b[0m", " 50%|#####     | 1/2 [00:01<00:01, 1.0it/s]", "1/2\r2/2"),
    gates.no_software_tag: [shows(image(Software="Matplotlib"))],
    gates.clean_metadata: [
        cell(metadata={"execution": {"iopub.execute_input": "2026"}}),
        has(language_info={"name": "python", "version": "3.11.7"}),
        has(kernelspec={"name": "my-env", "display_name": "My"})],
    gates.unique_cell_ids: [lambda notebook: cell(id=notebook.cells[0].id)(notebook)],
    gates.setup_cell_first: [
        lambda notebook: notebook.cells.pop(1), cell(1, source="import os\n"),
        cell(1, source=gates.FIRST_CELL.replace("series", "serie")), cell(1, metadata={})],
    gates.few_cells: [lambda notebook: notebook.cells.extend([new_markdown_cell("x")] * 73)],
    gates.short_outputs: [
        *prints("x\n" * 26), shows(stream("x\n" * 13), stream("x\n" * 13))],
    gates.short_cells: [with_long_cells(31)],
    gates.short_median_cell: [with_long_cells(11)],
    gates.listed_source_is_current: [
        shows(stream("def pool(an_argument_of_once: int) -> None:\n"), tag="source")]}


def test_a_good_notebook_passes_every_gate_and_each_fails_on_its_examples():
    address = "https://example.org" + folder_path("work", "x")
    shown = stream("accuracy 0.698 \u00b1 0.007, 45 % |x|"), image()
    listing = stream("return losses\n" * 60)  # a listing of source may be long
    for notebook in (good_notebook("\n".join(["x = 1"] * 10), *shown),
                     good_notebook(f"# {address} and and/root", *shown),
                     good_notebook("1 + 1", listing, tag="source")):
        assert [problem for gate in gates.GATES for problem in gate(notebook)] == []
    assert FAILING.keys() == set(gates.GATES)
    for gate, changes in FAILING.items():
        for number, change in enumerate(changes, start=1):
            notebook = good_notebook()
            change(notebook)
            assert gate(notebook) != [], f"{gate.__name__} passes example {number}"


def test_the_markdown_gate_fails_on_its_examples():
    assert gates.markdown_drawn_by_github("# Title\n\n```math\na = b\n```\nand $a$.\n") == []
    for line in ("$$a = b$$", r"\[a = b\]", r"$\operatorname{x}$", HOME):
        assert len(gates.markdown_drawn_by_github(f"# Title\n\n{line}\n")) == 1, line


def test_links_that_lead_nowhere_are_found(tmp_path):
    page, notebook = tmp_path / "README.md", tmp_path / "Task_1.ipynb"
    nbformat.write(good_notebook(), notebook)
    heading = "## The `two` commands\n"
    good = ["Task_1.ipynb", "Task_1.ipynb#Show-it", "#the-two-commands", "https://a.org/x"]
    page.write_text(heading + "\n".join(f"[x]({link})" for link in good), encoding="utf-8")
    assert gates.broken_links(page) == []
    for link in ["Task_2.ipynb", "Task_1.ipynb#nothing", "#nothing", "results/x.png"]:
        for text in (f"![x]({link})", f'<img src="{link}">'):
            page.write_text(heading + text, encoding="utf-8")
            assert len(gates.broken_links(page)) == 1, text
    notebook.write_text(nbformat.writes(new_notebook(cells=[new_markdown_cell("[x](x.md)")])))
    assert gates.broken_links(notebook) == ["x.md leads to no file"]


def test_all_pages_and_docstrings_go_through_the_gates(tmp_path):
    notebook = good_notebook("1 + 1", stream("x", name="stderr"))
    notebook.cells[0].source += "\n\n## 1.2 A part"
    nbformat.write(notebook, tmp_path / "Task_1.ipynb")
    (tmp_path / "mtl_helpers").mkdir()
    for name, text in (("Task_3.md", "$$x$$\n```python\nx\n```\n"),
                       ("README.md", "[x](nowhere.md)\n"),
                       ("CONTRIBUTING.md", BADGE.format("another/one")),
                       ("mtl_helpers/heads.py", '"""Task_1.ipynb, section 1.2"""\n'),
                       ("mtl_helpers/model.py", '"""See Task_1.ipynb,\n    section 1.3"""\n')):
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = documents.failed_gates(tmp_path)
    assert not any(line.startswith("heads.py") for line in found), found
    for problem in ("Task_1.ipynb, no_stderr: code cell 2: 'x'",
                    "Task_3.md, markdown_drawn_by_github: line 1",
                    "model.py: Task_1.ipynb has no section",
                    "README.md, broken_links: nowhere.md leads to no file",
                    "Task_3.md, setup_cell_first: code cell 1 is not tools/first_cell.py",
                    "CONTRIBUTING.md: the address ['another/one']",
                    "Task_1.ipynb: the address ['']"):
        assert sum(line.startswith(problem) for line in found) == 1, (problem, found)


BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{}/blob/main/Task_1.ipynb)\n")
PAPER = "See [code](https://github.com/some/paper).\n"


def test_the_address_is_set_everywhere_and_changed(tmp_path):
    pages = [tmp_path / name for name in ("README.md", "Task_1.ipynb", "Task_3.md")]
    page, notebook, task_3 = pages
    page.write_text(f"# Sentences\n\n{PAPER}", encoding="utf-8")
    task_3.write_text("# It\n\n```python\nimport torch\n```\n\n```python\nprint(1)\n```\n")
    with_import = good_notebook()
    with_import.cells[1].source = "import torch"  # a page without the cell
    nbformat.write(with_import, notebook)
    documents.main(["cells"], tmp_path)
    assert page.read_text("utf-8") == f"# Sentences\n\n{PAPER}"
    assert [cell.source for cell in documents.read(notebook).cells] == [
        "# Show it\n\n**In short.** It is shown.", gates.FIRST_CELL, "import torch", "1 + 1"]
    assert [cell.source for cell in documents.read(task_3).cells if cell.cell_type == "code"] == [
        gates.FIRST_CELL, "import torch", "print(1)"]
    assert page_gates.different_addresses(pages) == [] and page_gates.addresses(page) == {""}
    for address, verb in (("me/mine", "repository"), ("you/yours.x", "repository"),
                          ("you/yours.x", "repository"), ("you/yours.x", "cells")):
        url = [f"https://github.com/{address}.git"] if verb == "repository" else []
        documents.main([verb, *url], tmp_path)
        assert page.read_text("utf-8") == f"# Sentences\n\n{BADGE.format(address)}\n{PAPER}"
        cells = documents.read(notebook).cells
        assert cells[0].source == (
            f"# Show it\n\n{BADGE.format(address)}\n**In short.** It is shown.")
        assert f'REPOSITORY = "https://github.com/{address}"  #' in cells[1].source
        assert len(cells) == 4 and gates.setup_cell_first(documents.read(notebook)) == []
        assert task_3.read_text("utf-8").count(f'"https://github.com/{address}"') == 1
        assert gates.failed(task_3) == [] and page_gates.different_addresses(pages) == []
    for path in pages:  # where one page differs, or lacks its badge, all are listed
        text = path.read_text("utf-8")
        path.write_text(text.replace("colab.research", "example"), encoding="utf-8")
        assert bool(page_gates.different_addresses(pages)) == (path != task_3)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("url", [
    "https://github.com/me/my.own", "https://github.com/me/my.own.git", "git@github.com:me/my.own",
    "ssh://git@github.com/me/my.own.git", "https://github.com/me/my.own/"])
def test_an_address_is_given_or_that_of_git(url, tmp_path):
    assert documents.public_address(url) == "me/my.own"
    for command in (["init", "--quiet"], ["remote", "add", "origin", url]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert documents.public_address("", tmp_path) == "me/my.own"


def test_what_is_no_public_address_is_refused(tmp_path):
    for url in ("", "me/mine", "https://github.com/me", "https://gitlab.com/a/b", "/some/folder",
                "https://github.com/a/b/tree/main"):
        with pytest.raises(SystemExit, match="https://github.com/OWNER/NAME"):
            documents.main(["repository", url], tmp_path)


TEXTS = [
    ("accuracy 0.698", "accuracy 0.699", "", 0),
    ("a  -0.0001", "a   0.0002", "", 0),
    ("1e-7 apart", "3e-07 apart", "", 0),
    ("accuracy 0.698", "accuracy 0.717", "training", 0),
    ("12.1 s", "13.9 seconds", "timing", 0),
    ("torch 2.13.0", "torch 2.11.0 on another machine\nwith more lines", "versions", 0),
    ("accuracy 0.698", "accuracy 0.700", "", 1),
    ("accuracy 0.698", "macro-F1 0.698", "", 1),
    ("accuracy 0.698", "accuracy 0.698\n0.1", "", 1),
    ("accuracy 0.698", "accuracy nan", "", 1),
    ("23,703 sentences", "23,704 sentences", "training", 1),
    ("accuracy 0.698", "accuracy 0.719", "training", 1),
    ("| sentiment | 65.3 |", "| sentiment | 63.3 |", "points", 0),
    ("| sentiment | 65.3 |", "| sentiment | 63.2 |", "points", 1),
    ("all-MiniLM-L6-v2", "all-MiniLM-L12-v2", "training", 1)]


@pytest.mark.parametrize(("old", "new", "tag", "count"), [
    *((stream(old), stream(new), *rest) for old, new, *rest in TEXTS),
    (image(100, 50), image(105, 50), "", 0), (image(100, 50), image(120, 50), "", 1),
    (image(), stream("x"), "", 1), (stream("x"), stream("x", name="stderr"), "", 1)])
def test_texts_are_compared_and_images_by_structure(old, new, tag, count):
    committed, fresh = (good_notebook("x", shown, tag=tag) for shown in (old, new))
    assert len(comparison.compare(committed, fresh)) == count


def test_an_updated_notebook_shows_what_it_should_and_is_the_same_after_a_second_run(
        tmp_path, monkeypatch):
    folder = tmp_path / "two words"
    kernel = folder / "jupyter" / "kernels" / "python3"  # a foreign one
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": ["no-such-program"], "display_name": "x", "language": "python"}))
    notebook = good_notebook(
        "import os, sys\nfrom pathlib import Path\n"
        "from tqdm.autonotebook import tqdm\nfor _ in tqdm(range(3)): pass\n"
        "print(Path.cwd().name, sys.executable == os.environ['THE_PYTHON'])")
    figure = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
    notebook.cells += [new_code_cell(figure), new_code_cell("1 / 4")]
    path = write(notebook, folder)
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    monkeypatch.setenv("THE_PYTHON", sys.executable)
    documents.main(["update"], folder)  # or it exits, with the gates that failed
    first, figure, number = [cell.outputs[0] for cell in documents.read(path).cells[-3:]]
    assert first.text == "two words True\n"
    assert "image/png" in figure.data
    assert number.data == {"text/plain": "0.25"}
    assert (folder / "build" / "Task_1.ipynb").is_file()
    assert "two words" in (folder / "build" / "Task_1.html").read_text(encoding="utf-8")
    before = path.read_bytes()
    assert documents.do("update", path) == []
    assert path.read_bytes() == before
    path.write_bytes(before.replace(b"0.25", b"0.35"))
    (problem,) = documents.do("check", path)
    assert "committed is '0.35'" in problem


def test_a_document_in_markdown_keeps_what_its_code_printed(tmp_path):
    path = tmp_path / "Task_3.md"
    text = ("# Freeze it\n\n```bash\nexit 1\n```\n\n```python\nx = 6\n```\n\n"
            "```python\nprint(x * 7)\n```\n{}\n## End\n")
    shown = text.format("\n```text\n42\n```\n")
    path.write_text(text.format(""), encoding="utf-8")
    assert page_gates.silent_code(path) != []
    assert documents.do("update", path) == []
    assert path.read_text(encoding="utf-8") == shown
    assert page_gates.silent_code(path) == []
    built = (tmp_path / "build" / "Task_3.md").read_text(encoding="utf-8")
    assert "    42" in built and "```bash\nexit 1\n```" in built
    path.write_text(shown.replace("42", "43"), encoding="utf-8")
    (problem,) = documents.do("check", path)
    assert "committed is '43'" in problem


def test_a_document_that_goes_online_is_not_what_is_committed(tmp_path):
    source = "import socket\ntry:\n    socket.create_connection(('localhost', 9), 1)\n"
    source += "except ConnectionRefusedError:\n    print('there is a network')"
    path = write(good_notebook(source), tmp_path)
    assert documents.do("run", path) == []
    (problem,) = documents.do("check", path)
    assert "documents run without a network" in problem


def test_an_update_says_which_gates_and_documents_fail_and_leaves_those(tmp_path, capsys):
    warns = "import sys\nprint('x', end='', file=sys.stderr)"
    path = write(good_notebook(warns), tmp_path)
    with pytest.raises(SystemExit, match="0 of the documents failed, and 1 gates"):
        documents.main(["update"], tmp_path)
    printed = capsys.readouterr().out
    assert printed.splitlines()[1:] == ["Task_1.ipynb, no_stderr: code cell 2: 'x'"]
    write(good_notebook("raise ValueError('no such label')"), tmp_path)
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="1 of the documents failed, and 0 gates"):
        documents.main(["update", path.name], tmp_path)
    assert "no such label" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert gates.no_errors(documents.read(tmp_path / "build" / "Task_1.ipynb")) != []
