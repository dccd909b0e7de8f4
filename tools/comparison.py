"""What a fresh run of a document shows beside what is committed: words exactly, numbers nearly."""

from __future__ import annotations

import base64
import re
import struct

from nbformat import NotebookNode

EXEMPT_TAGS = {"versions", "timing"}  # what these cells print depends on the machine
TOLERANCE = 1e-3
TOLERANCES = {"training": 0.02, "points": 2.0}  # by tag: live scores, as shares and in points
IMAGE_TOLERANCE = 0.1  # share of the width and of the height

NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


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
