"""A bad value for every public argument: the error that it gives is clear."""

from __future__ import annotations

import argparse
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import make_config, make_data, make_encoder, make_model

import mtl_helpers as mtl
from experiments import calibration as cal
from experiments import compare_encoders, policies, studies, weightings
from mtl_helpers.freezing import freeze

IDS, PROBABILITIES = np.array([0, 1, 1]), np.array([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9]])
DATA = make_data()
NAMES = ["a", "b"]
LABELS = {"genre": np.array([0, 1, 1]), "sentiment": np.array([0, 1, -100])}
HEADS = make_model().heads
LOGITS = {"genre": torch.zeros(2, 3)}
STEP = {"step": 1, "epoch": 1, "sentences": 8, "labels": {"genre": 8}, "loss": {"genre": 1.0},
        "gradient_norm": 1.0, "rate": 1.0}


def frozen(*parts: str) -> mtl.MultiTaskModel:
    model = make_model()
    freeze(model, *parts)
    return model


def data(n: int = 3, **labels: object) -> mtl.LabelledSentences:
    return mtl.LabelledSentences([f"film {i}" for i in range(n)], labels)


def cache() -> mtl.FrozenCache:
    return mtl.FrozenCache(frozen("encoder"), DATA.sentences)


def without(part: str) -> mtl.MultiTaskModel:
    model = make_model()
    del model.heads[part]
    return model


CONFIG = {  # argument of TrainingConfig: values that it does not take
    "epochs": (0, -1, 1.5, True), "max_steps": (0, 2.5), "batch_size": (0, "32"),
    "encoder_lr": (-1e-4, float("nan"), "fast"), "head_lr": (float("inf"),),
    "layer_decay": (1.5, -0.1), "weight_decay": (-0.01,), "warmup": (2, -0.1, None),
    "clip_norm": (0, -1.0), "schedule": ("random", None), "temperature": (0.5,),
    "weighting": ("equal", 3), "dtype": ("float16", torch.bfloat16), "seed": (-1, 0.5),
    "patience": (0, 2), "validate_every": (0,), "checkpoint_every": (-5,), "processes": (0,),
    "checkpoint_dir": (5, b"folder")}

SYNTHETIC = {  # argument of make_sentences: values that it does not take
    "n": (0, 2.0, None, True), "seed": (-1, 1.5, "0", False), "split": ("dev", None, ["train"]),
    "label_noise": (1.01, "0.1", True), "class_overlap": (-0.01, float("nan"), None),
    "missing": (float("inf"), 2), "tasks": ("topic", [], ["colour"])}
NAN, INF = float("nan"), float("inf")
UNKNOWN = r"ValueError: labels has the tasks \[.*\]; valid are \['genre', "
RULE = r"ValueError: labels\['genre'\] must be \(2,\) ids below 3, or -100 .* missing, got "
FLOATS = r"ValueError: labels\['valence'\] must be \(2,\) finite floats, or NaN .* got "
WRONG_LABELS = [  # of two sentences; genre has three classes
    ({"colour": [0, 1]}, UNKNOWN), ({"genre": [0, 0], "Genre": [0, 0]}, UNKNOWN), ({}, UNKNOWN),
    ({"genre": [0, 3]}, f"{RULE}3"), ({"genre": [-1, 0]}, f"{RULE}-1"),
    ({"genre": [0.0, 1.5]}, f"{RULE}1.5"), ({"genre": [-1.0, NAN]}, f"{RULE}-1.0"),
    ({"genre": [True, False]}, f"{RULE}.2,. torch.bool"),
    ({"genre": ["tweet", "a"]}, RULE),
    ({"genre": np.array(["a", "b"])}, RULE),
    ({"genre": [0, None]}, RULE),
    ({"valence": [[1.0, 2.0]] * 2}, f"{FLOATS}.2, 2. torch.float32"),
    ({"valence": [1.0, INF]}, f"{FLOATS}inf"),
    *(({"genre": values}, f"{RULE}{shape}") for values, shape in (
        ([0], r"\(1,\)"), ([0, 1, 2], r"\(3,\)"), ([[0], [1]], r"\(2, 1\)"), (0, r"\(\)")))]
