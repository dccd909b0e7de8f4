"""The deliberate faults of mutants.py fit the files that they change, and name tests there are."""

import ast
from pathlib import Path

from mutants import MUTANTS

ROOT = Path(__file__).parent.parent


def test_each_mutant_changes_one_place_and_names_a_test() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 50
    for mutant in MUTANTS:
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1 and mutant.new != mutant.old, mutant.name
        file, _, test = mutant.test.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert test.partition("[")[0] in tests, mutant.name
