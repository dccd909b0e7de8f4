"""What Task 3 says in words, against the records."""

import inspect

import pytest

from experiments import statements
from experiments.analysis import Estimate


def test_what_the_page_says_holds(capsys) -> None:
    statements.check()
    assert capsys.readouterr().out == "all statements hold\n"


def test_no_section_is_left_out() -> None:
    functions = inspect.getmembers(statements, inspect.isfunction)
    assert {*statements.SECTIONS} == {
        function for _, function in functions if function.__annotations__["return"] == "Pairs"}


def test_every_phrase_that_does_not_hold_or_that_the_page_lost_is_named(
        monkeypatch, tmp_path) -> None:
    page = statements.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(statements, "PAGE", tmp_path / "Task_3.md")
    statements.PAGE.write_text(page.replace("within 1.2 points", "within 1.3 points"))
    monkeypatch.setattr(statements, "drift_of", lambda *_: Estimate(0.0, 0.01, 6))
    with pytest.raises(AssertionError) as error:
        statements.check()
    assert str(error.value).splitlines() == [
        "does not hold: a head frozen to keep its task keeps only its weights",
        "does not hold: That is four points above doing nothing, beyond the intervals",
        "not on the page: within 1.2 points of its start in every seed"]