WRONG_DATA = [  # labels of three sentences, or labels and names, and the end of the error
    ([0, 1], r"must be .3,. labels or .3, L. vectors, got \(2,\)"), (3, r"vectors, got \(\)"),
    ([[0], [1], [2]], r"got .N, 1.; give np.ravel.labels."),
    ([True, False, True], "got bool; two classes are ids: "),
    ([True, None, False], "got True; two classes are ids: "),
    ([["a"], ["b", "c"], []], "got .'a'.; lists of names become 0 and 1, .*MultiLabelBinarizer"),
    ([["a", "b"]] * 3, "got .'a', 'b'.; lists of names become 0 and 1"),
    ([b"a", b"b", b"c"], "must be numbers or names, got b'a'"),
    (["a", 1, None], "must be of one kind, got 'a' and 1"),
    ([0.5, "a", 1], "must be of one kind, got 0.5 and 'a'"),
    (["a", "b", "c"], r"must be among .'a', 'b'., got 'c'", NAMES),
    ([0, 2, 1], "must be ids of the 2 names, or -100; got 2", NAMES),
    ([0.0, 1.0, NAN], "must be names or ids, as names has .'a', 'b'.; got", NAMES),
    ([0, -1, 1], "must be class ids from 0, or -100, or floats; got -1"),
    ([0.0, INF, 1.0], "must be finite, or NaN; got inf")]
NO_STRINGS = [(["a film", None], r"\[1\] must be a string of valid Unicode, got None of"),
              ([NAN], r"\[0\] must be a string .* got nan of"),
              ([b"a"], r"\[0\] must be a string .* got b'a' of"),
              ([["nested"]], r"\[0\] must be a string .* got \['nested'\] of"),
              (b"bytes", " must be a list of strings, got b'bytes'"),
              (["a", "b", "\ud83d"], r"\[2\] must be a string .* got '\\ud83d' of")]

