"""The installation: versions, the commands of the Makefile, the first cell of a notebook."""

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

def requirements(lines):
    found = [Requirement(line) for line in lines if line[:1] not in ("", "#")]
    named = {canonicalize_name(one.name): one for one in found}
    assert len(named) == len(found), "a name occurs twice"
    return named


def versions(file):
    """The exact versions in a file of constraints."""
    found = requirements((ROOT / file).read_text(encoding="utf-8").splitlines())
    for name, constraint in found.items():
        (specifier,) = constraint.specifier
        assert specifier.operator == "==" and Version(specifier.version).local is None, name
    return {name: str(constraint.specifier)[2:] for name, constraint in found.items()}


BOUNDS = requirements((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
TESTED, COLAB = versions("constraints.txt"), versions("constraints-colab.txt")


def test_bounds_are_lower_ones_that_the_tested_version_and_colab_meet():
    development = requirements(PROJECT["project"]["optional-dependencies"]["dev"])
    for name, bound in [*BOUNDS.items(), *development.items()]:
        assert [specifier.operator for specifier in bound.specifier] == [">="], name
        assert bound.specifier.contains(TESTED[name]), name
    for name, version in [*COLAB.items(), ("torch", "2.11.0")]:  # Colab's, and its torch
        assert BOUNDS[name].specifier.contains(version), name
    assert len(COLAB) == 6 and COLAB["torch"] == TESTED["torch"]
    allowed = Requirement(f"python{PROJECT['project']['requires-python']}").specifier
    assert [allowed.contains(version) for version in ("3.10", "3.11", "3.13")] == [
        False, True, True]  # Colab has 3.13


def test_the_bounds_exist_once_and_cover_what_the_helpers_import():
    assert "dependencies" not in PROJECT["project"]
    dynamic = PROJECT["tool"]["setuptools"]["dynamic"]["dependencies"]
    assert dynamic["file"] == ["requirements.txt"]
    distributions = packages_distributions()
    for path in (ROOT / "mtl_helpers").glob("*.py"):
        statement = r"^ *(?:import|from) ([a-zA-Z]\w*)[\w.]*(?: import .*| as \w+)?$"
        found = re.findall(statement, path.read_text(encoding="utf-8"), flags=re.M)
        for name in set(found) - sys.stdlib_module_names:
            owners = {canonicalize_name(owner) for owner in distributions.get(name, [name])}
            assert owners & set(BOUNDS), f"{path.name} imports {name}"


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
LANE = ["-m pytest", "tools/documents.py run Task_1.ipynb"]
COMMANDS = {  # what each runs, once .venv is there
    "notebooks": [*CORPUS, "tools/documents.py run"],
    "test": [*LINT, "-m pytest"],
    "lab": ["-m jupyterlab"],
    "update": [*CORPUS, "-m experiments.tables", "-m experiments.task_3_figures", "-m cogapp -r "
               "README.md Task_3.md benchmarks/README.md", "tools/documents.py update"],
    "test-documents": [*CORPUS, "-m pytest -m documents"],
    "test-mutants": [*CORPUS, "tests/mutants.py"],
    "test-browser": [*BROWSER, "-m pytest -m browser tests/test_browser.py"],
    "test-colab": ["-m venv --clear .venv-colab",
                   f"{PIP} -c constraints-colab.txt -e .[dev]", *LANE],
    "test-newest": ["-m venv --clear .venv-newest",
                    f"{PIP} --upgrade torch=={TESTED['torch']} -e .[dev]", *LANE],
    "test-all": [*BROWSER, *LINT, *CORPUS, "-m pytest -m ", "tests/mutants.py"],
    "bench": ["-m benchmarks"],
    "repository": ["tools/documents.py repository "]}


@pytest.fixture
def checkout(tmp_path):
    """A folder with the files that set-up reads, and a `python` that notes its arguments."""
    folder = tmp_path / "two words"
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    for name in ["Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"]:
        shutil.copy(ROOT / name, folder)
    (folder / "python").write_text(FAKE_PYTHON, encoding="utf-8")
    (folder / "python").chmod(0o755)
    return folder


def run(folder, *command, **settings):
    """Of a command: the exit status, what it printed, and the calls of Python that it made."""
    (folder / "log").unlink(missing_ok=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    result = subprocess.run(command, cwd=folder, env=kept | {"PYTHON": "./python"} | settings,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log = (folder / "log").read_text() if (folder / "log").exists() else ""
    calls = [call for call in re.sub("-c .*load_corpus.*", *CORPUS, log).splitlines()
             if not re.search("version_info|ensurepip", call)]
    return result.returncode, result.stdout, calls


@pytest.mark.parametrize("target", COMMANDS)
def test_a_command_sets_up_when_it_must_and_runs_what_it_says(checkout, target):
    set_up = [] if target in ("test-colab", "test-newest") else SET_UP
    status, printed, calls = run(checkout, "make", target)
    assert status == 0 and calls == set_up + COMMANDS[target], printed
    again = [call for call in COMMANDS[target] if call not in BROWSER]  # installed once
    assert run(checkout, "make", "-C", f"../{checkout.name}", target)[2] == again


def test_an_installation_says_what_it_lacks_begins_again_or_is_brought_up_to_date(checkout):
    for setting, message in (("TOO_OLD", "Python 3.11 or newer is needed"),
                             ("NO_VENV", "has no venv module")):
        status, printed, _ = run(checkout, "make", "test", **{setting: "1"})
        assert status != 0 and message in printed and not (checkout / ".venv").exists()
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


def test_every_command_has_a_help_text_and_is_tested_and_ci_and_the_dockerfile_run_some(checkout):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.M)[1].split()
    listed = re.findall(r"^ *make ([a-z-]+) +\S", run(ROOT, "make")[1], flags=re.M)
    assert sorted([*listed, "lint", "corpus"]) == sorted(phony)
    assert sorted(["help", *COMMANDS]) == sorted(listed)
    status, _, calls = run(checkout, ".ci/run")
    assert (status, calls) == (0, SET_UP + COMMANDS["test"] + COMMANDS["test-documents"])
    status, _, calls = run(checkout, ".ci/run", FAILING="1")
    assert status != 0 and calls == COMMANDS["test"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall("^RUN (make.*)", dockerfile, re.M) == ["make notebooks", "make test"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make notebooks" in readme and "make test" in readme


def wheel(folder, name, version, needs=""):
    """A package that pip can install, and that is nothing but its name."""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        info = f"{name}-{version}.dist-info"
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\n"
                      f"Version: {version}\n" + (f"Requires-Dist: {needs}" if needs else ""))
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
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


def opened(machine, folder, repository="", **settings):
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


def test_a_page_alone_finds_the_series_and_changes_no_package(machine, tmp_path):
    assert len(gates.FIRST_CELL.splitlines()) <= 10
    assert "//" not in gates.FIRST_CELL and 'REPOSITORY = ""' in gates.FIRST_CELL
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


def test_what_pip_could_only_install_by_a_change_is_left_to_the_reader(machine, tmp_path):
    for wheels in (machine / "wheels", tmp_path):  # needs another numpy; is nowhere to be had
        told, changed = opened(machine, machine / "greedy",
                               PIP_FIND_LINKS=str(wheels)).split("[", 1)
        assert told.startswith("OSError: absent_two must be installed, and pip could not do it")
        assert "connect to the internet and run this cell again" in told and changed == "]\n"


@pytest.mark.parametrize(("cuda", "mps", "variable", "expected"), [
    (True, False, "", "cuda"), (False, True, "", "mps"), (False, False, "", "cpu"),
    (True, True, "cpu", "cpu")])
def test_a_page_computes_where_it_is_fast_and_says_where(
        monkeypatch, cuda, mps, variable, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setenv("MTL_HELPERS_DEVICE", variable)
    chosen, words = page.device()
    assert chosen == expected and words.startswith(f"{expected}, ")
