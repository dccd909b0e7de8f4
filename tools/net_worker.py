"""What net.py compares: trainings, embeddings and reports of one checkout's package.

Only names of `mtl_helpers` itself are used, and most are looked up late, so that an item whose
name is gone fails alone.
"""

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from itertools import product
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

package: Any = importlib.import_module("mtl_helpers")

Values = dict[str, Any]
Items = Iterator[tuple[str, Callable[[], Any]]]  # names, and calls that compute them

CHECKOUT, SCRATCH, *WITHOUT = sys.argv[1:]
WORDS = """the a film phone senator is was very not good bad plain loved hated saw it and when
    of market train weather children slowly because reported yesterday never screen battery
    budget actor wonderful dull director between twelve people nothing story again minister
    """.split()
TASKS = {"genre": 3, "sentiment": 2, "valence": 0, "unused": 2}  # classes; 0: a real value
SCHEDULES = ("alternating", "proportional", "temperature", "joint")
WEIGHTINGS = {"sum": "sum", "uncertainty": "uncertainty",
              "weights": {"genre": 0.5, "sentiment": 2.0, "valence": 0.3, "unused": 1.0}}


def later(function: str | Callable[..., Any], *arguments: Any,
          **settings: Any) -> Callable[[], Any]:
    """A call, of the package's function if it is a name, that may fail without the others."""
    def call() -> Any:
        found = getattr(package, function) if isinstance(function, str) else function
        return found(*arguments, **settings)
    return call


# Models and data


def sentences(n: int, longest: int = 15, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(1, longest + 1))) for _ in range(n)]


def make_data(n: int = 37, seed: int = 0) -> Any:
    """Genre for all sentences, sentiment for a third, valence for a fifth."""
    random = np.random.default_rng([seed, n])
    sentiment, valence = np.full(n, -100), np.full(n, np.nan)
    sentiment[::3] = np.arange(len(sentiment[::3])) % 2
    valence[1::5] = random.normal(size=len(valence[1::5]))
    labels = {"genre": random.permutation(np.arange(n) % 3), "sentiment": sentiment,
              "valence": valence}
    return package.LabelledSentences(sentences(n, seed=seed), labels)


def make_encoder(kind: str = "bert", dropout: float = 0.1, **settings: Any) -> Any:
    """Two layers of 16 dimensions with random weights; a tokenizer that knows most words."""
    torch.manual_seed(0)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS[:40]]
    ids = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=24)
    config = AutoConfig.for_model(
        kind, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, pad_token_id=0,
        vocab_size=len(tokens), max_position_embeddings=32, initializer_range=0.3)
    return package.SentenceEncoder(AutoModel.from_config(config), wrapped, **settings)


def make_model(kind: str = "bert", dtype: str = "float32", encoder: Any = None) -> Any:
    """A model with a head for each task, one of which no data has; float64 has no dropout."""
    torch.manual_seed(0)
    dropout, heads = 0.0 if dtype == "float64" else 0.1, {}
    encoder = encoder or make_encoder(kind, dropout)
    dim = encoder.embedding_dim
    for task, classes in TASKS.items():
        names, hidden = [f"{task} {i}" for i in range(classes)], 8 if task == "genre" else None
        heads[task] = (package.ClassificationHead(dim, names, hidden, dropout) if classes else
                       package.RegressionHead(dim, hidden, dropout))
    model = package.MultiTaskModel(encoder, heads).eval()
    return model.to(torch.float64 if dtype == "float64" else torch.float32)


@torch.no_grad()
def decided_model(kind: str = "bert", dtype: str = "float32") -> Any:
    """A model with large weights in its heads and mean logits of 0: predictions differ."""
    model = make_model(kind, dtype)
    embeddings = torch.from_numpy(model.encoder.encode(sentences(60)))  # (60, D)
    for head in model.heads.values():
        weight, bias = list(head.parameters())[-2:]
        weight *= 30
        bias -= head(embeddings.to(weight.dtype)).mean(dim=0)
    return model


# Trainings


