"""Multi-task learning on sentence embeddings, in small files that can be copied out."""

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
    TaskReport,
    bootstrap_interval,
    evaluate,
    linear_probe,
    score_classification,
)
from .heads import ClassificationHead, RegressionHead
from .losses import StaticWeighting, UncertaintyWeighting, log_k_weights, task_losses
from .model import MultiTaskModel, Prediction
from .synthetic import TOPICS, best_accuracy, make_sentences, oracle

__version__ = "0.1.0"
__all__ = [
    "GENRES",
    "SENTIMENTS",
    "TOPICS",
    "ClassificationHead",
    "CorpusError",
    "LabelledSentences",
    "MultiTaskModel",
    "Prediction",
    "RegressionHead",
    "SentenceEncoder",
    "StaticWeighting",
    "TaskReport",
    "UncertaintyWeighting",
    "assert_no_leakage",
    "best_accuracy",
    "bootstrap_interval",
    "evaluate",
    "human_row",
    "leave_one_rater_out",
    "linear_probe",
    "load_corpus",
    "load_ratings",
    "log_k_weights",
    "make_sentences",
    "oracle",
    "overlap",
    "pool",
    "score_classification",
    "split_corpus",
    "split_indices",
    "task_losses",
]
