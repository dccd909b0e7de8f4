"""The installation: versions, the commands of the Makefile, the first cell of a notebook."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import documents
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COLAB = {"numpy": "2.1.3", "scikit-learn": "1.6.1", "transformers": "5.15.0",
         "sentence-transformers": "5.7.0", "torch": "2.11.0", "matplotlib": "3.10.0"}


# Versions


def requirements(lines: list[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    named = {canonicalize_name(one.name): one for one in found}
    assert len(named) == len(found), "a name occurs twice"
    return named


def versions(file: str) -> dict[str, str]:
    """The exact versions in a file of constraints."""
    found = requirements((ROOT / file).read_text(encoding="utf-8").splitlines())
    for name, constraint in found.items():
        (specifier,) = constraint.specifier
        assert specifier.operator == "==" and Version(specifier.version).local is None, name
    return {name: str(constraint.specifier)[2:] for name, constraint in found.items()}


BOUNDS = requirements((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
TESTED = versions("constraints.txt")


def test_bounds_are_lower_ones_that_the_tested_version_and_colab_meet() -> None:
    development = requirements(PROJECT["project"]["optional-dependencies"]["dev"])
    for name, bound in [*BOUNDS.items(), *development.items()]:
        assert [specifier.operator for specifier in bound.specifier] == [">="], name
        assert bound.specifier.contains(TESTED[name]), name
    for name, version in COLAB.items():
        assert BOUNDS[name].specifier.contains(version), name
    assert versions("constraints-colab.txt") == COLAB | {"torch": TESTED["torch"]}
    allowed = Requirement(f"python{PROJECT['project']['requires-python']}").specifier
    assert [allowed.contains(version) for version in ("3.10", "3.11", "3.13")] == [
        False, True, True]  # Colab has 3.13


def test_the_bounds_exist_once_and_cover_what_the_helpers_import() -> None:
    assert "dependencies" not in PROJECT["project"]
    dynamic = PROJECT["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"]["file"] == ["requirements.txt"]
    distributions = packages_distributions()
    for path in (ROOT / "mtl_helpers").glob("*.py"):
        statement = r"^ *(?:import|from) ([a-zA-Z]\w*)[\w.]*(?: import .*| as \w+)?$"
        found = re.findall(statement, path.read_text(encoding="utf-8"), flags=re.M)
        for name in set(found) - sys.stdlib_module_names:
            owners = {canonicalize_name(owner) for owner in distributions.get(name, [name])}
            assert owners & set(BOUNDS), f"{path.name} imports {name}"


# Commands


FAKE_PYTHON = """#!/bin/sh
echo "$*" >> log
case "$*" in
    *version_info*) exit "${TOO_OLD:-0}" ;;
    *ensurepip*) exit "${NO_VENV:-0}" ;;
    "-m venv --clear "*) rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-m pip install "*) exit "${NO_NETWORK:-0}" ;;
    "-m pytest"*) exit "${FAILING:-0}" ;;
esac
"""
PIP = "-m pip install --disable-pip-version-check"
INSTALL = f"{PIP} -c constraints.txt -e .[dev]"
SET_UP = ["-m venv --clear .venv", INSTALL]
LINT = ["-m ruff check .", "-m mypy"]
CORPUS = ["the corpus is read"]
BROWSER = [f"{PIP} -c constraints.txt playwright>=1.50"]
DOCUMENTS = ["-m pytest -m documents tests/test_documents.py"]


def lane(folder: str, options: str) -> list[str]:
    return [f"-m venv --clear {folder}", f"{PIP} {options} -e .[dev]", "-m pytest",
            "tools/documents.py run Task_1.ipynb"]


# What each command runs, once .venv is there.
COMMANDS = {
    "notebooks": [*CORPUS, "tools/documents.py run"],
    "test": [*LINT, "-m pytest"],
    "lab": ["-m jupyterlab"],
    "update": [*CORPUS, "-m experiments.tables", "-m experiments.task_3_figures",
               "-m cogapp -r README.md Task_3.md benchmarks/README.md",
               "tools/documents.py update"],
    "test-documents": [*CORPUS, *DOCUMENTS],
    "test-mutants": [*CORPUS, "tests/mutants.py"],
    "test-browser": [*BROWSER, "-m pytest -m browser tests/test_browser.py"],
    "test-colab": lane(".venv-colab", "-c constraints-colab.txt"),
    "test-newest": lane(".venv-newest", f"--upgrade torch=={TESTED['torch']}"),
    "test-all": [*BROWSER, *LINT, *CORPUS, "-m pytest -m ", "tests/mutants.py"],
    "bench": ["-m benchmarks"],
    "repository": ["tools/documents.py repository "],
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the files that set-up reads, and a `python` that notes its arguments."""
    folder = tmp_path / "two words"
    folder.mkdir()
    for name in ["Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"]:
        shutil.copy(ROOT / name, folder)
    (folder / "python").write_text(FAKE_PYTHON, encoding="utf-8")
    (folder / "python").chmod(0o755)
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    return folder


