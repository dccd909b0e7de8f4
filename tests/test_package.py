"""The rules of the package: small, safe and quiet files, each of which can be copied out."""

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


def code_lines(text):
    """How many lines of a file hold code: no docstring, comment or blank line."""
    told, coded = set(), set()
    for node in ast.walk(ast.parse(text)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node):
            told.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT and token.string.strip():
            coded.update(range(token.start[0], token.end[0] + 1))
    return len(coded - told)


def test_the_helpers_stay_small():
    """These limits may only fall: what does not fit belongs to a study, or needs less code."""
    assert len(HELPERS) <= 13
    lines = {name: len(text.splitlines()) for name, text in TEXTS.items()}
    assert all(n <= (360 if name == "encoder.py" else 300) for name, n in lines.items()), lines
    assert max(len(line) for text in TEXTS.values() for line in text.splitlines()) <= 95
    code = {name: code_lines(text) for name, text in TEXTS.items()}
    # The aim is 1,750. Beyond it are labels as people have them, labels that are vectors with
    # two heads for them, and the strict reading of model folders.
    assert sum(code.values()) <= 2110, code
    kinds = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    found = sum(isinstance(node, kinds) for text in TEXTS.values()
                for node in ast.walk(ast.parse(text)))
    assert found <= sum(code.values()) * 5 / 100


RUNS_CODE = re.compile(  # from files or strings
    r"^\s*(?:import|from)\b.*\b(?:pickle|cloudpickle|dill|joblib|shelve|marshal)\b"
    r"|(?<![\w.])(?:eval|exec)\(|\btorch\.(?:load|save)\(|\ballow_pickle\b", flags=re.M)


def test_the_helpers_run_no_code_from_files():
    assert [name for name, text in TEXTS.items() if RUNS_CODE.search(text)] == []
    for source in ("import os, pickle", "    from joblib import load", "torch.load(file)",
                   "np.load(file, allow_pickle=True)", "eval(text)", "x = exec(text)"):
        assert RUNS_CODE.search(source), source
    assert not RUNS_CODE.search("model.eval()\nfrom safetensors.torch import load_file")


def siblings(path):
    """The siblings that a file imports, but for the names of types."""
    text = re.sub(r"^if TYPE_CHECKING:\n(?:\n|    .*\n)*", "", TEXTS[path.name], flags=re.M)
    imports = [node for node in ast.walk(ast.parse(text))
               if isinstance(node, ast.ImportFrom) and node.level]
    return {name for node in imports
            for name in ([node.module] if node.module else [alias.name for alias in node.names])}


def companions(path):
    """The siblings that the first lines of a helper say go with it."""
    docstring = ast.get_docstring(ast.parse(TEXTS[path.name])) or ""
    return {*re.findall(r"\b(\w+)\.py\b", " ".join(docstring.splitlines()[:4]))} - {path.stem}


def test_a_helper_names_all_siblings_that_it_needs():
    for path in HELPERS:
        named = companions(path)
        for name in (path.stem, *named):
            assert siblings(path.with_stem(name)) <= {path.stem, *named}, path.name
        assert not re.search("^ *(import|from) mtl_helpers", TEXTS[path.name], flags=re.M)


IMPORT = """
import random, socket
def refuse(*arguments, **settings):
    raise AssertionError("the import reaches for the network")
ways = socket.socket.connect, socket.getaddrinfo
socket.socket.connect = socket.getaddrinfo = refuse
def states():
    return str((random.getstate(), numpy.random.get_state(), torch.get_rng_state().tolist(),
                torch.get_num_threads(), torch.get_default_dtype()))
before = states()
import mtl_helpers
assert mtl_helpers.__file__.startswith(os.getcwd())
assert states() == before
assert not {"matplotlib", "sentence_transformers"} & set(sys.modules)
socket.socket.connect, socket.getaddrinfo = ways
"""
ALONE = "checkpoint data encoder evaluation heads synthetic".split()
USES = {  # beside the examples of its docstrings
    "encoder": """
encoder = encoder.SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
assert encoder.encode(["A sentence.", "Another one."]).shape == (2, encoder.embedding_dim)
""",
    "freezing": """
backbone = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(2, 2)] * 2)})
model = torch.nn.ModuleDict({"encoder": torch.nn.ModuleDict({"backbone": backbone})})
groups = freezing.parameter_groups(model, encoder_lr=1.0, head_lr=2.0, layer_decay=0.5)
assert {group["lr"] for group in groups} <= {0.5, 1.0}
""",
    "training": """
shutil.copytree(PACKAGE, "copied", dirs_exist_ok=True)  # who trains has a model and data, too
from copied import config, data, encoder, heads, model
encoder = encoder.SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
both = model.MultiTaskModel(encoder, {"true": heads.ClassificationHead(384, ["no", "yes"])})
before = [parameter.detach().clone() for parameter in both.heads.parameters()]
sentences = data.LabelledSentences(["It is.", "It is not."], {"true": [1, 0]})
training.fit(both, sentences, config=config.TrainingConfig(max_steps=1, progress=False))
assert not all(map(torch.equal, before, both.heads.parameters()))
""",
}
RUN = """
import doctest, json, os, shutil, sys, traceback
import numpy, sklearn.metrics, torch, transformers  # two of these draw random numbers
package, steps = json.load(sys.stdin)
sys.path.insert(0, "")
known, failed = set(sys.modules), {}
flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
for folder, code in steps:
    os.chdir(folder)
    sys.path[0] = folder
    try:
        exec(compile(code, folder, "exec"), globals() | {"PACKAGE": package})
    except Exception:
        failed[folder] = traceback.format_exc()
    for name in set(sys.modules) - known:
        if name.split(".")[0] in ("mtl_helpers", "copied") or os.path.exists(f"{name}.py"):
            del sys.modules[name]  # the next one must bring its own
    sys.modules["mtl_helpers"] = None
print(json.dumps(failed))
"""


def test_helpers_are_imported_without_side_effects_and_work_where_they_are_copied(tmp_path):
    steps = [(str(PACKAGE.parent), IMPORT)]
    for path in HELPERS:
        alone, named = path.stem in ALONE, companions(path)
        folder = tmp_path / path.stem / ("" if alone else "copied")
        folder.mkdir(parents=True)
        assert not (alone and named), path.name
        for name in (path.stem, *named):
            shutil.copy(path.with_stem(name), folder)
        taken = f"import {path.stem}" if alone else f"from copied import {path.stem}"
        tested = f"assert not doctest.testmod({path.stem}, optionflags=flags).failed"
        steps.append((str(tmp_path / path.stem), f"{taken}\n{tested}\n{USES.get(path.stem, '')}"))
    done = subprocess.run([sys.executable, "-I", "-c", RUN], cwd=tmp_path, text=True,
                          input=json.dumps((str(PACKAGE), steps)), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}
