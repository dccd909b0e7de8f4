"""The installation: versions, the commands of the Makefile, the first cell of a notebook."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import gates
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from experiments import page

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
DOCUMENTS = ["-m pytest -m documents"]


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


# The first cell of a page


def wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    """A package that pip can install, and that is nothing but its name."""
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {one}" for one in needs)]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        info = f"{name}-{version}.dist-info"
        file.writestr(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", *lines]))
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has our packages, as Colab has, a small series, and an index of wheels."""
    place = tmp_path_factory.mktemp("machine")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "python"], check=True)
    (site,) = place.glob("python/lib/python*/site-packages")
    packages = sysconfig.get_paths()["purelib"]  # in front, without what .pth files add there
    (site / "there.pth").write_text(f"import sys; sys.path.insert(0, {packages!r})")
    (place / "wheels").mkdir()
    wheel(place / "wheels", "absent_one", "1.2", "numpy>=2")
    wheel(place / "wheels", "absent_two", "1.0", "numpy>=999")
    wheel(place / "wheels", "numpy", "999")
    for name, lines in (("series", ["torch>=2", "absent_one>=1", "numpy>=998"]),
                        ("greedy", ["absent_two>=1"])):
        (place / name / "experiments").mkdir(parents=True)
        shutil.copy(ROOT / "experiments" / "page.py", place / name / "experiments")
        (place / name / "requirements.txt").write_text("\n".join(["# Bounds", *lines, ""]))
        for command in ("init -q", "add .", "-c user.name=x -c user.email=x commit -q -m x"):
            subprocess.run(["git", *command.split()], cwd=place / name, check=True)
    return place


def opened(machine: Path, folder: Path, repository: str = "", **settings: str) -> str:
    """What the first cell prints in a folder, or its error, and which packages changed."""
    cell = gates.FIRST_CELL.replace('REPOSITORY = ""', f'REPOSITORY = "{repository}"')
    code = f"""
import importlib.metadata, os, traceback
def versions():
    return {{(one.name, one.version) for one in importlib.metadata.distributions()}}
before = versions()
try:
    exec({cell!r})
    print(DEVICE in ("cuda", "mps", "cpu"), os.getcwd())
except OSError as error:
    print("OSError:", error)
print(sorted(versions() ^ before))
"""
    folder.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "PIP_", "MTL_"))}
    kept |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(machine / "wheels")} | settings
    done = subprocess.run([machine / "python" / "bin" / "python", "-c", code], cwd=folder,
                          text=True, capture_output=True, env=kept)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_cell_is_short_and_names_no_address() -> None:
    assert len(gates.FIRST_CELL.splitlines()) <= 10
    assert "//" not in gates.FIRST_CELL and 'REPOSITORY = ""' in gates.FIRST_CELL


def test_a_page_alone_finds_the_series_and_changes_no_package(
        machine: Path, tmp_path: Path) -> None:
    told = "Open this page in the folder of the series, or set REPOSITORY and be online"
    for address in ("", (tmp_path / "nowhere").as_uri()):
        assert opened(machine, tmp_path, address) == f"OSError: {told}\n[]\n"
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "bin").mkdir()  # a git that is killed in the midst of a clone
    (tmp_path / "bin" / "git").write_text(
        '#!/bin/sh\nfor to; do :; done\nmkdir -p "$to/experiments"\n'
        'touch "$to/experiments/page.py"\nkill -9 $$\n')
    (tmp_path / "bin" / "git").chmod(0o755)
    alone, series = tmp_path / "two words", (machine / "series").as_uri()
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    assert told in opened(machine, alone, series, PATH=path)
    printed = opened(machine, alone, series)  # now the clone is whole
    *_, device, place, changed = printed.splitlines()
    assert "torch   " in printed and "tested from >=998 on" in printed
    assert device.startswith("device  ") and place == f"True {alone / 'series'}"
    assert changed == "[('absent_one', '1.2')]"  # numpy stays as it is, though it is older
    for folder in (alone, alone / "series", machine / "series"):  # once more; where it is
        *same, place, changed = opened(machine, folder).splitlines()
        assert same == printed.splitlines()[:-2] and changed == "[]"
        assert place == f"True {folder if folder.name == 'series' else alone / 'series'}"


def test_what_pip_could_only_install_by_a_change_is_left_to_the_reader(
        machine: Path, tmp_path: Path) -> None:
    for wheels in (machine / "wheels", tmp_path):  # needs another numpy; is nowhere to be had
        told, changed = opened(machine, machine / "greedy",
                               PIP_FIND_LINKS=str(wheels)).split("[", 1)
        assert told.startswith("OSError: absent_two must be installed, and pip could not do it")
        assert "connect to the internet and run this cell again" in told and changed == "]\n"


@pytest.mark.parametrize(("cuda", "mps", "variable", "expected"), [
    (True, False, "", "cuda"), (False, True, "", "mps"), (False, False, "", "cpu"),
    (True, True, "cpu", "cpu")])
def test_a_page_computes_where_it_is_fast_and_says_where(
        monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, variable: str,
        expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setenv("MTL_HELPERS_DEVICE", variable)
    chosen, words = page.device()
    assert chosen == expected and words.startswith(f"{expected}, ")