BAD = [  # function.argument, a call with a bad value for it, the error
    *((f"TrainingConfig.{name}", lambda name=name, value=value: mtl.TrainingConfig(**{name: value}),
       rf"ValueError: {name} (must be|needs)") for name, values in CONFIG.items()
      for value in values),
    # heads
    *(("ClassificationHead.labels", lambda names=names: mtl.ClassificationHead(8, names),
       f"ValueError: labels must list two or more different names, got {re.escape(repr(names))}")
      for names in ([], ["only"], ["a", "b", "a"], "abc", None, 3, [0, 1], ["a", None], ["a", ""],
                    {"a": 0})),
    *((f"{kind.__name__}.{name}",
       lambda kind=kind, given=given, name=name, value=value: kind(**given | {name: value}), error)
      for kind, given in ((mtl.RegressionHead, {"embedding_dim": 8}),
                          (mtl.ClassificationHead, {"embedding_dim": 8, "labels": ["a", "b"]}))
      for name, value, error in (
          ("embedding_dim", 0, "ValueError: embedding_dim and hidden_dim must be .* 1, got 0 and"),
          ("embedding_dim", -1, "ValueError: embedding_dim and hidden_dim must be at least 1"),
          ("embedding_dim", 8.0, "TypeError: "), ("embedding_dim", "8", "TypeError: "),
          ("hidden_dim", 0, "ValueError: embedding_dim and hidden_dim .* at least 1, got 8 and 0"),
          ("hidden_dim", 2.5, "TypeError: "), ("dropout", 1, "ValueError: dropout must be at"),
          ("dropout", -0.1, "ValueError: dropout must be at least 0 and below 1, got -0.1"),
          ("dropout", NAN, "ValueError: dropout must be at least 0 and below 1, got nan"),
          ("output_dim", 2, "TypeError: .*unexpected keyword argument 'output_dim'"))),
    # encoder
    ("SentenceEncoder.pooling", lambda: make_encoder_with(pooling="mode"),
     "ValueError: pooling is 'mode'; valid are mean, cls, max"),
    *(("SentenceEncoder.max_length", lambda length=length: make_encoder_with(max_length=length),
       f"ValueError: max_length is {length}; this backbone takes 3 to 32")
      for length in (0, 2, 33)),
    ("SentenceEncoder.from_pretrained.pooling",
     lambda: mtl.SentenceEncoder.from_pretrained("all-MiniLM-L6-v2", pooling="median"),
     "ValueError: pooling is 'median'"),
    ("SentenceEncoder.from_pretrained.name_or_folder",
     lambda: mtl.SentenceEncoder.from_pretrained("no-such-folder/no-such-model"),
     "OSError: .*no-such-folder/no-such-model"),
    *(("SentenceEncoder.encode.sentences", lambda texts=texts: make_encoder().encode(texts),
       f"TypeError: sentences{error}") for texts, error in NO_STRINGS),
    ("SentenceEncoder.encode.dtype", lambda: make_encoder().encode(["a"], dtype=torch.int64),
     "TypeError: .*only accepts floating .*torch.int64"),
    ("SentenceEncoder.tokenize.sentences", lambda: make_encoder().tokenize("bare"),
     "TypeError: sentences must be a list of strings, got 'bare'"),
    ("pool.pooling", lambda: mtl.pool(torch.zeros(1, 2, 4), None, "median"),
     "ValueError: pooling is 'median'; valid are mean, cls, max"),
    ("pool.attention_mask", lambda: mtl.pool(torch.zeros(1, 2, 4), torch.ones(1, 3)),
     "RuntimeError: The size of tensor a .3. must match the size of tensor b .2."),
    # model
    ("MultiTaskModel.heads", lambda: mtl.MultiTaskModel(make_encoder(), {}),
     "ValueError: heads must be one head object for each task"),
    ("MultiTaskModel.heads",
     lambda: mtl.MultiTaskModel(make_encoder(), {"a.b": mtl.RegressionHead(16)}),
     "ValueError: heads has the task 'a.b'"),
    ("MultiTaskModel.heads",
     lambda: mtl.MultiTaskModel(make_encoder(), {"a": mtl.RegressionHead(8)}),
     r"ValueError: heads\['a'\] must have the encoder's embedding_dim, 16, got 8"),
    ("MultiTaskModel.predict.sentences", lambda: make_model().predict([1]),
     r"TypeError: sentences"),
    ("MultiTaskModel.save_pretrained.folder",
     lambda: make_model().save_pretrained(Path(__file__).parent),
     "FileExistsError: folder must be new, empty or an earlier save"),
    ("MultiTaskModel.from_pretrained.folder",
     lambda: mtl.MultiTaskModel.from_pretrained("no-such-folder"),
     "FileNotFoundError: .*No such file.*no-such-folder/heads.json"),
    # data
    *(("LabelledSentences.sentences", lambda text=text: mtl.LabelledSentences(text, {}),
       f"TypeError: sentences must be a list of strings, got {text!r}")
      for text in ("abc",)),
    *(("LabelledSentences.sentences", lambda wrong=wrong: mtl.LabelledSentences(["a", wrong], {}),
       rf"TypeError: sentences\[1\] must be str, got .* of <class '.*{type(wrong).__name__}'>")
      for wrong in (None, NAN, b"bytes", 3, ["nested"], np.float64(1))),
    *(("LabelledSentences.labels", lambda values=values, names=names: mtl.LabelledSentences(
        ["a", "b", "c"], {"genre": values}, names={"genre": names[0]} if names else None),
       rf"ValueError: labels\['genre'\] .*{error}") for values, error, *names in WRONG_DATA),
    *(("concatenate.parts", lambda values=values: mtl.concatenate(data(genre=values), data(
        genre=["a", "b", "c"])), r"ValueError: labels\['genre'\] must be of one kind, with names")
      for values in ([0, 1, 2], [0.5, 1, 2], np.ones((3, 2)))),
    *(("LabelledSentences.groups",
       lambda groups=groups: mtl.LabelledSentences(["a", "b", "c"], {}, groups),
       "ValueError: groups must be 3 document ids")
      for groups in ([1, 2], [1, 2, 3, 4], [1, None, 2], [1, NAN, 2])),
    *(("LabelledSentences.select.indices", lambda rows=rows: DATA.select(rows), "IndexError: ")
      for rows in ([100], [0.5], [True, False])),
    *(("split_corpus.data", lambda texts=texts: mtl.split_corpus(mtl.LabelledSentences(texts, {})),
       "ValueError: data must have more documents or different sentences")
      for texts in ([], ["a", "b"], ["a", "A ", "b"] * 20)),
    *(("split_corpus.fractions", lambda shares=shares: mtl.split_corpus(DATA, shares),
       "ValueError: fractions must be three positive shares of sum 1")
      for shares in ((0.7, 0.3), (0.7, 0.3, 0.0), (0.7, 0.2, 0.2), (2, -0.5, -0.5))),
    ("split_indices.data", lambda: mtl.split_indices(data(2)), "ValueError: data must have more"),
    ("split_indices.fractions", lambda: mtl.split_indices(DATA, (0.9, 0.2, -0.1)),
     "ValueError: fractions must be three positive shares of sum 1"),
    ("assert_no_leakage.splits", lambda: mtl.assert_no_leakage([DATA, DATA]),
     "TypeError: splits must be two or more"),
    ("assert_no_leakage.splits", lambda: mtl.assert_no_leakage(DATA, DATA),
     "ValueError: 100 % of the 37 sentences of split 2 are also in split 1"),
    ("load_corpus.tasks", lambda: mtl.load_corpus(["colour"]),
     "ValueError: tasks must be among .*genre.*, got .'colour'."),
    ("load_corpus.tasks", lambda: mtl.load_corpus("genre"), "ValueError: tasks must be among"),
    # synthetic sentences
    *((f"make_sentences.{name}",
       lambda name=name, value=value: mtl.make_sentences(**{"n": 5, name: value}),
       rf"ValueError: {name} must be .*got {re.escape(repr(value))}$")
      for name, values in SYNTHETIC.items() for value in values),
    ("best_accuracy.settings", lambda: mtl.best_accuracy(missing=1.01),
     "ValueError: missing must be a float from 0 to 1, got 1.01"),
    ("best_accuracy.settings", lambda: mtl.best_accuracy(noise=0.1), "TypeError: .*'noise'"),
    ("oracle.sentences", lambda: mtl.oracle([*mtl.make_sentences(1)[0], "The sky is blue."]),
     r"ValueError: sentences\[1\] must be one the settings make, got 'The sky is blue.'"),
    ("oracle.sentences", lambda: mtl.oracle(mtl.make_sentences(50, class_overlap=1)[0]),
     r"ValueError: sentences\[\d+\] must be one the settings make"),
    ("oracle.settings", lambda: mtl.oracle([], label_noise=-0.1),
     "ValueError: label_noise must be a float from 0 to 1, got -0.1"),
    ("oracle.settings", lambda: mtl.oracle([], noise=0.1), "TypeError: .*'noise'"),
    # losses
    *(("task_losses.labels", lambda labels=labels: mtl.task_losses(HEADS, LOGITS, labels), error)
      for labels, error in WRONG_LABELS),
    ("task_losses.logits", lambda: mtl.task_losses(HEADS, {"genre": torch.zeros(3, 3)}, {
        "genre": [0, 1]}), r"ValueError: labels\['genre'\] must be \(3,\)"),
    *(("StaticWeighting.weights", lambda weight=weight: mtl.StaticWeighting({"genre": weight}),
       "ValueError: weights must be finite and not negative, got {'genre'")
      for weight in (-1.0, NAN, INF)),
    ("fit.config", lambda: fit(weighting={"colour": 1.0}), "ValueError: weight"),
    # batches
    ("plan_epoch.labels", lambda: plan(labels={"genre": np.array([-100, -100])}),
     r"ValueError: labels must have a label for each task, got none for \['genre'\]"),
    ("plan_epoch.labels", lambda: plan(labels={}), "ValueError: labels .*, got none for any"),
    ("plan_epoch.labels", lambda: plan(labels={"valence": np.array([NAN])}),
     r"ValueError: labels must have a label for each task, got none for \['valence'\]"),
    ("plan_epoch.schedule", lambda: plan(schedule="random"),
     "ValueError: schedule must be one of alternating, .*, got 'random'"),
    ("plan_epoch.batch_size", lambda: plan(batch_size=0), "ValueError: batch_size and temperature"),
    ("plan_epoch.temperature", lambda: plan(temperature=0.5), "ValueError: batch_size and temp"),
    ("plan_epoch.seed", lambda: plan(seed=-1), "ValueError: expected non-negative integer"),
    ("plan_epoch.lengths", lambda: plan(lengths=np.array([4])), "IndexError: index"),
    # training
    ("fit.train", lambda: mtl.fit(make_model(), data(0, genre=np.array([], int))),
     r"ValueError: labels must have a label for each task, got none for \['genre'\]"),
    ("fit.train", lambda: mtl.fit(make_model(), data(colour=[0, 1, 1])),
     r"ValueError: labels has the tasks \['colour'\]; valid are"),
    ("fit.train", lambda: mtl.fit(make_model(), data(genre=[0, 1, 7])),
     r"ValueError: labels\['genre'\] must be .3,. ids below 3, or -100 .*, got 7"),
    ("fit.validation", lambda: mtl.fit(make_model(), DATA, data(genre=[0, 1, 7])),
     r"ValueError: labels\['genre'\] must be"),
    ("fit.model", lambda: mtl.fit(frozen("all"), DATA),
     r"ValueError: train.labels\['genre'\] has nothing to train"),
    ("fit.config", lambda: fit(select="mean"), "ValueError: select is 'mean', and needs valid"),
    ("fit.config", lambda: fit(select="colour"), "ValueError: select must be None, mean or one"),
    ("fit.config", lambda: fit(processes=2), "ValueError: processes is 2, but 1 were started"),
    ("fit.backward", lambda: mtl.fit(make_model(), DATA, backward=print,
                                     config=make_config(weighting="uncertainty")),
     "ValueError: backward needs processes=1 and weighting"),
    ("fit.cache", lambda: mtl.fit(frozen("head:genre"), DATA, config=make_config(),
                                  cache=cache()),
     "ValueError: cache was made with other frozen weights"),
    ("resolve_dtype.name", lambda: mtl.resolve_dtype(torch.device("cpu"), "half"),
     "ValueError: name must be one of auto, float32, bfloat16, got 'half'"),
    # freezing
    ("freeze.parts", lambda: freeze(make_model(), "layers:3"),
     "ValueError: part must be one of .*K from 0 to 2 and TASK one of genre.*got 'layers:3'"),
    ("freeze.parts", lambda: freeze(make_model(), "head:colour"), "ValueError: part must be one"),
    ("unfreeze.parts", lambda: mtl.unfreeze(make_model(), "body"), "ValueError: part must be one"),
    ("parameter_groups.model", lambda: mtl.parameter_groups(frozen("all"), 1e-4, 1e-2),
     "ValueError: model must have a trainable parameter"),
    ("FrozenCache.model", lambda: mtl.FrozenCache(make_model(), ["a"]),
     "ValueError: model must have a frozen encoder, or its embeddings will change"),
    ("FrozenCache.sentences", lambda: mtl.FrozenCache(frozen("encoder"), [1]),
     r"TypeError: sentences\[0\]"),
    ("FrozenCache.inputs.sentences", lambda: cache().inputs(["never seen"]),
     "ValueError: cache lacks 1 of the sentences, such as 'never seen'"),
    ("FrozenCache.check.dtype", lambda: cache().check(frozen("encoder"), torch.bfloat16),
     "ValueError: cache was made with other frozen weights"),
    # checkpoints
    ("save_checkpoint.step", lambda: mtl.save_checkpoint("never", -1, {}),
     "ValueError: step must be at least 0 and keep at least 1"),
    ("save_checkpoint.state", lambda: mtl.save_checkpoint("never", 1, {"a": {1, 2}}),
     r"TypeError: state\['a'\] must be a dict"),
    ("save_checkpoint.keep", lambda: mtl.save_checkpoint("never", 1, {}, keep=0),
     "ValueError: step must be at least 0 and keep at least 1"),
    ("save_checkpoint.folder", lambda: mtl.save_checkpoint(__file__, 1, {}),
     "OSError|FileExistsError|NotADirectoryError"),
    # evaluation
    ("score_classification.true", lambda: mtl.score_classification([0.5], [0], NAMES),
     "TypeError: true must hold integer class ids, got float64"),
    ("score_classification.true", lambda: mtl.score_classification([0, 2], [0, 1], NAMES),
     "ValueError: true must hold ids from 0 to 1, got 0 to 2"),
    ("score_classification.true", lambda: mtl.score_classification([-100], [0], NAMES),
     r"ValueError: true must be .N,., not all missing, .* got \(1,\) with 0 labels"),
    ("score_classification.true", lambda: mtl.score_classification([[0]], [[0]], NAMES),
     r"ValueError: true must be .N,.* got \(1, 1\)"),
    ("score_classification.predicted", lambda: mtl.score_classification([0, 1], [0], NAMES),
     r"ValueError: true must be .N,.* got \(2,\) with 2 labels for \(1,\)"),
    ("score_classification.predicted", lambda: mtl.score_classification([0], ["a"], NAMES),
     "TypeError: predicted must hold integer class ids, got <U1"),
    ("score_classification.predicted", lambda: mtl.score_classification([0], [[0.1]], NAMES),
     "TypeError: predicted must hold integer class ids, got float64"),
    ("score_classification.predicted", lambda: mtl.score_classification([0], [-100], NAMES),
     "ValueError: predicted must hold ids from 0 to 1, got -100 to -100"),
    ("score_classification.labels", lambda: mtl.score_classification([0], [0], "ab"),
     "ValueError: labels must be a list of different names, got 'ab'"),
    ("score_classification.labels", lambda: mtl.score_classification([0], [0], ["a", "a"]),
     "ValueError: labels must be a list of different names"),
    ("score_regression.true", lambda: mtl.score_regression(np.array([np.nan]), np.array([1.0])),
     "ValueError: true must hold a label"),
    ("score_regression.true", lambda: mtl.score_regression(IDS, np.zeros(3)),
     r"ValueError: true must be .N,. floats, NaN where missing.* got \(3,\) int64"),
    ("score_regression.predicted", lambda: mtl.score_regression(np.zeros(2), np.zeros(3)),
     "ValueError: true must be .N,. floats, NaN where missing, and predicted"),
    ("score_regression.predicted", lambda: mtl.score_regression(np.ones(1), np.array([np.inf])),
     r"ValueError: .*predictions be finite, got \[inf\]"),
    ("bootstrap_interval.true", lambda: mtl.bootstrap_interval([-100], [0]), "ValueError: true"),
    ("bootstrap_interval.predicted", lambda: mtl.bootstrap_interval(IDS, IDS[:2]),
     "ValueError: true must be .N,., not all missing, for N predictions"),
    ("bootstrap_interval.predicted", lambda: mtl.bootstrap_interval([0, 1], [0.2, 0.9]),
     "TypeError: predicted must hold integer class ids, got float64"),
    ("bootstrap_interval.metric", lambda: mtl.bootstrap_interval(IDS, IDS, "f1"),
     "ValueError: metric must be accuracy or macro_f1 .* got 'f1'"),
    ("bootstrap_interval.groups", lambda: mtl.bootstrap_interval(IDS, IDS, groups=[1]),
     "ValueError: groups must hold 3 ids, got 1"),
    ("bootstrap_interval.n_resamples", lambda: mtl.bootstrap_interval(IDS, IDS, n_resamples=0),
     "ValueError: .* n_resamples at least 1, got 'macro_f1' and 0"),
    ("linear_probe.train_ids", lambda: mtl.linear_probe(np.zeros((3, 2)), [1, 1, 1],
                                                        np.zeros((1, 2))),
     "ValueError: .*at least 2 classes"),
    ("evaluate.data", lambda: mtl.evaluate(make_model(), data(genre=[0, 1, 9])),
     r"ValueError: labels\['genre'\] must be \(3,\) ids below 3, or -100 .* got 9"),
    ("reliability.true", lambda: cal.reliability([0, 1], PROBABILITIES),
     "ValueError: true must be"),
    ("reliability.probabilities", lambda: cal.reliability(IDS, PROBABILITIES * 2),
     r"ValueError: probabilities must be 0 to 1, a row sum to one, got \[1.4 0.6\]"),
    ("expected_calibration_error.true",
     lambda: cal.expected_calibration_error([0, 1, 2], PROBABILITIES),
     "ValueError: true must hold ids from 0 to 1, got 0 to 2"),
    ("expected_calibration_error.probabilities",
     lambda: cal.expected_calibration_error(IDS, IDS), "ValueError: probabilities must be .N, K."),
    ("brier_score.true", lambda: cal.brier_score([0.5, 1, 1], PROBABILITIES), "TypeError: true"),
    ("brier_score.true", lambda: cal.brier_score([0, -1, 1], PROBABILITIES),
     "ValueError: true must hold ids from 0 to 1, got -1 to 1"),
    ("brier_score.probabilities", lambda: cal.brier_score(IDS, PROBABILITIES - 1),
     "ValueError: probabilities"),
    ("brier_score.probabilities", lambda: cal.brier_score(IDS, PROBABILITIES[:, :1] * 0 + 1),
     r"ValueError: probabilities must be .N, K., K at least 2, got \(3, 1\)"),
    ("brier_score.probabilities", lambda: cal.brier_score([0], [[1.5, -0.5]]),
     r"ValueError: probabilities must be 0 to 1, .* got \[ 1.5 -0.5\]"),
    ("fit_temperature.true", lambda: cal.fit_temperature([-100] * 3, PROBABILITIES),
     "ValueError: true must be .N,., not all missing"),
    ("fit_temperature.probabilities", lambda: cal.fit_temperature(IDS, PROBABILITIES * np.nan),
     "ValueError: probabilities"),
    ("apply_temperature.probabilities", lambda: cal.apply_temperature(PROBABILITIES[0], 1.0),
     "ValueError: probabilities must be .N, K."),
    *(("apply_temperature.temperature", lambda t=t: cal.apply_temperature(PROBABILITIES, t),
       f"ValueError: temperature must be finite and above 0, got {t}")
      for t in (0, -1, float("inf"), float("nan"))),
    # experiments
    *(("experiments.part_of.text", lambda text=text: studies.part_of(text),
       "ArgumentTypeError: must be I/N with I from 1 to N")
      for text in ("3", "0/2", "3/2", "a/b", "-1/2", "")),
    ("experiments.policy_stages.policy", lambda: policies.policy_stages("frozen", 100, 10),
     "ValueError: policy must be one of full, everything, encoder"),
    ("experiments.backward.name", lambda: weightings.backward(make_model(), "MGDA"),
     "ValueError: name must be one of PCGrad, UPGrad, got 'MGDA'"),
    ("experiments.encoders.names", lambda: compare_encoders.main(["no-such-model"]),
     r"SystemExit: unknown models \['no-such-model'\]"),
]