def train(mode: str = "plain", dtype: str = "float32", kind: str = "bert", encoder: Any = None,
          frozen: tuple[str, ...] = (), validated: bool = False, backward: Any = None,
          resumed: bool = False, **settings: Any) -> Values:
    """Weights and history of one small training; if resumed, stopped in its eighth step."""
    together = "RANK" in os.environ
    settings = {"epochs": 2, "batch_size": 8, "encoder_lr": 1e-3, "progress": False,
                "processes": 2 if together else 1, "checkpoint_every": 3} | settings
    settings["dtype"] = dtype.replace("float64", "float32")  # computed in the parameters' type
    data, validation = make_data(), make_data(20, seed=1) if validated else None
    lives = 2 if resumed or mode == "resumed" else 1
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        if lives == 2:  # processes that train together must see the same folder
            settings["checkpoint_dir"] = f"{SCRATCH}/together" if together else folder
        config = package.TrainingConfig(**settings)
        for life in range(1, lives + 1):
            model, cache = make_model(kind, dtype, encoder), None
            package.freeze(model, *(["encoder"] if mode == "cached" else frozen))
            if mode == "cached":
                cache = package.FrozenCache(model, data.sentences,
                                            torch.bfloat16 if dtype == "bfloat16" else None)
            passes = count_passes(model, mode, stop=life < lives)
            try:
                history = package.fit(model, data, validation, config, backward, cache)
            except KeyboardInterrupt:
                continue
    return {"passes": passes, **told(history), "in training": in_training(model),
            "weights": {} if encoder else dict(model.named_parameters()),
            "embeddings": model.encoder.encode(data.sentences[:4]),
            "random numbers": torch.rand(4),
            "attention": model.encoder.backbone.config._attn_implementation}


def count_passes(model: Any, mode: str, stop: bool) -> list[int]:
    """Tensors given in each forward pass of training, 2 with a mask; may stop the eighth."""
    passes: list[int] = []

    def hook(module: Any, given: Any, named: Any, result: Any) -> None:
        if module.training:
            inputs = [*given, *named.values()]
            passes.append(sum(isinstance(one, torch.Tensor) for one in inputs))
        if stop and len(passes) == 8:
            raise KeyboardInterrupt

    watched = model.heads["genre"] if mode == "cached" else model.encoder.backbone
    watched.register_forward_hook(hook, with_kwargs=True)
    return passes


def in_training(model: Any) -> list[str]:
    return [name for name, module in model.named_modules() if module.training]


def told(history: Any) -> Values:
    """What a history says: a column for each entry of its steps, and its epochs."""
    found: Values = {"best_step": history.best_step}
    for name in ("step", "epoch", "sentences", "gradient_norm", "rate"):
        found[name] = [row[name] for row in history.steps]
    for name, task in product(("loss", "labels"), TASKS):
        found[f"{name} {task}"] = [row[name].get(task, nan) for row in history.steps]
    names = ("epoch", "step", "loss", "validation", "score")
    return found | {"epochs": [{name: row[name] for name in names} for row in history.epochs]}


def sum_backward(losses: dict[str, torch.Tensor]) -> None:
    torch.stack([*losses.values()]).sum().backward()


CHOOSY = {"validated": True, "select": "mean", "validate_every": 3, "patience": 2, "epochs": 6,
          "encoder_lr": 1e-2, "head_lr": 0.1}
OTHERS: dict[str, dict[str, Any]] = {
    "layer_decay": {"layer_decay": 0.5, "weight_decay": 0.1, "schedule": "proportional"},
    "select mean": CHOOSY,
    "select mean, resumed": CHOOSY | {  # from one validation after the best one
        "resumed": True, "validate_every": 1, "patience": 4, "seed": 2,
        "weighting": "uncertainty"},
    "select a task": CHOOSY | {"select": "valence", "patience": None, "dtype": "float64"},
    "validated": {"validated": True, "schedule": "alternating", "seed": 2},
    "few steps": {"max_steps": 7, "clip_norm": inf, "warmup": 0.0, "schedule": "temperature",
                  "temperature": 4.0, "batch_size": 2},
    "clipped": {"clip_norm": 0.05, "warmup": 0.5, "seed": 3},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, cached": {"dtype": "bfloat16", "mode": "cached"},
    "backward given": {"backward": sum_backward},
    "frozen, not cached": {"frozen": ("encoder",)},
    "cached, resumed": {"mode": "cached", "resumed": True},
    "partly frozen": {"frozen": ("layers:1", "head:sentiment"), "weighting": "uncertainty"},
    "partly frozen, resumed": {"frozen": ("layers:1",), "resumed": True},
    "mpnet, partly frozen": {"kind": "mpnet", "frozen": ("layers:1",)},
    "roberta": {"kind": "roberta", "schedule": "proportional"}}
OTHERS_TOGETHER: dict[str, dict[str, Any]] = {
    "select mean": CHOOSY, "resumed": {"resumed": True, "weighting": "uncertainty"},
    "cached": {"mode": "cached"}, "frozen head": {"frozen": ("head:sentiment",)}}


