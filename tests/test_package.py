"""The rules of the package: small, safe and quiet files, each of which can be copied out."""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "mtl_helpers"
HELPERS = sorted(PACKAGE.glob("[a-z]*.py"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in PACKAGE.glob("*.py")}


# Small, safe, quiet


def code_lines(text: str) -> int:
    """How many lines of a file hold code: no docstring, comment or blank line."""
    told, layout = set(), {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT,
                           tokenize.DEDENT, tokenize.ENDMARKER}
    for node in ast.walk(ast.parse(text)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node):
            told.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    coded = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            coded.update(range(token.start[0], token.end[0] + 1))
    return len(coded - told)


def test_the_helpers_stay_small() -> None:
    """These limits may only fall: what does not fit belongs to a study, or needs less code."""
    assert len(HELPERS) <= 13
    lines = {name: len(text.splitlines()) for name, text in TEXTS.items()}
    assert all(n <= (360 if name == "encoder.py" else 300) for name, n in lines.items()), lines
    assert max(len(line) for text in TEXTS.values() for line in text.splitlines()) <= 95
    code = {name: code_lines(text) for name, text in TEXTS.items()}
    assert sum(code.values()) <= 1804, code
    kinds = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    found = [node for text in TEXTS.values() for node in ast.walk(ast.parse(text))
             if isinstance(node, kinds)]
    assert len(found) <= sum(code.values()) * 5 / 100


def test_code_lines_are_those_that_compute() -> None:
    text = ('"""Docstring."""\n\nimport os  # a comment\n\n\ndef f(\n    x):\n    """Text.\n\n'
            '    More.\n    """\n    # Comment\n    return """two\nlines"""\n')
    assert code_lines(text) == 5


RUNS_CODE = re.compile(  # from files or strings
    r"^\s*(?:import|from)\b.*\b(?:pickle|cloudpickle|dill|joblib|shelve|marshal)\b"
    r"|(?<![\w.])(?:eval|exec)\(|\btorch\.(?:load|save)\(|\ballow_pickle\b", flags=re.M)


def test_the_helpers_run_no_code_from_files() -> None:
    assert [name for name, text in TEXTS.items() if RUNS_CODE.search(text)] == []
    for source in ("import os, pickle", "    from joblib import load", "torch.load(file)",
                   "np.load(file, allow_pickle=True)", "eval(text)", "x = exec(text)"):
        assert RUNS_CODE.search(source), source
    assert not RUNS_CODE.search("model.eval()\nfrom safetensors.torch import load_file")


def python(code: str, folder: Path, given: str = "") -> str:
    """What code prints in a new Python that has no path of ours."""
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, input=given,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_helpers_has_no_side_effects(tmp_path: Path) -> None:
    assert python(f"""
import random, socket, sys
def refuse(*arguments, **settings):
    raise AssertionError("the import reaches for the network")
socket.socket.connect = socket.getaddrinfo = refuse
import numpy, sklearn.metrics, torch, transformers  # two of these draw random numbers
def states():
    return str((random.getstate(), numpy.random.get_state(), torch.get_rng_state().tolist(),
                torch.get_num_threads(), torch.get_default_dtype()))
before = states()
sys.path.insert(0, {str(PACKAGE.parent)!r})
import mtl_helpers
assert mtl_helpers.__file__.startswith({str(PACKAGE.parent)!r})
assert states() == before
assert not {{"matplotlib", "sentence_transformers"}} & set(sys.modules)
""", tmp_path) == ""


# Copied out


ALONE = "checkpoint data encoder evaluation heads synthetic".split()
USES = {
    "batching": """
labels = {"genre": numpy.zeros(9, int), "valence": numpy.array([0.5] * 3 + [numpy.nan] * 6)}
plan = batching.plan_epoch(labels, "alternating", batch_size=3, seed=0, epoch=0)
assert [batch.tasks for batch in plan] == [("genre",), ("valence",)] * 3
""",
    "checkpoint": """
checkpoint.save_checkpoint("run", step=125, state={"weight": torch.ones(2), "epoch": 1})
step, state = checkpoint.load_checkpoint("run")
assert step == 125 and state["epoch"] == 1 and torch.equal(state["weight"], torch.ones(2))
""",
    "config": """
assert config.TrainingConfig(epochs=2, schedule="alternating").processes == 1
""",
    "corpus": """
assert len(corpus.load_corpus()) == 23_703
""",
    "data": """
sentences = [f"Sentence {number}." for number in range(40)]
labels = {"sentiment": numpy.arange(40) % 2}
splits = data.split_corpus(data.LabelledSentences(sentences, labels), seed=0)
data.assert_no_leakage(*splits)
assert sum(map(len, splits)) == 40
""",
    "encoder": """
encoder = encoder.SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
assert encoder.encode(["A sentence.", "Another one."]).shape == (2, encoder.embedding_dim)
""",
    "evaluation": """
report = evaluation.score_classification([0, 1, 1], [0, 1, 0], labels=["no", "yes"])
assert abs(report.accuracy - 2 / 3) < 1e-12
""",
    "freezing": """
backbone = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(2, 2)] * 2)})
model = torch.nn.ModuleDict({"encoder": torch.nn.ModuleDict({"backbone": backbone})})
groups = freezing.parameter_groups(model, encoder_lr=1.0, head_lr=2.0, layer_decay=0.5)
assert {group["lr"] for group in groups} <= {0.5, 1.0}
""",
    "heads": """
head = heads.ClassificationHead(4, labels=["tweet", "news editorial"])
assert head(torch.zeros(3, 4)).shape == (3, 2)
""",
    "model": """
from copied.encoder import SentenceEncoder
from copied.heads import RegressionHead
encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
model = model.MultiTaskModel(encoder, {"valence": RegressionHead(encoder.embedding_dim)})
assert model.predict(["A sentence."])["valence"].values.shape == (1,)
""",
    "synthetic": """
sentences, labels = synthetic.make_sentences(n=10, seed=0)
assert len(sentences) == len(labels["sentiment"]) == 10
""",
    "training": """
shutil.copytree(PACKAGE, "copied", dirs_exist_ok=True)  # who trains has a model and data, too
from copied import config, data, encoder, heads, model
encoder = encoder.SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
head = heads.ClassificationHead(encoder.embedding_dim, ["no", "yes"])
before = [parameter.detach().clone() for parameter in head.parameters()]
sentences = data.LabelledSentences(["It is.", "It is not."], {"true": [1, 0]})
training.fit(model.MultiTaskModel(encoder, {"true": head}), sentences,
             config=config.TrainingConfig(max_steps=1, progress=False))
assert not all(map(torch.equal, before, head.parameters()))
""",
}
RUN = """
import json, os, shutil, sys
import numpy, torch
sys.modules["mtl_helpers"] = None
sys.path.insert(0, "")
package, steps = json.load(sys.stdin)
for folder, code in steps:
    os.chdir(folder)
    sys.path[0] = folder
    names = {"numpy": numpy, "torch": torch, "shutil": shutil, "PACKAGE": package}
    exec(compile(code, folder, "exec"), names)
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(folder):
            del sys.modules[name]  # the next one must bring its own
"""


def siblings(path: Path) -> set[str]:
    """The siblings that a file imports, but for the names of types."""
    tree, found = ast.parse(TEXTS[path.name]), set()
    types = [node for block in ast.walk(tree) if isinstance(block, ast.If)
             and ast.unparse(block.test) == "TYPE_CHECKING" for node in block.body]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in types:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


def companions(path: Path) -> set[str]:
    """The siblings that the first lines of a helper say go with it."""
    docstring = ast.get_docstring(ast.parse(TEXTS[path.name])) or ""
    beginning = " ".join(docstring.splitlines()[:4])
    return {name for name in re.findall(r"\b(\w+)\.py\b", beginning)} - {path.stem}


def use(steps: list[tuple[str, str]], folder: Path) -> None:
    """Run code in sub-folders, one after the other in one process without our package."""
    given = [(str(folder / name), code) for name, code in steps]
    python(RUN, folder, json.dumps((str(PACKAGE), given)))


def test_a_helper_names_all_siblings_that_it_needs() -> None:
    for path in HELPERS:
        named = companions(path)
        for name in (path.stem, *named):
            assert siblings(path.with_stem(name)) <= {path.stem, *named}, path.name
        assert not re.search("^ *(import|from) mtl_helpers", TEXTS[path.name], flags=re.M)


def test_some_helpers_work_alone(tmp_path: Path) -> None:
    paths = [path for path in HELPERS if path.stem in ALONE]
    assert len(paths) == len(ALONE)
    for path in paths:
        assert not companions(path), path.name
        (tmp_path / path.stem).mkdir()
        shutil.copy(path, tmp_path / path.stem)
    use([(name, f"import {name}\n{USES[name]}") for name in ALONE], tmp_path)


def test_the_others_work_with_the_siblings_that_they_name(tmp_path: Path) -> None:
    paths = [path for path in HELPERS if path.stem not in ALONE]
    assert set(USES) <= {*ALONE, *(path.stem for path in paths)}
    for path in paths:
        folder = tmp_path / path.stem / "copied"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        for name in (path.stem, *companions(path)):
            shutil.copy(path.with_stem(name), folder)
    use([(path.stem, f"from copied import {path.stem}\n{USES.get(path.stem, '')}")
         for path in paths], tmp_path)
