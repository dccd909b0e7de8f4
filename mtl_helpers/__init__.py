"""Multi-task learning on sentence embeddings, in small files that can be copied out."""

from .batching import plan_epoch
from .cache import FrozenCache
from .calibration import (
    Reliability,
    apply_temperature,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from .checkpoint import load_checkpoint, save_checkpoint
from .config import TrainingConfig, resolve_dtype
from .corpus import (
    GENRES,
    SENTIMENTS,
    CorpusError,
    human_row,
    leave_one_rater_out,
    load_corpus,
    load_ratings,
)
from .data import LabelledSentences, assert_no_leakage, overlap, split_corpus, split_indices
from .encoder import SentenceEncoder, pool
from .evaluation import (
    PairedTest,
    RegressionReport,
    TaskReport,
    bootstrap_interval,
    evaluate,
    linear_probe,
    paired_test,
    score_classification,
    score_regression,
    score_slices,
)
from .freezing import freeze, frozen_depth, parameter_groups, trainable_table, unfreeze
from .heads import ClassificationHead, RegressionHead
from .history import History
from .losses import StaticWeighting, UncertaintyWeighting, log_k_weights, task_losses
from .model import MultiTaskModel, Prediction
from .run import TrainingDiverged
from .synthetic import TOPICS, best_accuracy, make_sentences, oracle
from .training import fit, fit_stages

__version__ = "0.1.0"
__all__ = [
    "GENRES", "SENTIMENTS", "TOPICS", "ClassificationHead", "CorpusError", "FrozenCache", "History",
    "LabelledSentences", "MultiTaskModel", "PairedTest", "Prediction", "RegressionHead",
    "RegressionReport", "Reliability", "SentenceEncoder", "StaticWeighting", "TaskReport",
    "TrainingConfig", "TrainingDiverged", "UncertaintyWeighting", "apply_temperature",
    "assert_no_leakage", "best_accuracy", "bootstrap_interval", "brier_score", "evaluate",
    "expected_calibration_error", "fit", "fit_stages", "fit_temperature", "freeze", "frozen_depth",
    "human_row", "leave_one_rater_out", "linear_probe", "load_checkpoint", "load_corpus",
    "load_ratings", "log_k_weights", "make_sentences", "oracle", "overlap", "paired_test",
    "parameter_groups", "plan_epoch", "pool", "reliability", "resolve_dtype", "save_checkpoint",
    "score_classification", "score_regression", "score_slices", "split_corpus", "split_indices",
    "task_losses", "trainable_table", "unfreeze",
]
