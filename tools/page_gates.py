"""Gates on how the pages read: length, first cell, tables, words, and what ties them together.

Each gate gives the problems that it finds; `tools/documents.py update` prints them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import printed
from gates import FENCE, REPOSITORY, headings, outputs, shown, text_of

PageGate = Callable[[Path], list[str]]
MOST_WORDS = {"README.md": 1800}
MOST_COLUMNS = 6
HIDDEN = re.compile(r"<!--.*?-->|<details>.*?</details>", flags=re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", flags=re.DOTALL)
RULE = re.compile(r"^\s*\|?(?:\s*:?-+:?\s*\|)+\s*(?::?-+:?)?\s*$", flags=re.MULTILINE)
ADDRESS = re.compile(  # of a link into Colab, a badge or what a badge links to
    r"(?:colab\.research\.google\.com/github/|!\[[^\]]*\]\(https://github\.com/"
    r"|\)\]\(https://github\.com/)([\w.-]+/[\w.-]+)"
)
NOT_SAID = {  # a word that no page has: what stands there instead
    r"\bfloors?\b": "baseline",
    r"\barms?\b": "setting, or way of training",
    r"\bas drawn\b": "randomly initialised",
    r"\bkept (?:vectors|layers|states)\b|, kept,|\bnot kept\b": "cached",
    r"\bto the (?:last )?bit\b": "exactly",
    r"\b(?:encoder|one|same|head|tenth of the|single) rates?\b": "learning rate",
}


def too_many_words(page: Path) -> list[str]:
    """Words outside comments and `<details>`: whatever has a letter or a digit."""
    seen = HIDDEN.sub("", page.read_text(encoding="utf-8"))
    count = sum(any(map(str.isalnum, word)) for word in seen.split())
    most = MOST_WORDS.get(page.name) if page.parent.name != "benchmarks" else None
    return [f"{count} words, allowed are {most}"] if most and count > most else []


def drawn_text(page: Path) -> str:
    """The text of a page, and what its code cells show as Markdown or print as a table."""
    texts = [text_of(page)]
    if page.suffix == ".ipynb":
        notebook = nbformat.read(page, as_version=nbformat.NO_CONVERT)
        for _, output in outputs(notebook):
            if "text/markdown" in output.get("data", {}) or "\n|" in shown(output):
                texts.append(shown(output))
    return "\n\n".join(texts)


def wide_tables(page: Path) -> list[str]:
    """Tables of more columns than 880 pixels hold."""
    problems = []
    for rule in RULE.findall(HIDDEN.sub("", drawn_text(page))):
        columns = len(rule.strip().strip("|").split("|"))
        if columns > MOST_COLUMNS:
            problems.append(f"a table of {columns} columns, allowed are {MOST_COLUMNS}")
    return problems


def late_answer(page: Path) -> list[str]:
    """A document says "In short" in its first cell; in Markdown, before its first section."""
    if not page.name.startswith("Task_"):
        return []
    if page.suffix == ".ipynb":
        first = nbformat.read(page, as_version=nbformat.NO_CONVERT).cells[0].source
    else:
        first = re.split(r"^## |^```python", page.read_text("utf-8"), maxsplit=1, flags=re.M)[0]
    return [] if "In short" in first else ['no "In short" in the first cell']


def words_not_said(page: Path) -> list[str]:
    """Words that readers do not know, or that mean something else to them."""
    prose = FENCE.sub("", COMMENT.sub("", drawn_text(page)))
    text = re.sub(r"`[^`\n]*`|\]\([^)]*\)", " ", prose)
    text, problems = " ".join(text.split()), []
    for pattern, better in NOT_SAID.items():
        for match in re.finditer(pattern, text, flags=re.IGNORECASE):
            around = text[max(0, match.start() - 25) : match.end() + 25]
            problems.append(f"{match[0]!r} in {around!r}: {better}")
    return problems


def missing_sections(page: Path) -> list[str]:
    """The numbers that README's index names, as `[Task 1](Task_1.ipynb), 1.2`, and no page has."""
    problems = []
    found = re.findall(r"\[Task \d\]\((Task_\d\.\w+)\)((?:, \d\.\d+)+)", text_of(page))
    for name, numbers in found:
        there = {heading.split()[0] for heading in headings(page.parent / name)}
        problems += [f"{name} has no section {number}" for number in numbers.split(", ")[1:]
                     if number not in there]
    return problems


def silent_code(page: Path) -> list[str]:
    """Code of a Markdown page that prints, where the page does not show what."""
    return printed.silent(page.read_text("utf-8")) if page.name == "Task_3.md" else []


GATES: list[PageGate] = [too_many_words, wide_tables, late_answer, words_not_said,
                         missing_sections, silent_code]


def failed(page: Path) -> list[str]:
    """Every gate of this file that a page fails, with its name and the problem."""
    where = page.name if page.parent.name != "benchmarks" else f"benchmarks/{page.name}"
    return [f"{where}, {gate.__name__}: {problem}" for gate in GATES for problem in gate(page)]


# What ties pages together


def addresses(page: Path) -> set[str]:
    """The addresses of the repository in a page; "" of an empty cell, or where a badge lacks."""
    text = page.read_text(encoding="utf-8")
    cells, badges = REPOSITORY.findall(text.replace('\\"', '"')), ADDRESS.findall(text)
    lacks = not badges and (page.suffix == ".ipynb" or page.name == "README.md")
    return {*cells, *badges, *([""] if lacks else [])}


def different_addresses(pages: list[Path]) -> list[str]:
    """The addresses of the repository, if the pages do not all have the same one, or none."""
    found = {page.name: addresses(page) for page in pages}
    if len(set().union(*found.values())) < 2:
        return []
    return [f"{name}: the address {sorted(names)}" for name, names in found.items()]


def dangling_pointers(source: str, root: Path) -> list[str]:
    """The sections that docstrings name, as `Task_1.ipynb, section 1.2`, and no page has."""
    words = " ".join(source.split())
    problems = []
    for name, section in re.findall(r"(Task_\d\.(?:ipynb|md)), section ([\d.]+\d)", words):
        numbers = [heading.split(" ")[0] for heading in headings(root / name)]
        if section not in numbers:
            problems.append(f"{name} has no section {section}")
    return problems
