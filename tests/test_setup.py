"""The installation, the commands, and the rules that keep the helpers small and easy to copy."""

from __future__ import annotations

import ast
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
MODULES = sorted((ROOT / "mtl_helpers").glob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COLAB = {
    "python": "3.13",
    "numpy": "2.1.3",
    "scikit-learn": "1.6.1",
    "transformers": "5.15.0",
    "sentence-transformers": "5.7.0",
    "torch": "2.11.0",
    "matplotlib": "3.10.0",
}


# Versions


def requirements(file: str) -> dict[str, Requirement]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len({canonicalize_name(one.name) for one in found}) == len(found), "a name occurs twice"
    return {canonicalize_name(one.name): one for one in found}


BOUNDS = requirements("requirements.txt")
DEVELOPMENT = [Requirement(line) for line in PROJECT["project"]["optional-dependencies"]["dev"]]
TESTED = requirements("constraints.txt")


@pytest.mark.parametrize("bound", [*BOUNDS.values(), *DEVELOPMENT], ids=lambda bound: bound.name)
def test_a_requirement_has_a_lower_bound_and_no_upper_one(bound: Requirement) -> None:
    assert [specifier.operator for specifier in bound.specifier] == [">="]


@pytest.mark.parametrize("bound", [*BOUNDS.values(), *DEVELOPMENT], ids=lambda bound: bound.name)
def test_the_tested_version_satisfies_the_bound(bound: Requirement) -> None:
    (tested,) = TESTED[canonicalize_name(bound.name)].specifier
    assert bound.specifier.contains(tested.version)


def test_constraints_are_exact_versions() -> None:
    for name, constraint in TESTED.items():
        (specifier,) = constraint.specifier
        assert specifier.operator == "==", name
        assert Version(specifier.version).local is None, name


@pytest.mark.parametrize("name", [name for name in COLAB if name != "python"])
def test_colab_needs_no_upgrade(name: str) -> None:
    assert BOUNDS[name].specifier.contains(COLAB[name])


def test_the_lane_of_colab_has_its_versions() -> None:
    pinned = {name: str(one.specifier)[2:] for name, one
              in requirements("constraints-colab.txt").items()}
    (torch,) = TESTED["torch"].specifier
    assert pinned == {name: version for name, version in COLAB.items() if name != "python"} | {
        "torch": torch.version}


def test_the_python_of_colab_is_allowed() -> None:
    allowed = Requirement(f"python{PROJECT['project']['requires-python']}").specifier
    assert allowed.contains(COLAB["python"])
    assert allowed.contains("3.11") and not allowed.contains("3.10")


def test_the_bounds_exist_once() -> None:
    assert "dependencies" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["dependencies"]["file"] == ["requirements.txt"]


def test_what_the_helpers_import_is_required() -> None:
    distributions = packages_distributions()
    for path in MODULES:
        for name in imported(path, absolute=True) - set(sys.stdlib_module_names) - {"mtl_helpers"}:
            owners = {canonicalize_name(owner) for owner in distributions.get(name, [name])}
            assert owners & set(BOUNDS), f"{path.name} imports {name}"


# Commands


FAKE_PYTHON = """#!/bin/sh
echo "$*" >> log
case "$*" in
    *version_info*) exit "${TOO_OLD:-0}" ;;
    *ensurepip*) exit "${NO_VENV:-0}" ;;
    "-m venv --clear .venv") rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip install "*) exit "${NO_NETWORK:-0}" ;;
    "-m pytest"*) exit "${FAILING:-0}" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the files that set-up reads, and a `python` that only notes its arguments."""
    folder = tmp_path / "two words"
    folder.mkdir()
    for name in ["Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"]:
        shutil.copy(ROOT / name, folder)
    (folder / "python").write_text(FAKE_PYTHON, encoding="utf-8")
    (folder / "python").chmod(0o755)
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    return folder


def run(folder: Path, *command: str, **environment: str) -> tuple[int, str, list[str]]:
    """The exit status of a command, what it printed, and the calls of Python that it made."""
    (folder / "log").unlink(missing_ok=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    kept |= {"PYTHON": "./python"} | environment
    result = subprocess.run(
        command, cwd=folder, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    calls = (folder / "log").read_text().splitlines() if (folder / "log").exists() else []
    return result.returncode, result.stdout, calls


VENV = "-m venv --clear .venv"
INSTALL = "-m pip install --disable-pip-version-check -c constraints.txt -e .[dev]"


def test_set_up_happens_once(checkout: Path) -> None:
    status, _, calls = run(checkout, "make", "test")
    assert status == 0
    assert calls[2:] == [VENV, INSTALL, "-m ruff check .", "-m mypy", "-m pytest"]
    for command in ("test", "test"):
        _, _, calls = run(checkout, "make", command)
        assert calls == ["-m ruff check .", "-m mypy", "-m pytest"]
    _, _, calls = run(checkout, "make", "test-documents")
    assert calls == ["-m pytest -m documents tests/test_documents.py"]
    (checkout / "log").unlink()
    run(checkout.parent, "make", "-C", checkout.name, "notebooks")
    calls = (checkout / "log").read_text().splitlines()
    assert len(calls) == 2 and calls[-1] == "tools/documents.py run"


@pytest.mark.parametrize("target", ["notebooks", "test", "lab", "update", "test-all", "repository"])
def test_every_command_alone_sets_up(checkout: Path, target: str) -> None:
    status, _, calls = run(checkout, "make", target)
    assert status == 0
    assert calls[2:4] == [VENV, INSTALL] and len(calls) > 4


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt", "pyproject.toml"])
def test_a_changed_requirement_is_installed_into_the_same_venv(checkout: Path, name: str) -> None:
    run(checkout, "make", "test")
    later = (checkout / ".venv" / "installed").stat().st_mtime + 5
    os.utime(checkout / name, (later, later))
    _, _, calls = run(checkout, "make", "test")
    assert calls[2:4] == [INSTALL, "-m ruff check ."]


def test_an_interrupted_installation_is_begun_again(checkout: Path) -> None:
    status, _, calls = run(checkout, "make", "test", NO_NETWORK="1")
    assert status != 0 and calls[-1] == INSTALL
    (checkout / ".venv" / "half").touch()
    status, _, calls = run(checkout, "make", "test")
    assert status == 0 and calls[2:4] == [VENV, INSTALL]
    assert not (checkout / ".venv" / "half").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [("TOO_OLD", "Python 3.11 or newer is needed"), ("NO_VENV", "has no venv module")],
)
def test_a_python_that_does_not_do_is_named(checkout: Path, setting: str, message: str) -> None:
    status, printed, _ = run(checkout, "make", "test", **{setting: "1"})
    assert status != 0 and message in printed
    assert not (checkout / ".venv").exists()


def test_every_public_command_has_a_help_text() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.M)
    assert phony is not None
    _, printed, _ = run(ROOT, "make")
    listed = re.findall(r"^ *make ([a-z-]+) +\S", printed, flags=re.M)
    assert sorted([*listed, "lint"]) == sorted(phony[1].split())


def test_the_continuous_check_runs_both_test_commands(checkout: Path) -> None:
    status, _, calls = run(checkout, ".ci/run")
    assert status == 0
    assert calls[-2:] == ["-m pytest", "-m pytest -m documents tests/test_documents.py"]
    status, _, calls = run(checkout, ".ci/run", FAILING="1")
    assert status != 0 and calls[-1] == "-m pytest"


def test_the_dockerfile_runs_the_two_commands_of_the_readme() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    commands = [line.removeprefix("RUN ") for line in lines if line.startswith("RUN make")]
    assert commands == ["make notebooks", "make test"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(command in readme for command in commands)


def test_the_set_up_cell_changes_no_package_that_colab_has(tmp_path: Path) -> None:
    """In an environment laid out as Colab's: packages there, `google.colab` too, ours not."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "colab"], check=True)
    run = tmp_path / "colab" / "bin" / "python"
    (site,) = (tmp_path / "colab").glob("lib/python*/site-packages")
    (site / "google" / "colab").mkdir(parents=True)
    packages = sysconfig.get_paths()["purelib"]  # in front, and without what .pth files add there
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
    done = subprocess.run([run, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                          env=environment | {"PIP_NO_INDEX": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "series" / "mtl_helpers" / "__init__.py")
    assert "device" in done.stdout


# The helpers: small, safe, quiet


def test_the_helpers_stay_small() -> None:
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    limits = {name: 400 if name == "plots.py" else 300 for name in lines}
    assert {name: n for name, n in lines.items() if n > limits[name]} == {}
    assert sum(lines.values()) <= 3384


def unsafe(source: str) -> list[str]:
    """The constructs in a source that run code from files or strings."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        banned = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
        found += [name for name in names if name.split(".")[0] in banned]
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            pickled = any(key.arg == "allow_pickle" for key in node.keywords)
            if call in {"eval", "exec", "torch.load", "torch.save"} or pickled:
                found.append(call)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_helper_runs_no_code_from_files(path: Path) -> None:
    assert unsafe(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "weights = torch.load(file)",
        "np.load(file, allow_pickle=True)",
        "eval(text)",
        "exec(text)",
    ],
)
def test_what_runs_code_from_files_is_found(source: str) -> None:
    assert unsafe(source) != []
    assert unsafe("model.eval()\nfrom safetensors.torch import load_file") == []


def python(code: str, folder: Path) -> str:
    """What code prints in a new Python that looks for modules in the given folder first."""
    code = f"import sys\nsys.path.insert(0, {str(folder)!r})\n{code}"
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_importing_the_helpers_has_no_side_effects(tmp_path: Path) -> None:
    code = f"""
import random, socket
def refuse(*arguments, **settings):
    raise AssertionError("the import reaches for the network")
socket.socket.connect = socket.getaddrinfo = refuse
import numpy, sklearn.metrics, torch, transformers  # two of these draw random numbers
def states():
    return str((random.getstate(), numpy.random.get_state(), torch.get_rng_state().tolist(),
                torch.get_num_threads(), torch.get_default_dtype()))
before = states()
sys.path.insert(0, {str(ROOT)!r})
import mtl_helpers
assert mtl_helpers.__file__.startswith({str(ROOT)!r})
assert states() == before
assert not {{"matplotlib", "sentence_transformers"}} & set(sys.modules)
"""
    assert python(code, tmp_path) == ""


# The helpers: copied out


ALONE = ("encoder heads losses synthetic data checkpoint evaluation calibration plots batching "
         "history freezing").split()
TOGETHER = "cache corpus model config run training".split()

USES = {
    "encoder": """
encoder = encoder.SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
assert encoder.encode(["A sentence.", "Another one."]).shape == (2, encoder.embedding_dim)
""",
    "heads": """
import torch
head = heads.ClassificationHead(4, labels=["tweet", "news editorial"])
assert head(torch.zeros(3, 4)).shape == (3, 2)
""",
    "losses": """
import math
from types import SimpleNamespace
import torch
head = SimpleNamespace(likelihood="categorical", output_dim=2)
assert losses.log_k_weights({"genre": head}) == {"genre": 1 / math.log(2)}
""",
    "synthetic": """
sentences, labels = synthetic.make_sentences(n=10, seed=0)
assert len(sentences) == len(labels["sentiment"]) == 10
""",
    "data": """
import numpy
sentences = [f"Sentence {number}." for number in range(40)]
labels = {"sentiment": numpy.arange(40) % 2}
train, validation, test = data.split_corpus(data.LabelledSentences(sentences, labels), seed=0)
data.assert_no_leakage(train, validation, test)
assert len(train) + len(validation) + len(test) == 40
""",
    "checkpoint": """
import torch
path = checkpoint.save_checkpoint("run", step=125, state={"weight": torch.ones(2), "epoch": 1})
step, state = checkpoint.load_checkpoint("run")
assert path.name == "step-00000125" and step == 125 and state["epoch"] == 1
assert torch.equal(state["weight"], torch.ones(2))
""",
    "evaluation": """
report = evaluation.score_classification([0, 1, 1], [0, 1, 0], labels=["no", "yes"])
assert abs(report.accuracy - 2 / 3) < 1e-12
""",
    "calibration": """
import numpy
probabilities = numpy.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
assert abs(calibration.brier_score([0, 0, 1], probabilities) - 0.28 / 3) < 1e-12
temperature = calibration.fit_temperature([0, 1, 1], probabilities)
assert calibration.apply_temperature(probabilities, temperature).shape == (3, 2)
""",
    "plots": """
import io
import numpy
figure = plots.plot_cosines(numpy.eye(2), ["A sentence.", "Another one."], title="Unlike")
file = io.BytesIO()
figure.savefig(file, format="png")
assert file.getvalue().startswith(b"\\x89PNG")
""",
    "cache": """
import numpy
from types import SimpleNamespace
encoder = SimpleNamespace(tokenize=lambda sentences: [[1, 2], [3]], collate=list)
collate, lengths = cache.inputs_of(SimpleNamespace(encoder=encoder), ["One two.", "Three."], None)
assert collate([1]) == [[3]] and lengths.tolist() == [2, 1]
""",
    "corpus": """
import numpy
ratings = numpy.array([[3.0, 2.0, 4.0], [-1.0, -2.0, numpy.nan]])
assert corpus.leave_one_rater_out(ratings).accuracy == 1
""",
    "model": """
from copied.encoder import SentenceEncoder
from copied.heads import RegressionHead
encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
model = model.MultiTaskModel(encoder, {"valence": RegressionHead(encoder.embedding_dim)})
assert model.predict(["A sentence."])["valence"].values.shape == (1,)
""",
    "batching": """
import numpy
labels = {"genre": numpy.zeros(9, dtype=int), "valence": numpy.array([0.5] * 3 + [numpy.nan] * 6)}
plan = batching.plan_epoch(labels, "alternating", batch_size=3, seed=0, epoch=0)
assert [batch.tasks for batch in plan] == [("genre",), ("valence",)] * 3
""",
    "history": """
steps = [{"step": 1, "sentences": 4, "labels": {"genre": 3}, "loss": {"genre": 0.7}}]
lines = history.History({}, steps).schedule_table().splitlines()
assert lines[2] == "| genre | 1 | 4 | 3 |"
""",
    "freezing": """
from torch import nn
backbone = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})
model = nn.ModuleDict({"encoder": nn.ModuleDict({"backbone": backbone})})
groups = freezing.parameter_groups(model, encoder_lr=1.0, head_lr=2.0, layer_decay=0.5)
assert sorted({group["lr"] for group in groups}) == [0.5, 1.0]
""",
    "config": """
settings = config.TrainingConfig(epochs=2, schedule="alternating")
assert (settings.epochs, settings.schedule, settings.processes) == (2, "alternating", 1)
""",
    "run": """
assert issubclass(run.TrainingDiverged, ArithmeticError)
assert run.Run.plan.__name__ == "plan"
""",
    "training": """
import torch
from copied.config import TrainingConfig
assert training.join_processes(TrainingConfig(), torch.device("cpu")) == (0, 1)
""",
}


def imported(path: Path, absolute: bool) -> set[str]:
    """The first names of the modules that a file imports anywhere: of others, or of siblings."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) and absolute:
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and absolute == (node.level == 0):
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            names |= {module.split(".")[0] for module in modules}
    return names


def companions(path: Path) -> list[str]:
    """The siblings that the first lines of a helper say go with it."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    beginning = " ".join(docstring.splitlines()[:4])
    return [name for name in re.findall(r"\b(\w+)\.py\b", beginning) if name != path.stem]


def helpers(names: list[str]) -> list[Path]:
    return [path for path in MODULES if path.stem in names]


def test_every_helper_is_copied_out() -> None:
    assert {path.stem for path in MODULES} - {"__init__"} <= {*ALONE, *TOGETHER}
    assert {path.stem for path in MODULES} - {"__init__"} <= set(USES), "write a use of it"


@pytest.mark.parametrize("path", helpers(ALONE), ids=lambda path: path.stem)
def test_a_helper_works_alone(path: Path, tmp_path: Path) -> None:
    assert imported(path, absolute=False) == set()
    assert "mtl_helpers" not in imported(path, absolute=True)
    shutil.copy(path, tmp_path)
    python(f"sys.modules['mtl_helpers'] = None\nimport {path.stem}\n{USES[path.stem]}", tmp_path)


@pytest.mark.parametrize("path", helpers(TOGETHER), ids=lambda path: path.stem)
def test_a_helper_works_with_the_siblings_that_it_names(path: Path, tmp_path: Path) -> None:
    assert imported(path, absolute=False) <= set(companions(path))
    (tmp_path / "copied").mkdir()
    (tmp_path / "copied" / "__init__.py").touch()
    for name in [path.stem, *companions(path)]:
        shutil.copy(path.with_stem(name), tmp_path / "copied")
    use = f"from copied import {path.stem}\n{USES[path.stem]}"
    python(f"sys.modules['mtl_helpers'] = None\n{use}", tmp_path)
