"""What the pages say in words, against the records."""

import inspect

import pytest

from experiments import statements, statements_task_3
from experiments.analysis import Estimate


def test_what_the_pages_say_holds(capsys) -> None:
    statements.check()
    assert capsys.readouterr().out == "all statements hold\n"


def test_no_section_is_left_out() -> None:
    for module in statements.modules():
        functions = [function for _, function in inspect.getmembers(module, inspect.isfunction)
                     if function.__module__ == module.__name__]
        assert {*module.SECTIONS} == {
            one for one in functions if one.__annotations__["return"] == "Pairs"}


def test_every_phrase_that_does_not_hold_or_that_the_page_lost_is_named(
        monkeypatch, tmp_path) -> None:
    page = statements_task_3.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(statements, "modules", lambda: [statements_task_3])
    monkeypatch.setattr(statements_task_3, "PAGE", tmp_path / "Task_3.md")
    statements_task_3.PAGE.write_text(page.replace("within 1.1 points", "within 1.3 points"))
    monkeypatch.setattr(statements_task_3, "drift_of", lambda *_: Estimate(0.0, 0.01, 6))
    with pytest.raises(AssertionError) as error:
        statements.check()
    assert str(error.value).splitlines() == [
        "does not hold: freezing a head preserves its weights; whether its task survives depends",
        "not on Task_3.md: With old sentences, old answers or old vectors, genre ends within 1.1 "
        "points of where it was in every seed",
        "does not hold: That is four points above doing nothing, beyond the intervals"]
