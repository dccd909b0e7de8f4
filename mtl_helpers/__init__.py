"""Multi-task learning on sentence embeddings, in small files that can be copied out."""

from .batching import plan_epoch
from .checkpoint import load_checkpoint, save_checkpoint
from .config import History, TrainingConfig, resolve_dtype
from .corpus import GENRES, SENTIMENTS, CorpusError, load_corpus, load_ratings
from .data import (
    LabelledSentences,
    assert_no_leakage,
    concatenate,
    split_corpus,
    split_indices,
)
from .encoder import SentenceEncoder, pool
from .evaluation import (
    MultiLabelReport,
    RegressionReport,
    SimilarityReport,
    TaskReport,
    bootstrap_interval,
    evaluate,
    score_classification,
    score_regression,
)
from .freezing import FrozenCache, freeze, parameter_groups, unfreeze
from .heads import (
    ClassificationHead,
    MultiLabelHead,
    Prediction,
    RegressionHead,
    SimilarityHead,
)
from .losses import StaticWeighting, UncertaintyWeighting, task_losses
from .model import MultiTaskModel
from .synthetic import MENTIONS, TOPICS, best_accuracy, make_sentences, oracle
from .training import TrainingDiverged, fit

__version__ = "0.2.0"
__all__ = [
    "GENRES", "MENTIONS", "SENTIMENTS", "TOPICS", "ClassificationHead", "CorpusError",
    "FrozenCache", "History", "LabelledSentences", "MultiLabelHead", "MultiLabelReport",
    "MultiTaskModel", "Prediction", "RegressionHead", "RegressionReport", "SentenceEncoder",
    "SimilarityHead", "SimilarityReport", "StaticWeighting", "TaskReport", "TrainingConfig",
    "TrainingDiverged", "UncertaintyWeighting", "assert_no_leakage", "best_accuracy",
    "bootstrap_interval", "concatenate", "evaluate", "fit", "freeze", "load_checkpoint",
    "load_corpus", "load_ratings", "make_sentences", "oracle", "parameter_groups",
    "plan_epoch", "pool", "resolve_dtype", "save_checkpoint", "score_classification",
    "score_regression", "split_corpus", "split_indices", "task_losses", "unfreeze",
]
