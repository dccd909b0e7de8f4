"""A bad value for every public argument: the error that it gives is clear."""

import inspect
import re

import numpy as np
import pandas
import pytest
import torch
from tiny import make_config, make_data, make_encoder, make_model

import mtl_helpers as mtl
from experiments import calibration, policies, studies, weightings

NAN, INF = float("nan"), float("inf")
ENCODER, MODEL, DATA = make_encoder(), make_model(), make_data()
IDS, PROBABILITIES = np.array([0, 1, 1]), np.array([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9]])
SIZES = {"embedding_dim": 8, "hidden_dim": 4, "dropout": 0.1}
SCORED = {"true": IDS, "predicted": IDS}


def frozen(*parts):
    model = make_model()
    mtl.freeze(model, *parts)
    return model


def data(n=3, **labels):
    return mtl.LabelledSentences([f"film {i}" for i in range(n)], labels)


CACHE = mtl.FrozenCache(frozen("encoder"), DATA.sentences)
# Each function, and arguments that it takes: a row of BAD changes one of them.
CALLS = {
    "TrainingConfig": (mtl.TrainingConfig, {}),
    "ClassificationHead": (mtl.ClassificationHead, SIZES | {"labels": ["a", "b"]}),
    "RegressionHead": (mtl.RegressionHead, SIZES),
    "SentenceEncoder": (mtl.SentenceEncoder, {"backbone": ENCODER.backbone,
                                              "tokenizer": ENCODER.tokenizer}),
    "from_pretrained": (mtl.SentenceEncoder.from_pretrained,
                        {"name_or_folder": "all-MiniLM-L6-v2"}),
    "encode": (ENCODER.encode, {"sentences": ["a"]}),
    "tokenize": (ENCODER.tokenize, {"sentences": ["a"]}),
    "pool": (mtl.pool, {"token_embeddings": torch.zeros(1, 2, 4), "attention_mask": None}),
    "MultiTaskModel": (mtl.MultiTaskModel, {"encoder": ENCODER, "heads": dict(MODEL.heads)}),
    "LabelledSentences": (mtl.LabelledSentences, {"sentences": ["a", "b", "c"], "labels": {}}),
    "named LabelledSentences": (mtl.LabelledSentences, {
        "sentences": ["a", "b", "c"], "labels": {}, "names": {"genre": ["a", "b"]}}),
    "concatenate": (lambda parts: mtl.concatenate(*parts), {"parts": [data(), data()]}),
    "select": (DATA.select, {"indices": [1]}),
    "split_corpus": (mtl.split_corpus, {"data": DATA}),
    "split_indices": (mtl.split_indices, {"data": DATA}),
    "assert_no_leakage": (lambda splits: mtl.assert_no_leakage(*splits),
                          {"splits": [data(), mtl.LabelledSentences(["other"], {})]}),
    "load_corpus": (mtl.load_corpus, {}),
    "make_sentences": (mtl.make_sentences, {"n": 5}),
    "best_accuracy": (lambda settings: mtl.best_accuracy(**settings), {"settings": {}}),
    "oracle": (lambda sentences, settings: mtl.oracle(sentences, **settings),
               {"sentences": mtl.make_sentences(3)[0], "settings": {}}),
    "task_losses": (lambda **given: mtl.task_losses(MODEL.heads, **given),
                    {"logits": {"genre": torch.zeros(2, 3)}, "labels": {"genre": [0, -100]}}),
    "StaticWeighting": (mtl.StaticWeighting, {"weights": {"genre": 2.0}}),
    "plan_epoch": (mtl.plan_epoch, {"labels": {"genre": IDS}, "schedule": "joint",
                                    "batch_size": 2, "seed": 0, "epoch": 0}),
    "fit": (mtl.fit, {"model": make_model(), "train": DATA, "config": make_config(max_steps=1)}),
    "uncertain fit": (mtl.fit, {"model": make_model(), "train": DATA, "config": make_config(
        max_steps=1, weighting="uncertainty")}),
    "resolve_dtype": (lambda name: mtl.resolve_dtype(torch.device("cpu"), name), {"name": "auto"}),
    "freeze": (lambda parts: mtl.freeze(make_model(), parts), {"parts": "layers:1"}),
    "unfreeze": (lambda parts: mtl.unfreeze(make_model(), parts), {"parts": "all"}),
    "parameter_groups": (mtl.parameter_groups, {"model": MODEL, "encoder_lr": 1, "head_lr": 1}),
    "FrozenCache": (mtl.FrozenCache, {"model": frozen("encoder"), "sentences": ["a"]}),
    "FrozenCache.inputs": (CACHE.inputs, {"sentences": DATA.sentences[:2]}),
    "save_checkpoint": (mtl.save_checkpoint, {"folder": "", "step": 1, "state": {}}),
    "score_classification": (mtl.score_classification, SCORED | {"labels": ["a", "b"]}),
    "score_regression": (mtl.score_regression, {"true": np.ones(3), "predicted": np.ones(3)}),
    "bootstrap_interval": (mtl.bootstrap_interval, SCORED),
    "evaluate": (lambda data: mtl.evaluate(MODEL, data), {"data": DATA}),
    **{name: (getattr(calibration, name), {"true": IDS, "probabilities": PROBABILITIES})
       for name in ("reliability", "expected_calibration_error", "brier_score", "fit_temperature")},
    "apply_temperature": (calibration.apply_temperature,
                          {"probabilities": PROBABILITIES, "temperature": 2.0}),
    "part_of": (studies.part_of, {"text": "2/3"}),
    "policy_stages": (policies.policy_stages, {"policy": "full", "passes": 64, "batch_size": 32}),
    "backward": (lambda name: weightings.backward(MODEL, name), {"name": "PCGrad"}),
}

