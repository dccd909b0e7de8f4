"""How the pages read: a page that passes, and one that fails each gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import page_gates
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

GOOD = """# Show it

**In short.** Nothing is frozen, and [Task 2](Task_2.md), 2.1, 2.10 says why, at one learning rate.
<!-- floor -->

## 2.1 A table

| a | b | c | d | e | f |
|---|---:|---|---|---|---|

<details>

| a | b | c | d | e | f | g |
|---|---|---|---|---|---|---|

</details>

```python
floor = arm
```

## 2.10 The end
"""
SEVEN = "| a | b | c | d | e | f | g |\n|---|---:|:---|---|---|---|---|\n"


def problems(folder: Path, name: str, text: str) -> dict[str, list[str]]:
    page = folder / name
    page.write_text(text, encoding="utf-8")
    return {gate.__name__: found for gate in page_gates.GATES if (found := gate(page))}


def test_a_good_page_passes(tmp_path: Path) -> None:
    assert problems(tmp_path, "Task_2.md", GOOD) == {}
    words = "word " * 1700 + "| " * 500 + "<!-- " + "word " * 500 + "-->"
    assert problems(tmp_path, "README.md", words) == {}


@pytest.mark.parametrize(("gate", "name", "text"), [
    ("too_many_words", "README.md", "word " * 1801),
    ("wide_tables", "README.md", SEVEN),
    ("late_answer", "Task_2.md", "# Show it\n\n## First\n\nIn short"),
    ("missing_sections", "README.md", "[Task 2](Task_2.md), 2.1, 2.2"),
    ("silent_code", "Task_3.md", "In short\n\n```python\nprint(1)\n```\n"),
    *(("words_not_said", "Task_1.md", f"In short: {words}") for words in (
        "two floors", "An arm of it", "heads as drawn", "kept vectors", "to the last bit",
        "at one\nrate", "| head rate |"))])
def test_a_bad_page_fails(gate: str, name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "Task_2.md").write_text(GOOD, encoding="utf-8")
    assert [*problems(tmp_path, name, text)] == [gate]


@pytest.mark.parametrize(("shown", "gate"), [
    (lambda text: new_output("stream", name="stdout", text=f"so:\n{text}"), "wide_tables"),
    (lambda text: new_output("display_data", data={"text/markdown": text}), "wide_tables"),
    (lambda text: new_output("display_data", data={"text/markdown": "a floor"}),
     "words_not_said")])
def test_what_a_notebook_shows_is_read_too(shown: Callable, gate: str, tmp_path: Path) -> None:
    cells = [new_markdown_cell("# Show it"), new_code_cell("x", outputs=[shown(SEVEN)])]
    text = nbformat.writes(new_notebook(cells=cells))
    assert [*problems(tmp_path, "Task_1.ipynb", text)] == sorted([gate, "late_answer"],
                                                                 reverse=gate == "wide_tables")
