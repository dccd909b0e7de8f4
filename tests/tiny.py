"""Tiny models, data and settings that tests train."""

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from mtl_helpers.config import TrainingConfig
from mtl_helpers.data import LabelledSentences
from mtl_helpers.encoder import SentenceEncoder
from mtl_helpers.heads import ClassificationHead, RegressionHead
from mtl_helpers.model import MultiTaskModel

WORDS = "the a film phone senator is was very not good bad plain loved hated saw it".split()
TASKS = ("genre", "sentiment", "valence")


KINDS = ("bert", "roberta", "mpnet", "distilbert", "electra", "xlm-roberta", "modernbert",
         "deberta-v2")
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 24}
OWN = {  # settings of some kinds: narrow embeddings, relative positions, other special tokens
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "electra": {**SIZES, "embedding_size": 8},
    "modernbert": {**SIZES, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2,
                   "eos_token_id": 3, "local_attention": 8, "global_attn_every_n_layers": 2},
    "deberta-v2": {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
                   "position_biased_input": False, "norm_rel_ebd": "layer_norm",
                   "share_att_key": True, "position_buckets": 8, "type_vocab_size": 0}}
DROPOUTS = {"distilbert": ("dropout", "attention_dropout"),
            "modernbert": ("embedding_dropout", "attention_dropout", "mlp_dropout")}


def make_encoder(kind="bert", dropout=0.1):
    """Two layers of 16 dimensions with random weights; a tokenizer that knows 17 words."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, "poison"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=24)
    names = DROPOUTS.get(kind, ("hidden_dropout_prob", "attention_probs_dropout_prob"))
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokens), max_position_embeddings=32, pad_token_id=0,
        **OWN.get(kind, SIZES), **dict.fromkeys(names, dropout))
    return SentenceEncoder(AutoModel.from_config(config), wrapped)


def make_model(kind="bert", seed=0, dropout=0.1, dtype=torch.float32):
    """A model with heads for three tasks, and one for a task that no data here has."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = {"genre": ClassificationHead(16, ["review", "news", "tweet"], 8, dropout),
                 "sentiment": ClassificationHead(16, ["negative", "positive"], dropout=dropout),
                 "valence": RegressionHead(16, dropout=dropout),
                 "unused": ClassificationHead(16, ["no", "yes"], dropout=dropout)}
        return MultiTaskModel(make_encoder(kind, dropout), heads).eval().to(dtype)


def make_data(n=37, seed=0):
    """Sentences of 1 to 15 words: genre for all, sentiment for a third, valence for a fifth."""
    rng = np.random.default_rng(seed)
    sentences = [" ".join(rng.choice(WORDS, size=rng.integers(1, 16))) for _ in range(n)]
    labels = {"genre": rng.permutation(np.arange(n) % 3), "sentiment": np.full(n, -100),
              "valence": np.full(n, np.nan)}
    labels["sentiment"][::3] = np.arange(len(labels["sentiment"][::3])) % 2
    labels["valence"][1::5] = rng.normal(size=len(labels["valence"][1::5]))
    return LabelledSentences(sentences, labels)


def make_config(**settings):
    plain = {"epochs": 2, "batch_size": 8, "dtype": "float32", "encoder_lr": 1e-3,
             "progress": False}
    return TrainingConfig(**plain | settings)


def new_heads(model, seed):
    """The same model with heads that are initialised anew."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.heads.modules():
            if isinstance(module, torch.nn.Linear):
                module.reset_parameters()
    return model


def weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def same(first, second):
    """Whether two dicts of tensors are equal to the bit."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name].view(torch.uint8), second[name].view(torch.uint8))
        for name in first)