def run(folder: Path, *command: str, **settings: str) -> tuple[int, str, list[str]]:
    """The exit status of a command, what it printed, and the calls of Python that it made."""
    (folder / "log").unlink(missing_ok=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    result = subprocess.run(command, cwd=folder, env=kept | {"PYTHON": "./python"} | settings,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log = (folder / "log").read_text() if (folder / "log").exists() else ""
    calls = [call for call in re.sub("-c .*load_corpus.*", *CORPUS, log).splitlines()
             if not re.search("version_info|ensurepip", call)]
    return result.returncode, result.stdout, calls


@pytest.mark.parametrize("target", COMMANDS)
def test_a_command_sets_up_when_it_must_and_runs_what_it_says(
        checkout: Path, target: str) -> None:
    set_up = [] if target in ("test-colab", "test-newest") else SET_UP
    status, printed, calls = run(checkout, "make", target)
    assert status == 0, printed
    assert calls == set_up + COMMANDS[target]
    again = [call for call in COMMANDS[target] if call not in BROWSER]  # installed once
    assert run(checkout, "make", "-C", f"../{checkout.name}", target)[2] == again


def test_an_installation_is_begun_again_or_brought_up_to_date(checkout: Path) -> None:
    status, _, calls = run(checkout, "make", "test", NO_NETWORK="1")
    assert status != 0 and calls == SET_UP
    (checkout / ".venv" / "half").touch()
    status, _, calls = run(checkout, "make", "test")
    assert status == 0 and calls == SET_UP + COMMANDS["test"]
    assert not (checkout / ".venv" / "half").exists()
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        later = (checkout / ".venv" / "installed").stat().st_mtime + 5
        os.utime(checkout / name, (later, later))
        assert run(checkout, "make", "test")[2] == [INSTALL, *COMMANDS["test"]], name
        os.utime(checkout / name, (1, 1))
    (checkout / "requirements.txt").touch()
    os.utime(checkout / ".venv" / "installed", (1, 1))
    assert run(checkout, "make", "test", NO_NETWORK="1")[2] == [INSTALL]
    assert run(checkout, "make", "test")[2][:2] == SET_UP


def test_a_python_that_does_not_do_is_named(checkout: Path) -> None:
    for setting, message in (("TOO_OLD", "Python 3.11 or newer is needed"),
                             ("NO_VENV", "has no venv module")):
        status, printed, _ = run(checkout, "make", "test", **{setting: "1"})
        assert status != 0 and message in printed
        assert not (checkout / ".venv").exists()


def test_every_public_command_has_a_help_text_and_is_tested() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.M)[1].split()
    listed = re.findall(r"^ *make ([a-z-]+) +\S", run(ROOT, "make")[1], flags=re.M)
    assert sorted([*listed, "lint", "corpus"]) == sorted(phony)
    assert sorted(["help", *COMMANDS]) == sorted(listed)


def test_the_continuous_check_and_the_dockerfile_run_the_commands(checkout: Path) -> None:
    status, _, calls = run(checkout, ".ci/run")
    assert status == 0
    assert calls == SET_UP + COMMANDS["test"] + COMMANDS["test-documents"]
    status, _, calls = run(checkout, ".ci/run", FAILING="1")
    assert status != 0 and calls == COMMANDS["test"]
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    commands = [line.removeprefix("RUN ") for line in lines if line.startswith("RUN make")]
    assert commands == ["make notebooks", "make test"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(command in readme for command in commands)


def test_the_set_up_cell_changes_no_package_that_colab_has(tmp_path: Path) -> None:
    """In an environment laid out as Colab's: packages there, `google.colab` too, ours not."""
    colab = tmp_path / "colab"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", colab], check=True)
    (site,) = colab.glob("lib/python*/site-packages")
    (site / "google" / "colab").mkdir(parents=True)
    packages = sysconfig.get_paths()["purelib"]  # in front, without what .pth files add there
    (site / "there.pth").write_text(f"import sys; sys.path.insert(0, {packages!r})")
    cell = documents.read(ROOT / "Task_2.ipynb").cells[1].source
    cell = re.sub(r'REPOSITORY = ".*"', f'REPOSITORY = "{ROOT.as_uri()}"', cell)
    code = f"""
import importlib.metadata, importlib.util
import google.colab
assert importlib.util.find_spec("mtl_helpers") is None
def versions():
    return sorted((one.name, one.version) for one in importlib.metadata.distributions())
before = versions()
exec({cell!r})
assert versions() == before
import mtl_helpers
print(mtl_helpers.__file__)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([colab / "bin" / "python", "-c", code], cwd=tmp_path, text=True,
                          capture_output=True, env=environment | {"PIP_NO_INDEX": "1"})
    assert done.returncode == 0, done.stderr
    *_, told, place = done.stdout.splitlines()
    assert "device" in told
    assert place == str(tmp_path / "series" / "mtl_helpers" / "__init__.py")