ONE_NAME = "labels must list two or more different names, got VALUE"
TEXT = r"TypeError: sentences\[1\] must be a string of valid Unicode, got "
TEXTS = r"TypeError: sentences\[1\] must be str, "
DROPOUT = "dropout must be at least 0 and below 1, got VALUE"
AT_LEAST_1 = "embedding_dim and hidden_dim must be at least 1"
PARTS = "part must be one of .*K from 0 to 2 and TASK one of genre.*got VALUE"
GENRE = r"labels\['genre'\] must be \(2,\) ids below 3, or -100 .* missing, got "
VALENCE = r"labels\['valence'\] must be \(2,\) finite floats, or NaN .* got "
NO_LABEL = r"labels must have a label for each task, got none for "
SHARES = "fractions must be three positive shares of sum 1"
LABELLED = r"true must be \(N,\), not all missing, for N predictions.* got "
FLOATS = r"true must be \(N,\) floats, NaN where missing, and predicted.* "
SUM_TO_ONE = "probabilities must be 0 to 1, a row sum to one"

FRAME = pandas.DataFrame({"text": ["a", "b", "c"]})  # a list of it would be its columns

# function.argument, the error (a ValueError if it doesn't say), values; VALUE stands for each.
BAD = [
    *((f"TrainingConfig.{name}", f"{name} (must be|needs)", *values) for name, values in {
        "epochs": (0, -1, 1.5, True), "max_steps": (0, 2.5), "batch_size": (0, "32"),
        "encoder_lr": (-1e-4, NAN, "fast"), "head_lr": (INF,), "layer_decay": (1.5, -0.1),
        "weight_decay": (-0.01,), "warmup": (2, -0.1, None), "clip_norm": (0, -1.0),
        "schedule": ("random", None), "temperature": (0.5,), "weighting": ("equal", 3),
        "dtype": ("float16", torch.bfloat16), "seed": (-1, 0.5), "patience": (0, 2),
        "validate_every": (0,), "checkpoint_every": (-5,), "processes": (0,),
        "checkpoint_dir": (5, b"folder")}.items()),
    ("ClassificationHead.labels", ONE_NAME, [], ["only"], ["a", "b", "a"], "abc", None, 3, [0, 1],
     ["a", None], ["a", ""], {"a": 0}),
    *((f"{head}.{name}", error, *values) for head in ("ClassificationHead", "RegressionHead")
      for name, error, *values in (("embedding_dim", AT_LEAST_1, 0, -1),
                                   ("embedding_dim", "TypeError: ", 8.0, "8"),
                                   ("hidden_dim", AT_LEAST_1, 0),
                                   ("dropout", DROPOUT, 1, -0.1, NAN))),
    ("SentenceEncoder.pooling", "pooling is VALUE; valid are mean, cls, max", "mode"),
    ("SentenceEncoder.max_length", "max_length is VALUE; this backbone takes 3 to 32", 0, 2, 33),
    ("from_pretrained.pooling", "pooling is VALUE; valid are mean", "median"),
    ("from_pretrained.name_or_folder", "OSError: .*no-such-folder/model", "no-such-folder/model"),
    *(("encode.sentences", TEXT + re.escape(repr(wrong)), ["a", wrong])
      for wrong in (None, NAN, b"a", ["nested"], "\ud83d")),
    ("encode.sentences", r"TypeError: sentences\[0\] must be a string", b"a"),
    *((f"{name}.sentences", "TypeError: sentences must be a list of strings, got VALUE", value)
      for name, value in (("tokenize", "abc"), ("LabelledSentences", "abc"),
                          ("encode", {"text": ["a"]}), ("LabelledSentences", {"text": ["a"]}),
                          ("encode", {"a", "b"}), ("LabelledSentences", {"a", "b"}),
                          ("encode", FRAME), ("LabelledSentences", FRAME))),
    ("pool.pooling", "pooling is VALUE; valid are mean, cls, max", "median"),
    ("MultiTaskModel.heads", "heads must be one head object for each task", {}),
    ("MultiTaskModel.heads", "heads has the task 'a.b'", {"a.b": mtl.RegressionHead(16)}),
    ("MultiTaskModel.heads", r"heads\['a'\] must have the encoder's embedding_dim, 16, got 8",
     {"a": mtl.RegressionHead(8)}),
    *(("LabelledSentences.sentences", TEXTS + f"got {re.escape(repr(wrong))} of", ["a", wrong, "c"])
      for wrong in (None, NAN, b"bytes", 3, ["nested"], np.float64(1))),
    *(("LabelledSentences.labels", r"labels\['genre'\] .*" + error, {"genre": values})
      for error, values in (
          (r"must be \(3,\) or, for vectors, \(3, L\), got \(2,\)", [0, 1]),
          (r"\(3, L\), got \(\)", 3), (r"got \(N, 1\); give np.ravel", [[0], [1], [2]]),
          ("got bool; two classes are ids: ", [True, False, True]),
          ("got True; two classes are ids: ", [True, None, False]),
          (r"got \['a'\]; lists of names become 0 and 1", [["a"], ["b", "c"], []]),
          (r"got \['a', 'b'\]; lists of names become 0 and 1", [["a", "b"]] * 3),
          ("must be numbers or names, got b'a'", [b"a", b"b", b"c"]),
          ("must be a list or an array, got", {0, 1, 2}), ("must be a list", "abc"),
          ("must be a list", {0: 2, 1: 1, 2: 0}),
          ("must be of one kind, got 'a' and 1", ["a", 1, None]),
          ("must be of one kind, got 0.5 and 'a'", [0.5, "a", 1]),
          ("must be class ids from 0, or -100, or floats; got -1", [0, -1, 1]),
          ("must be finite, or NaN; got inf", [0.0, INF, 1.0]))),
    *(("named LabelledSentences.labels", r"labels\['genre'\] .*" + error, {"genre": values})
      for error, values in (
          (r"must be among \['a', 'b'\], got 'c'", ["a", "b", "c"]),
          ("must be ids of the 2 names, or -100; got 2", [0, 2, 1]),
          (r"must be ids, as names has \['a', 'b'\]; got floats", [0.0, 1.0, NAN]))),
    ("concatenate.parts", r"labels\['genre'\] must be of one kind, with names",
     *([data(genre=values), data(genre=["a", "b", "c"])]
       for values in ([0, 1, 2], [0.5, 1, 2], np.ones((3, 2))))),
    ("LabelledSentences.groups", "groups must be 3 document ids", [1, 2], [1, 2, 3, 4],
     [1, None, 2], [1, NAN, 2]),
    ("select.indices", "IndexError: ", [100], [0.5], [True, False]),
    ("split_corpus.data", "data must have more documents or different sentences",
     *(mtl.LabelledSentences(texts, {}) for texts in ([], ["a", "b"], ["a", "A ", "b"] * 20))),
    ("split_indices.data", "data must have more documents", data(2)),
    *((f"{name}.fractions", SHARES, (0.7, 0.3), (0.7, 0.3, 0.0), (0.7, 0.2, 0.2), (2, -0.5, -0.5))
      for name in ("split_corpus", "split_indices")),
    ("assert_no_leakage.splits", "TypeError: splits must be two or more", [[DATA, DATA]]),
    ("load_corpus.tasks", "tasks must be among .*genre.*, got ", ["colour"], "genre"),
    *((f"make_sentences.{name}", f"{name} must be .*got VALUE$", *values) for name, values in {
        "n": (0, 2.0, None, True), "seed": (-1, 1.5, "0", False),
        "split": ("dev", None, ["train"]), "label_noise": (1.01, "0.1", True),
        "class_overlap": (-0.01, NAN, None), "missing": (INF, 2),
        "tasks": ("topic", [], ["colour"])}.items()),
    ("best_accuracy.settings", "missing must be a float from 0 to 1, got 1.01", {"missing": 1.01}),
    ("oracle.settings", "label_noise must be a float from 0 to 1, got -0.1", {"label_noise": -0.1}),
    ("oracle.sentences", r"sentences\[1\] must be one the settings make, got 'The sky is blue.'",
     [*mtl.make_sentences(1)[0], "The sky is blue."]),
    ("oracle.sentences", r"sentences\[\d+\] must be one the settings make",
     mtl.make_sentences(50, class_overlap=1)[0]),
    ("task_losses.labels", r"labels has the tasks \[.*\]; valid are \['genre', ",
     {"colour": [0, 1]}, {"genre": [0, 0], "Genre": [0, 0]}, {}),
    *(("task_losses.labels", GENRE + got, {"genre": values}) for got, values in (
        ("3", [0, 3]), ("-1", [-1, 0]), ("1.5", [0.0, 1.5]),
        ("-1.0", [-1.0, NAN]), (r"\(2,\) torch.bool", [True, False]),
        ("", ["tweet", "a"]), ("", np.array(["a", "b"])), ("", [0, None]), (r"\(1,\)", [0]),
        (r"\(3,\)", [0, 1, 2]), (r"\(2, 1\)", [[0], [1]]), (r"\(\)", 0))),
    ("task_losses.labels", VALENCE + r"\(2, 2\) torch.float32", {"valence": [[1.0, 2.0]] * 2}),
    ("task_losses.labels", VALENCE + "inf", {"valence": [1.0, INF]}),
    ("task_losses.logits", r"labels\['genre'\] must be \(3,\)", {"genre": torch.zeros(3, 3)}),
    ("StaticWeighting.weights", "weights must be finite and not negative, got {'genre'",
     *({"genre": weight} for weight in (-1.0, NAN, INF))),
    ("plan_epoch.labels", NO_LABEL + r"\['genre'\]", {"genre": np.array([-100, -100])}),
    ("plan_epoch.labels", NO_LABEL + "any", {}),
    ("plan_epoch.labels", NO_LABEL + r"\['valence'\]", {"valence": np.array([NAN])}),
    ("plan_epoch.schedule", "schedule must be one of alternating, .*, got VALUE", "random"),
    *((f"plan_epoch.{name}", "batch_size and temperature", value)
      for name, value in (("batch_size", 0), ("temperature", 0.5))),
    ("fit.train", NO_LABEL + r"\['genre'\]", data(0, genre=np.array([], int))),
    ("fit.train", r"labels\['genre'\] must be \(3,\) ids below 3, or -100 .*, got 7",
     data(genre=[0, 1, 7])),
    ("fit.validation", r"labels\['genre'\] must be", data(genre=[0, 1, 7])),
    ("fit.model", r"train.labels\['genre'\] has nothing to train", frozen("all")),
    *(("fit.config", error, make_config(**settings)) for error, settings in (
        ("select must be .* got 'mean'", {"select": "mean"}),
        ("select must be .* got 'colour'", {"select": "colour"}),
        ("processes is 2, but 1 were started", {"processes": 2}),
        ("weighting must have a weight for each of", {"weighting": {"genre": 1.0}}))),
    ("uncertain fit.backward", "backward needs processes=1 and weighting", print),
    ("fit.cache", "cache was made with other frozen weights", CACHE),
    ("resolve_dtype.name", "name must be one of auto, float32, bfloat16, got VALUE", "half"),
    ("freeze.parts", PARTS, "layers:3", "head:colour"), ("unfreeze.parts", PARTS, "body"),
    ("parameter_groups.model", "model must have a trainable parameter", frozen("all")),
    ("FrozenCache.model", "model must have a frozen encoder, or its embeddings will change", MODEL),
    ("FrozenCache.sentences", r"TypeError: sentences\[0\]", [1]),
    ("FrozenCache.inputs.sentences", "cache lacks 1 of the sentences, such as 'never seen'",
     ["never seen"]),
    ("save_checkpoint.step", "step must be at least 0 and keep at least 1", -1),
    ("save_checkpoint.keep", "step must be at least 0 and keep at least 1", 0),
    ("save_checkpoint.state", r"TypeError: state\['a'\] must be a dict", {"a": {1, 2}}),
    ("save_checkpoint.folder", "OSError: step 1 could not be saved", __file__),
    ("score_classification.true", "TypeError: true must hold integer class ids, got float64",
     [0.5] * 3),
    ("score_classification.true", "true must hold ids from 0 to 1, got 0 to 2", [0, 1, 2]),
    ("score_classification.true", LABELLED + r"\(3,\) with 0 labels", [-100] * 3),
    ("score_classification.true", LABELLED + r"\(3, 1\)", [[0]] * 3),
    ("score_classification.predicted", LABELLED + r"\(3,\) with 3 labels for \(2,\)", [0, 1]),
    ("score_classification.predicted", "TypeError: predicted must hold integer class ids, got",
     ["a"] * 3, [[0.1]] * 3),
    ("score_classification.predicted", "predicted must hold ids from 0 to 1, got -100 to 0",
     [0, 0, -100]),
    ("score_classification.labels", "labels must be a list of different names, got VALUE", "ab",
     ["a", "a"]),
    ("score_regression.true", "true must hold a label", np.full(3, NAN)),
    ("score_regression.true", FLOATS + r"got \(3,\) int64", IDS),
    ("score_regression.predicted", FLOATS + r"got \(3,\) float64 and \(2,\)", np.zeros(2)),
    ("score_regression.predicted", r".*predictions be finite, got \[inf\]",
     np.array([1.0, INF, 1.0])),
    ("bootstrap_interval.true", LABELLED, [-100] * 3),
    ("bootstrap_interval.predicted", LABELLED, IDS[:2]),
    ("bootstrap_interval.metric", "metric must be accuracy or macro_f1 .* got VALUE", "f1"),
    ("bootstrap_interval.groups", "groups must hold 3 ids, got 1", [1]),
    ("bootstrap_interval.n_resamples", ".* n_resamples at least 1, got 'macro_f1' and 0", 0),
    ("evaluate.data", r"labels\['genre'\] must be \(3,\) ids below 3, or -100 .* got 9",
     data(genre=[0, 1, 9])),
    ("reliability.true", LABELLED, [0, 1], [-100] * 3),
    ("expected_calibration_error.true", "true must hold ids from 0 to 1, got 0 to 2", [0, 1, 2]),
    ("brier_score.true", "TypeError: true must hold integer", [0.5, 1, 1]),
    ("fit_temperature.true", LABELLED, [-100] * 3),
    ("reliability.probabilities", SUM_TO_ONE + r", got \[1.4 0.6\]", PROBABILITIES * 2),
    ("expected_calibration_error.probabilities", r"probabilities must be \(N, K\)", IDS),
    ("brier_score.probabilities", SUM_TO_ONE, PROBABILITIES - 1, [[1.5, -0.5]] * 3),
    ("brier_score.probabilities", r"probabilities must be \(N, K\), K at least 2, got \(3, 1\)",
     np.ones((3, 1))),
    ("fit_temperature.probabilities", SUM_TO_ONE, PROBABILITIES * NAN),
    ("apply_temperature.probabilities", r"probabilities must be \(N, K\)", PROBABILITIES[0]),
    ("apply_temperature.temperature", "temperature must be finite and above 0, got VALUE", 0, -1,
     INF, NAN),
    ("part_of.text", "ArgumentTypeError: must be I/N with I from 1 to N", "3", "0/2", "3/2", "a/b",
     "-1/2", ""),
    ("policy_stages.policy", "policy must be one of full, everything, encoder", "frozen"),
    ("backward.name", "name must be one of PCGrad, UPGrad, got VALUE", "MGDA"),
]
CASES = [(argument, error, value) for argument, error, *values in BAD for value in values]


