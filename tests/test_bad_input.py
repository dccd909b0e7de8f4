"""A bad value for every public argument: the error that it gives is clear."""

from __future__ import annotations

import argparse
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from training_process import make_config, make_data, make_encoder, make_model

import mtl_helpers as mtl
from experiments import compare_encoders, gradients, policies, studies
from mtl_helpers.freezing import freeze

IDS, PROBABILITIES = np.array([0, 1, 1]), np.array([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9]])
DATA = make_data()
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
    "accumulate": (0,), "encoder_lr": (-1e-4, float("nan"), "fast"), "head_lr": (float("inf"),),
    "layer_decay": (1.5, -0.1), "weight_decay": (-0.01,), "warmup": (2, -0.1, None),
    "clip_norm": (0, -1.0), "schedule": ("random", None), "temperature": (0.5,),
    "weighting": ("equal", 3), "dtype": ("float16", torch.bfloat16), "seed": (-1, 0.5),
    "patience": (0, 2), "validate_every": (0,), "checkpoint_every": (-5,), "processes": (0,),
    "checkpoint_dir": (5, b"folder")}

BAD = [  # function.argument, a call with a bad value for it, the error
    *((f"TrainingConfig.{name}", lambda name=name, value=value: mtl.TrainingConfig(**{name: value}),
       rf"ValueError: {name} (must be|needs)") for name, values in CONFIG.items()
      for value in values),
    # heads
    ("ClassificationHead.embedding_dim", lambda: mtl.ClassificationHead(0, ["a", "b"]),
     "ValueError: embedding_dim and hidden_dim must be positive ints, got .0"),
    ("ClassificationHead.labels", lambda: mtl.ClassificationHead(8, "ab"),
     "ValueError: labels must list two or more different names, got 'ab'"),
    ("ClassificationHead.labels", lambda: mtl.ClassificationHead(8, ["a", "a"]),
     "ValueError: labels must list two or more different names"),
    ("ClassificationHead.hidden_dim", lambda: mtl.ClassificationHead(8, ["a", "b"], 2.0),
     "ValueError: embedding_dim and hidden_dim must be positive ints"),
    ("ClassificationHead.dropout", lambda: mtl.ClassificationHead(8, ["a", "b"], dropout=1),
     "ValueError: dropout must be at least 0 and below 1, got 1"),
    ("RegressionHead.embedding_dim", lambda: mtl.RegressionHead(8.0),
     "ValueError: embedding_dim and hidden_dim must be positive ints"),
    ("RegressionHead.hidden_dim", lambda: mtl.RegressionHead(8, -1),
     "ValueError: embedding_dim and hidden_dim must be positive ints"),
    ("RegressionHead.dropout", lambda: mtl.RegressionHead(8, dropout=-0.1),
     "ValueError: dropout must be at least 0 and below 1"),
    ("RegressionHead.hidden_dim", lambda: mtl.RegressionHead(8, output_dim=2),
     "TypeError: .*unexpected keyword argument 'output_dim'"),
    # encoder
    ("SentenceEncoder.pooling", lambda: make_encoder_with(pooling="mode"),
     "ValueError: pooling is 'mode'; valid are mean, cls, max"),
    ("SentenceEncoder.max_length", lambda: make_encoder_with(max_length=2),
     "ValueError: max_length is 2; this backbone takes 3 to 32"),
    ("SentenceEncoder.from_pretrained.name_or_folder",
     lambda: mtl.SentenceEncoder.from_pretrained("no-such-folder/no-such-model"),
     "OSError: .*no-such-folder/no-such-model"),
    ("SentenceEncoder.encode.sentences", lambda: make_encoder().encode(["a film", None]),
     r"TypeError: sentences\[1\]"),
    ("SentenceEncoder.encode.dtype", lambda: make_encoder().encode(["a"], dtype=torch.int64),
     "ValueError: dtype must be floating"),
    ("SentenceEncoder.encode.tokens_per_batch",
     lambda: make_encoder().encode(["a"], tokens_per_batch=0),
     "ValueError: dtype must be floating and tokens_per_batch at least 1"),
    ("SentenceEncoder.tokenize.sentences", lambda: make_encoder().tokenize([b"a film"]),
     r"TypeError: sentences\[0\]"),
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
    ("MultiTaskModel.save_pretrained.scores",
     lambda: make_model().save_pretrained("never", {"colour": {}}),
     r"ValueError: scores has the tasks \['colour'\]; valid are"),
    ("MultiTaskModel.save_pretrained.folder",
     lambda: make_model().save_pretrained(Path(__file__).parent),
     "FileExistsError: folder must be new, empty or an earlier save"),
    ("MultiTaskModel.from_pretrained.folder",
     lambda: mtl.MultiTaskModel.from_pretrained("no-such-folder"),
     "FileNotFoundError: folder must be one that MultiTaskModel.save_pretrained wrote"),
    # data
    ("LabelledSentences.sentences", lambda: mtl.LabelledSentences("a film", {}),
     "TypeError: sentences must be a list of strings"),
    ("LabelledSentences.sentences", lambda: mtl.LabelledSentences(["a", 2], {}),
     r"TypeError: sentences\[1\] must be str, got int"),
    ("LabelledSentences.labels", lambda: data(genre=[0, 1]),
     r"ValueError: labels\['genre'\] must have shape \(3,\), got \(2,\)"),
    ("LabelledSentences.labels", lambda: data(genre=[0, -1, 1]),
     r"ValueError: labels\['genre'\] must be class ids from 0, or -100; got -1"),
    ("LabelledSentences.labels", lambda: data(genre=["a", "b", "c"]),
     r"TypeError: labels\['genre'\] must be integers or floats"),
    ("LabelledSentences.groups", lambda: mtl.LabelledSentences(["a", "b"], {}, [1]),
     "ValueError: groups must be 2 document ids"),
    ("LabelledSentences.select.indices", lambda: DATA.select([100]), "IndexError: .*100"),
    ("split_corpus.data", lambda: mtl.split_corpus(data(2)),
     "ValueError: data must have more documents or different sentences"),
    ("split_corpus.fractions", lambda: mtl.split_corpus(DATA, (0.5, 0.5)),
     "ValueError: fractions must be three positive shares of sum 1"),
    ("split_corpus.stratify", lambda: mtl.split_corpus(DATA, stratify=["valence"]),
     "ValueError: stratify must name integer tasks among"),
    ("split_indices.data", lambda: mtl.split_indices(data(2)), "ValueError: data must have more"),
    ("split_indices.fractions", lambda: mtl.split_indices(DATA, (0.9, 0.2, -0.1)),
     "ValueError: fractions must be three positive shares of sum 1"),
    ("split_indices.stratify", lambda: mtl.split_indices(DATA, stratify=["colour"]),
     "ValueError: stratify must name integer tasks among"),
    ("assert_no_leakage.splits", lambda: mtl.assert_no_leakage([DATA, DATA]),
     "TypeError: splits must be two or more"),
    ("assert_no_leakage.splits", lambda: mtl.assert_no_leakage(DATA, DATA),
     "ValueError: 100 % of the 37 sentences of split 2 are also in split 1"),
    ("load_corpus.tasks", lambda: mtl.load_corpus(["colour"]),
     "ValueError: tasks must be among .*genre.*, got .'colour'."),
    ("human_row.ratings", lambda: mtl.human_row(np.zeros((3, 1))),
     "ValueError: ratings must be .N, R. with two or more ratings"),
    ("leave_one_rater_out.ratings", lambda: mtl.leave_one_rater_out(np.zeros(3)),
     "ValueError: ratings must be .N, R. with two or more ratings"),
    # synthetic sentences
    ("make_sentences.n", lambda: mtl.make_sentences(-1), "ValueError: n "),
    ("make_sentences.label_noise", lambda: mtl.make_sentences(5, label_noise=1.5),
     "ValueError: label_noise"),
    ("make_sentences.class_overlap", lambda: mtl.make_sentences(5, class_overlap=-1),
     "ValueError: class_overlap"),
    ("make_sentences.class_imbalance", lambda: mtl.make_sentences(5, class_imbalance=0),
     "ValueError: class_imbalance"),
    ("make_sentences.task_correlation", lambda: mtl.make_sentences(5, task_correlation=2),
     "ValueError: task_correlation"),
    ("make_sentences.missing", lambda: mtl.make_sentences(5, missing=-0.1), "ValueError: missing"),
    ("make_sentences.split", lambda: mtl.make_sentences(5, split="dev"), "ValueError: split"),
    ("best_accuracy.settings", lambda: mtl.best_accuracy(noise=0.1), "TypeError|ValueError"),
    ("oracle.sentences", lambda: mtl.oracle(["not one of ours"]), "ValueError: sentences"),
    ("oracle.settings", lambda: mtl.oracle([], noise=0.1), "TypeError|ValueError"),
    # losses
    ("task_losses.labels", lambda: mtl.task_losses(HEADS, LOGITS, {"colour": [0, 1]}),
     r"ValueError: labels has the tasks \['colour'\]; valid are"),
    ("task_losses.labels", lambda: mtl.task_losses(HEADS, LOGITS, {"genre": [0, 3]}),
     r"ValueError: labels\['genre'\] must be integers 0 to 2, or -100 .*, got 3"),
    ("task_losses.labels", lambda: mtl.task_losses(HEADS, LOGITS, {"genre": [0.0, 1.0]}),
     r"TypeError: labels\['genre'\] must be integers"),
    ("task_losses.logits", lambda: mtl.task_losses(HEADS, LOGITS, {"genre": [0, 1, 1]}),
     r"ValueError: labels\['genre'\] must hold one label for each of the 2 sentences"),
    ("StaticWeighting.weights", lambda: mtl.StaticWeighting({"genre": -1.0}),
     "ValueError: weights"),
    ("fit.config", lambda: fit(weighting={"colour": 1.0}), "ValueError: weight"),
    # batches
    ("plan_epoch.labels", lambda: plan(labels={"genre": np.array([-100, -100])}),
     r"ValueError: labels must have a label for each task, got none for \['genre'\]"),
    ("plan_epoch.schedule", lambda: plan(schedule="random"),
     "ValueError: schedule must be one of alternating, .*, got 'random'"),
    ("plan_epoch.batch_size", lambda: plan(batch_size=0), "ValueError: batch_size and temperature"),
    ("plan_epoch.temperature", lambda: plan(temperature=0.5), "ValueError: batch_size and temp"),
    ("plan_epoch.seed", lambda: plan(seed=-1), "ValueError: expected non-negative integer"),
    ("plan_epoch.lengths", lambda: plan(lengths=np.array([4])),
     "ValueError: labels and lengths must have one value a sentence each, got"),
    # training
    ("fit.train", lambda: mtl.fit(make_model(), data(0, genre=[])),
     "ValueError: train and validation must have sentences"),
    ("fit.train", lambda: mtl.fit(make_model(), data(genre=[1, 1, 1])),
     r"ValueError: train.labels\['genre'\] must have two different labels or more, got \[1\]"),
    ("fit.train", lambda: mtl.fit(make_model(), data(colour=[0, 1, 1])),
     r"ValueError: labels has the tasks \['colour'\]; valid are"),
    ("fit.train", lambda: mtl.fit(make_model(), data(genre=[0, 1, 7])),
     r"ValueError: labels\['genre'\] must be integers 0 to 2"),
    ("fit.validation", lambda: mtl.fit(make_model(), DATA, data(0, genre=[])),
     "ValueError: train and validation must have sentences"),
    ("fit.model", lambda: mtl.fit(frozen("all"), DATA),
     r"ValueError: train.labels\['genre'\] has nothing to train"),
    ("fit.config", lambda: fit(select="mean"), "ValueError: select needs validation data"),
    ("fit.config", lambda: fit(select="colour"), "ValueError: select must be None, mean, worst"),
    ("fit.config", lambda: fit(processes=2), "ValueError: processes is 2, but 1 were started"),
    ("fit.backward", lambda: mtl.fit(make_model(), DATA, config=make_config(accumulate=2),
                                     backward=print),
     "ValueError: backward needs processes=1, accumulate=1"),
    ("fit.cache", lambda: mtl.fit(frozen("layers:1"), DATA, config=make_config(), cache=cache()),
     "ValueError: cache was made with other frozen weights"),
    ("fit_stages.stages", lambda: mtl.fit_stages(make_model(), DATA, None,
                                                 [(["body"], make_config())]),
     "ValueError: part must be one of all, encoder"),
    ("fit_stages.stages", lambda: mtl.fit_stages(make_model(), DATA, None,
                                                 [(["all"], make_config())]),
     "ValueError: train.labels.'genre'. has nothing to train"),
    ("fit_stages.train", lambda: mtl.fit_stages(make_model(), data(colour=[0, 1, 1]), None,
                                                [([], make_config())]),
     "ValueError: labels has the tasks"),
    ("fit_stages.validation", lambda: mtl.fit_stages(make_model(), DATA, data(0, genre=[]),
                                                     [([], make_config())]),
     "ValueError: train and validation must have sentences"),
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
     "ValueError: model must have frozen embeddings"),
    ("FrozenCache.sentences", lambda: mtl.FrozenCache(frozen("encoder"), [1]),
     r"TypeError: sentences\[0\]"),
    ("FrozenCache.find.sentences",
     lambda: cache().find(frozen("encoder"), ["never seen"], None),
     "ValueError: cache lacks 1 of the sentences, such as 'never seen'"),
    # checkpoints
    ("save_checkpoint.step", lambda: mtl.save_checkpoint("never", -1, {}),
     "ValueError: step must be an int >= 0 and keep an int >= 1"),
    ("save_checkpoint.state", lambda: mtl.save_checkpoint("never", 1, {"a": {1, 2}}),
     r"TypeError: state\['a'\] must be a dict"),
    ("save_checkpoint.keep", lambda: mtl.save_checkpoint("never", 1, {}, keep=0),
     "ValueError: step must be an int >= 0 and keep an int >= 1"),
    ("save_checkpoint.folder", lambda: mtl.save_checkpoint(__file__, 1, {}),
     "OSError|FileExistsError|NotADirectoryError"),
    # evaluation
    ("score_classification.true", lambda: mtl.score_classification([0.5], [0], ["a", "b"]),
     "TypeError: true must"),
    ("score_classification.predicted", lambda: mtl.score_classification([0, 1], [0], ["a", "b"]),
     "ValueError: true and predicted must both be"),
    ("score_classification.labels", lambda: mtl.score_classification([0], [0], "ab"),
     "ValueError: labels must be a list of different names"),
    ("score_slices.slices", lambda: mtl.score_slices(IDS, IDS, ["a", "b"], ["x"]),
     "ValueError: slices must hold 3 ids, got 1"),
    ("score_regression.true", lambda: mtl.score_regression(np.array([np.nan]), np.array([1.0])),
     "ValueError: true"),
    ("score_regression.predicted", lambda: mtl.score_regression(np.zeros(2), np.zeros(3)),
     "ValueError: true must be .N,. floats, NaN where missing, and predicted"),
    ("bootstrap_interval.true", lambda: mtl.bootstrap_interval([-100], [0]), "ValueError: true"),
    ("bootstrap_interval.predicted", lambda: mtl.bootstrap_interval(IDS, IDS[:2]),
     "ValueError: true and predicted must both be"),
    ("bootstrap_interval.metric", lambda: mtl.bootstrap_interval(IDS, IDS, "f1"),
     "ValueError: metric must be a function or one of"),
    ("bootstrap_interval.groups", lambda: mtl.bootstrap_interval(IDS, IDS, groups=[1]),
     "ValueError: groups must hold 3 ids, got 1"),
    ("bootstrap_interval.n_resamples", lambda: mtl.bootstrap_interval(IDS, IDS, n_resamples=0),
     "ValueError: n_resamples must be at least 1"),
    ("bootstrap_interval.confidence", lambda: mtl.bootstrap_interval(IDS, IDS, confidence=95),
     "ValueError: confidence must be between 0 and 1, got 95"),
    ("paired_test.first", lambda: mtl.paired_test(IDS, IDS[:2], IDS),
     "ValueError: true and first must both"),
    ("paired_test.second", lambda: mtl.paired_test(IDS, IDS, IDS[:2]),
     "ValueError: true and second must both"),
    ("paired_test.metric", lambda: mtl.paired_test(IDS, IDS, IDS, "f1"), "ValueError: metric"),
    ("paired_test.true", lambda: mtl.paired_test([0.1, 1, 1], IDS, IDS), "TypeError: true"),
    ("linear_probe.train_ids", lambda: mtl.linear_probe(np.zeros((3, 2)), [1, 1, 1],
                                                        np.zeros((1, 2))),
     "ValueError: .*at least 2 classes"),
    ("evaluate.data", lambda: mtl.evaluate(make_model(), data(genre=[0, 1, 9])),
     "ValueError: true"),
    # calibration
    ("reliability.true", lambda: mtl.reliability([0, 1], PROBABILITIES),
     "ValueError: true must be"),
    ("reliability.probabilities", lambda: mtl.reliability(IDS, PROBABILITIES * 2),
     "ValueError: probabilities must have rows from 0 to 1 that sum to one"),
    ("reliability.n_bins", lambda: mtl.reliability(IDS, PROBABILITIES, 0),
     "ValueError: n_bins must be at least 1"),
    ("expected_calibration_error.true",
     lambda: mtl.expected_calibration_error([0, 1, 2], PROBABILITIES),
     "ValueError: true must hold ids from 0 to 1, got 0 to 2"),
    ("expected_calibration_error.probabilities",
     lambda: mtl.expected_calibration_error(IDS, IDS), "ValueError: probabilities must be .N, K."),
    ("expected_calibration_error.n_bins",
     lambda: mtl.expected_calibration_error(IDS, PROBABILITIES, -1), "ValueError: n_bins"),
    ("brier_score.true", lambda: mtl.brier_score([0.5, 1, 1], PROBABILITIES), "TypeError: true"),
    ("brier_score.probabilities", lambda: mtl.brier_score(IDS, PROBABILITIES - 1),
     "ValueError: probabilities"),
    ("fit_temperature.true", lambda: mtl.fit_temperature([-100] * 3, PROBABILITIES),
     "ValueError: true must hold at least one id"),
    ("fit_temperature.probabilities", lambda: mtl.fit_temperature(IDS, PROBABILITIES * np.nan),
     "ValueError: probabilities"),
    ("apply_temperature.probabilities", lambda: mtl.apply_temperature(PROBABILITIES[0], 1.0),
     "ValueError: probabilities must be .N, K."),
    ("apply_temperature.temperature", lambda: mtl.apply_temperature(PROBABILITIES, 0),
     "ValueError: temperature must be finite and above 0"),
    # experiments
    *(("experiments.part_of.text", lambda text=text: studies.part_of(text),
       "ArgumentTypeError: must be I/N with I from 1 to N")
      for text in ("3", "0/2", "3/2", "a/b", "-1/2", "")),
    ("experiments.policy_stages.policy", lambda: policies.policy_stages("frozen", 100, 10),
     "ValueError: policy must be one of full, everything, encoder"),
    ("experiments.backward.name", lambda: gradients.backward(make_model(), "MGDA"),
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
    "TrainingConfig.select", "TrainingConfig.progress",
    "TrainingConfig.group_by_length",  # `fit` checks select
    "bootstrap_interval.seed", "paired_test.seed", "split_corpus.seed", "split_indices.seed",
    "make_sentences.seed", "make_sentences.shifted_vocabulary", "paired_test.n_resamples",
    "paired_test.confidence", "paired_test.groups",  # as in bootstrap_interval
    "leave_one_rater_out.band", "evaluate.model", "evaluate.dtype", "fit_stages.model",
    "freeze.model", "unfreeze.model", "frozen_depth.model", "trainable_table.model",
    "overlap.train", "overlap.test", "load_checkpoint.folder", "resolve_dtype.device",
    "score_slices.true", "score_slices.predicted", "score_slices.labels",  # as without slices
    "log_k_weights.heads", "task_losses.heads", "task_losses.batch_counts", "plan_epoch.epoch",
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