def trainings() -> Items:
    together = "RANK" in os.environ
    for mode in ["plain"] if together else ["plain", "resumed", "cached"]:
        for schedule, name, dtype in product(SCHEDULES, WEIGHTINGS, ("float64", "float32")):
            yield f"{mode}, {schedule}, {name}, {dtype}", later(
                train, mode, dtype, schedule=schedule, weighting=WEIGHTINGS[name])
    for name, settings in (OTHERS_TOGETHER if together else OTHERS).items():
        yield name, later(train, **settings)
    if not together:
        yield "initial weights", lambda: dict(make_model().named_parameters())
        minilm = package.SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
        yield "MiniLM, three steps", later(train, encoder=minilm, max_steps=3, encoder_lr=1e-4)


# Everything else


def encode() -> Items:
    few, many = sentences(12), sentences(220, longest=45)
    torch.manual_seed(0)
    encoder = make_encoder()
    yield "tiny", later(encoder.encode, many)
    yield "tiny, one string", later(encoder.encode, many[0])
    yield "tiny, bfloat16", later(encoder.encode, many, dtype=torch.bfloat16)
    for pooling, normalize in product(("mean", "cls", "max"), (True, False)):
        other = make_encoder(pooling=pooling, normalize=normalize, max_length=8)
        yield f"tiny, {pooling}, normalize={normalize}", later(other.encode, many)
    minilm = package.SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
    yield "MiniLM, token ids", later(minilm.tokenize, many)
    yield "MiniLM, many", later(minilm.encode, many)
    yield "MiniLM, few", later(minilm.encode, few)
    yield "MiniLM, bfloat16", later(minilm.encode, few, dtype=torch.bfloat16)


def predict() -> Items:
    for kind, dtype in product(("bert", "mpnet"), ("float32", "float64")):
        yield f"{kind}, {dtype}", later(decided_model(kind, dtype).predict, sentences(60))
    yield "bfloat16", later(decided_model().predict, sentences(60), dtype=torch.bfloat16)
    yield "one string", later(decided_model().predict, "a plain film")