@pytest.mark.parametrize(("argument", "error", "value"), CASES,
                         ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_a_bad_value_is_refused_clearly(argument, error, value):
    name, _, changed = argument.rpartition(".")
    function, given = CALLS[name]
    with pytest.raises(Exception) as caught:  # noqa: B017
        function(**given | {changed: value})
    expected = error.replace("VALUE", re.escape(repr(value)))
    assert re.match(expected if "Error: " in error else f"ValueError: {expected}",
                    f"{type(caught.value).__name__}: {caught.value}"), caught.value


@pytest.mark.parametrize("name", CALLS)
def test_without_it_each_call_is_good(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, given = CALLS[name]
    function(**given)


# Arguments that every value fits, or that other arguments or the errors of Python itself check.
ANYTHING = set("""
TrainingConfig.select TrainingConfig.progress bootstrap_interval.seed evaluate.dtype evaluate.model
evaluate.tokens_per_batch
freeze.model load_checkpoint.folder
parameter_groups.encoder_lr parameter_groups.head_lr parameter_groups.layer_decay
parameter_groups.weight_decay plan_epoch.epoch plan_epoch.lengths plan_epoch.seed
pool.attention_mask pool.token_embeddings resolve_dtype.device split_corpus.seed split_indices.seed
task_losses.heads unfreeze.model""".split())


def test_every_argument_of_a_public_function_is_in_the_table():
    functions = [name for name in mtl.__all__ if inspect.isfunction(getattr(mtl, name))]
    arguments = {f"{name}.{argument}" for name in [*functions, "TrainingConfig"]
                 for argument in inspect.signature(getattr(mtl, name)).parameters}
    listed = {argument.split()[-1] for argument, *_ in BAD}
    assert arguments - listed - ANYTHING == set()
    assert ANYTHING <= arguments and not ANYTHING & listed