def make_encoder_with(**settings: object) -> mtl.SentenceEncoder:
    encoder = make_encoder()
    return mtl.SentenceEncoder(encoder.backbone, encoder.tokenizer, **settings)


def fit(**settings: object) -> mtl.History:
    return mtl.fit(make_model(), DATA, config=make_config(**settings))


def plan(**changes: object) -> list:
    given = {"labels": LABELS, "schedule": "joint", "batch_size": 2, "seed": 0, "epoch": 0}
    return mtl.plan_epoch(**given | changes)


@pytest.mark.parametrize(("argument", "call", "error"), BAD,
                         ids=[f"{i}-{row[0]}" for i, row in enumerate(BAD)])
def test_a_bad_value_is_refused_clearly(argument, call, error) -> None:
    with pytest.raises((Exception, SystemExit)) as caught:  # noqa: B017
        call()
    known = ValueError | TypeError | OSError | IndexError | RuntimeError | SystemExit
    assert isinstance(caught.value, known | argparse.ArgumentTypeError)
    shown = f"{type(caught.value).__name__}: {caught.value}"
    assert re.match(error, shown), shown


# Arguments that every value fits, or that other arguments or the errors of Python itself check.
ANYTHING = {
    "TrainingConfig.select", "TrainingConfig.progress",  # `fit` checks select
    "bootstrap_interval.seed", "split_corpus.seed", "split_indices.seed",
    "evaluate.model", "evaluate.dtype",
    "freeze.model", "unfreeze.model", "load_checkpoint.folder", "resolve_dtype.device",
    "task_losses.heads", "plan_epoch.epoch",
    "parameter_groups.encoder_lr", "parameter_groups.head_lr", "parameter_groups.weight_decay",
    "parameter_groups.layer_decay",  # TrainingConfig checks these
    "pool.token_embeddings", "linear_probe.train_embeddings", "linear_probe.embeddings"}


def test_every_argument_of_a_public_function_is_in_the_table() -> None:
    functions = [name for name in mtl.__all__ if inspect.isfunction(getattr(mtl, name))]
    arguments = {f"{name}.{argument}" for name in [*functions, "TrainingConfig"]
                 for argument in inspect.signature(getattr(mtl, name)).parameters}
    listed = {row[0] for row in BAD}
    assert arguments - listed - ANYTHING == set()
    assert ANYTHING <= arguments and not ANYTHING & listed