def evaluate() -> Items:
    model, data = decided_model(), make_data(150)
    yield "model", later("evaluate", model, data)
    yield "model, float64", later("evaluate", decided_model(dtype="float64"), data)
    yield "model, bfloat16", later("evaluate", model, data, dtype=torch.bfloat16)
    yield "printed", lambda: [str(one) for one in package.evaluate(model, data).values()]
    random = np.random.default_rng(0)
    true = np.where(random.random(300) < 0.2, -100, random.integers(0, 4, 300))
    guess = np.where(random.random(300) < 0.5, np.maximum(true, 0), random.integers(0, 3, 300))
    values = np.where(true == -100, nan, random.normal(size=300))
    yield "classes", later("score_classification", true, guess, list("abcd"))
    yield "absent class", later("score_classification", true, guess, list("abcde"))
    yield "values", later("score_regression", values, values + random.normal(size=300))
    yield "constant values", later("score_regression", values, np.ones(300))
    for metric, seed in product(("accuracy", "macro_f1"), (0, 1)):
        for name, groups in (("sentences", None), ("documents", np.arange(300) // 7)):
            yield f"interval, {metric}, seed {seed}, {name}", later(
                "bootstrap_interval", true, guess, metric=metric, groups=groups, seed=seed)


def calibration() -> Items:
    random = np.random.default_rng(0)
    rows = random.dirichlet([0.3, 0.5, 0.2], 200)
    rows[:3] = np.eye(3)
    true = np.where(random.random(200) < 0.6, rows.argmax(axis=1), random.integers(0, 3, 200))
    true[::9] = -100
    for dtype in ("float64", "float32"):
        given = rows.astype(dtype)
        for function in ("reliability", "expected_calibration_error", "brier_score",
                         "fit_temperature"):
            yield f"{function}, {dtype}", later(function, true, given)
        for temperature in (0.3, 1.0, 4.0):
            yield f"apply_temperature {temperature}, {dtype}", later(
                "apply_temperature", given, temperature)


def batches() -> Items:
    data = make_data(400)
    lengths = np.array([len(sentence.split()) for sentence in data.sentences])
    for given in product(SCHEDULES, (3, 8), (0, 5), (0, 1)):
        name = "{} of {}, seed {}, epoch {}".format(*given)
        yield f"{name}, lengths", later(plan, data.labels, *given, lengths=lengths)
        yield f"{name}, shuffled", later(plan, data.labels, *given)
    for temperature in (1.0, 5.0):
        yield f"temperature {temperature}", later(plan, data.labels, "temperature", 8, 0, 0,
                                                  temperature=temperature)


def plan(*arguments: Any, **settings: Any) -> Values:
    found = package.plan_epoch(*arguments, **settings)
    return {"rows": np.concatenate([batch.rows for batch in found]),
            "sizes": [len(batch.rows) for batch in found],
            "tasks": repr([batch.tasks for batch in found])}


def split() -> Items:
    real = package.load_corpus()
    for seed in (0, 1):
        yield f"corpus, seed {seed}", later("split_indices", real, seed=seed)
    made = make_data(200)
    grouped = package.LabelledSentences(made.sentences, made.labels, np.arange(200) // 4)
    yield "no documents", later("split_indices", made, (0.5, 0.25, 0.25), seed=3)
    yield "documents", later("split_indices", grouped, (0.5, 0.25, 0.25), seed=3)


def corpus() -> Items:
    data = package.load_corpus(("genre", "sentiment", "valence"))
    yield "sentences, labels and documents", lambda: [data.sentences, data.labels, data.groups]
    yield "ratings", later("load_ratings")


def synthetic() -> Items:
    kinds: dict[str, dict[str, float]] = {
        "default": {}, "noise": {"label_noise": 0.1}, "overlap": {"class_overlap": 0.3},
        "both": {"label_noise": 0.2, "class_overlap": 0.5}, "missing": {"missing": 0.2}}
    for name, settings in kinds.items():
        for part, seed in product(("train", "validation", "test"), (0, 1)):
            yield f"{name}, {part}, seed {seed}", later(
                "make_sentences", 100, split=part, seed=seed, **settings)
        if name != "missing":
            made = package.make_sentences(100, **settings)[0]
            yield f"{name}, best accuracy", later("best_accuracy", **settings)
            yield f"{name}, oracle", later("oracle", made, **settings)


def freezing() -> Items:
    for kind, parts in product(("bert", "mpnet"), (
            (), ("encoder",), ("embeddings",), ("layers:1",), ("layers:2", "head:genre"))):
        model, name = make_model(kind), f"{kind} without {' '.join(parts) or 'nothing'}"
        package.freeze(model, *parts)
        yield f"{name}, in training", later(in_training, model.train())
        yield f"{name}, table", later("trainable_table", model)
        for decay in (1.0, 0.5):
            yield f"{name}, layer_decay {decay}", later(rates, model, decay)


def rates(model: Any, layer_decay: float) -> list[Any]:
    groups = package.parameter_groups(model, 1e-3, 1e-2, 0.1, layer_decay=layer_decay)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[group["lr"], group["weight_decay"], [names[id(one)] for one in group["params"]]]
            for group in groups]


def folder() -> Items:
    made, old = Path(SCRATCH, "model"), Path(SCRATCH).parent / "old" / "model"
    make_model().save_pretrained(made)
    for path in made.rglob("*.safetensors"):
        yield path.name, later(load_file, path)
    for name in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        yield name, (made / name).read_text
    yield "opened again", later(open_and_predict, made)
    yield "old folder opened", later(open_and_predict, old)


def open_and_predict(model: Path) -> Values:
    return package.MultiTaskModel.from_pretrained(model).predict(sentences(20))


# All of it


GROUPS = (trainings, encode, predict, evaluate, calibration, batches, split, corpus, synthetic,
          freezing, folder)


def values(found: Any, place: str = "") -> Values:
    """The arrays and texts that a result is made of, by their places in it."""
    if is_dataclass(found):
        found = vars(found)
    elif hasattr(found, "_asdict"):
        found = found._asdict()
    elif isinstance(found, torch.Tensor):
        found = found.detach().numpy()
    elif isinstance(found, (list, tuple)):
        if not all(isinstance(one, (str, int, float, np.number)) for one in found):
            found = dict(enumerate(found))
    if isinstance(found, dict):
        parts: Values = {}
        for name, one in found.items():
            parts |= values(one, f"{place}/{name}")
        return parts
    array = np.asarray(found)
    return {place: array if array.dtype.kind in "biuf" else repr(found)}


def main() -> None:
    if not Path(package.__file__).is_relative_to(CHECKOUT):
        sys.exit(f"mtl_helpers was imported from {package.__file__}, not from {CHECKOUT}")
    torch.set_num_threads(1)
    rank = os.environ.get("RANK")
    results: dict[str, Values] = {}
    for group in [trainings] if rank else GROUPS:
        name, ending = group.__name__, f", process {rank} of two" if rank else ""
        if name in WITHOUT:
            continue
        item = f"{name}/begin"
        try:
            for item, call in group():
                item = f"{name}/{item}{ending}"
                try:
                    results[item] = values(call())
                except Exception as error:
                    results[item] = {"/raised": repr(error)}
        except Exception as error:  # between two items: the rest of the group is lost
            results[f"{item}, and what follows"] = {"/raised": repr(error)}
    names, arrays = [], []
    for item, parts in results.items():
        for place, value in parts.items():
            names.append([item, place])
            arrays.append(np.asarray(value))
    file = f"two-{rank}.npz" if rank else "alone.npz"
    np.savez(Path(SCRATCH, file), np.array(json.dumps(names)), *arrays)


if __name__ == "__main__":
    main()
