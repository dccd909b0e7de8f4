"""What the code of a Markdown page printed: it stands in a `text` fence right after the code.

A notebook keeps its outputs; in Markdown this file writes them and compares them.
"""

from __future__ import annotations

import re

from nbformat import NotebookNode

CODE = re.compile(r"^```python[^\n]*\n(?P<code>.*?)^```\n"
                  r"(?P<after>\n```text\n(?P<printed>.*?)^```\n)?", flags=re.M | re.S)


def printed(text: str) -> list[str | None]:
    """What stands below each code fence, in order; None where nothing does."""
    return [match["printed"] for match in CODE.finditer(text)]


def fresh(notebook: NotebookNode) -> list[str | None]:
    """What each executed code cell printed; None for nothing."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    streams = ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]
    return [stream or None for stream in streams]


def with_printed(text: str, outputs: list[str | None]) -> str:
    """The page with what was printed below each code fence."""
    values = iter(outputs)

    def rewritten(match: re.Match[str]) -> str:
        output = next(values)
        code = match[0].removesuffix(match["after"] or "")
        return code + (f"\n```text\n{output.rstrip()}\n```\n" if output else "")
    return CODE.sub(rewritten, text)


def silent(text: str) -> list[str]:
    """The fences that print something which the page does not show."""
    found = [match for match in CODE.finditer(text) if re.search(r"\bprint\(", match["code"])]
    return [f"a fence that prints shows nothing: {match['code'].splitlines()[0]!r}"
            for match in found if match["printed"] is None]
