"""The solutions to the exercises of Task 3, executed as they stand on the page."""

from __future__ import annotations

import re

import documents
import pytest
from comparison import TOLERANCE, text_difference

SOLUTION = re.compile(r"^```py\n(.*?)^```\n\n```text\n(.*?)^```\n", flags=re.M | re.S)
SOLUTIONS = SOLUTION.findall((documents.ROOT / "Task_3.md").read_text(encoding="utf-8"))


def test_each_exercise_of_task_3_has_a_solution() -> None:
    page = (documents.ROOT / "Task_3.md").read_text(encoding="utf-8")
    exercises = page[page.index("## Exercises"):]
    assert len(SOLUTIONS) == len(re.findall(r"^\d\. ", exercises, flags=re.M)) == 3


@pytest.mark.documents
@pytest.mark.parametrize(("code", "shown"), SOLUTIONS)
def test_a_solution_of_task_3_prints_what_stands_below_it(
        code: str, shown: str, capsys: pytest.CaptureFixture) -> None:
    exec(compile(code, "Task_3.md", "exec"), {})
    assert text_difference(shown, capsys.readouterr().out, TOLERANCE) == ""
