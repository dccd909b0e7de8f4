"""One encoder with a head for each task, saved as one folder. Goes with encoder.py and heads.py."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .encoder import SentenceEncoder
from .heads import ClassificationHead, Head, Prediction, RegressionHead

FORMAT = "MultiTaskModel 1"
Scores = Mapping[str, Mapping[str, float]]  # {task: {metric: value}}


class MultiTaskModel(nn.Module):
    """One shared encoder and one head for each task.

    Args:
        encoder: from sentences to embeddings of D dimensions.
        heads: {task: head}, one object for each task, each built for D dimensions.

    Raises:
        ValueError: if there is no head, a task cannot have its name, or a head does not fit.

    Explained in Task_2.ipynb, "The model".
    """

    def __init__(self, encoder: SentenceEncoder, heads: Mapping[str, Head]) -> None:
        super().__init__()
        if not heads or len({id(head) for head in heads.values()}) < len(heads):
            raise ValueError(f"heads must be one head object for each task, got {dict(heads)}")
        reserved = nn.ModuleDict()
        for task, head in heads.items():
            if not isinstance(task, str) or not task or "." in task or hasattr(reserved, task):
                raise ValueError(f"heads has the task {task!r}; a name must be a non-empty string "
                                 "without a dot that is no attribute of nn.ModuleDict")
            if head.embedding_dim != encoder.embedding_dim:
                raise ValueError(f"heads[{task!r}] must have the encoder's embedding_dim, "
                                 f"{encoder.embedding_dim}, got {head.embedding_dim}")
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None) -> dict[str, Tensor]:
        """Logits of every task from one encoder pass: (B, T), (B, T) -> {task: (B, C) or (B,)}."""
        embeddings = self.encoder(input_ids, attention_mask)  # (B, T) -> (B, D)
        return {task: head(embeddings) for task, head in self.heads.items()}

    def train(self, mode: bool = True) -> Self:
        """Set train or eval mode; what has parameters and all of them frozen stays in eval mode."""
        super().train(mode)
        for module in self.modules():
            flags = [parameter.requires_grad for parameter in module.parameters()]
            if flags and not any(flags):
                nn.Module.train(module, False)  # not this method again
        return self

    @torch.no_grad()
    def predict(self, sentences: str | Sequence[str],
                dtype: torch.dtype = torch.float32) -> dict[str, Prediction]:
        """Predictions of every task for N sentences, without dropout; one string counts as N = 1.

        `dtype` is what the encoder computes in.
        """
        sentences = [sentences] if isinstance(sentences, str) else sentences
        embeddings = torch.from_numpy(self.encoder.encode(sentences, dtype=dtype))  # (N, D)
        embeddings = embeddings.to(next(self.heads.parameters()))  # the heads' device and dtype
        modes = {part: part.training for part in self.heads.modules()}
        self.heads.eval()
        try:
            return {task: cast(Head, head).decode(head(embeddings))
                    for task, head in self.heads.items()}
        finally:
            for part, training in modes.items():
                part.training = training

    def save_pretrained(self, folder: str | Path, scores: Scores | None = None) -> None:
        """Write one folder, complete or not at all, for SentenceTransformer and for this class.

        It is written beside its final place and renamed at the end. Where it replaces an earlier
        save, being killed between the last two renames leaves both, as `.<folder>.old-*` and
        `.<folder>.new-*`.

        Args:
            folder: new, empty, or an earlier save with no other files in it.
            scores: {task: {metric: value}} for the model card.

        Raises:
            FileExistsError: if folder holds anything that `save_pretrained` did not write.
            ValueError: if scores names an unknown task.
        """
        target, unique = Path(folder).resolve(), uuid.uuid4().hex
        new = target.with_name(f".{target.name}.new-{unique}")
        old = target.with_name(f".{target.name}.old-{unique}")
        _refuse_other_files(target)
        card = _model_card(self, scores or {})
        new.mkdir(parents=True)
        try:
            self.encoder.save_pretrained(new)
            card.save(new / "README.md")
            _write_heads(self.heads, new)
            for name in _files(new):
                shutil.copymode(new / "heads.json", new / name)  # safetensors are private at first
            for path in [*new.rglob("*"), new]:
                _flush(path)
            if target.exists():
                target.rename(old)
            new.rename(target)
        except BaseException:
            if old.exists() and not target.exists():
                old.rename(target)
            shutil.rmtree(new, ignore_errors=True)
            raise
        _flush(target.parent)
        shutil.rmtree(old, ignore_errors=True)

    @classmethod
    def from_pretrained(cls, folder: str | Path, head_types: Sequence[type[Head]] = (
            ClassificationHead, RegressionHead)) -> Self:
        """Load a folder that `save_pretrained` wrote, in eval mode; nothing in it is executed.

        Args:
            folder: path of the folder.
            head_types: the classes that heads may have; name your own kinds of head here.

        Raises:
            FileNotFoundError: if the folder, or a file of it, is missing.
            ValueError: if a file was changed, or does not describe heads that fit the encoder.
        """
        folder = Path(folder).resolve()
        record = _read_record(folder)
        for name, digest in record["sha256"].items():
            if not (folder / name).is_file():
                raise FileNotFoundError(f"folder {folder} is incomplete: {name} is missing")
            if _sha256(folder / name) != digest:
                raise ValueError(f"{folder / name} is not as it was saved (sha256 differs)")
        types = {head_type.__name__: head_type for head_type in head_types}
        heads = {task: _build_head(task, entry, types) for task, entry in record["heads"].items()}
        model = cls(SentenceEncoder.from_pretrained(str(folder)), heads)
        try:
            model.heads.load_state_dict(load_file(folder / "heads.safetensors"))
        except RuntimeError as error:
            raise ValueError(f"heads.safetensors does not fit heads.json: {error}") from error
        return model.eval()


def _write_heads(heads: nn.ModuleDict, folder: Path) -> None:
    """Add the heads' tensors, and heads.json with their types and every other file's sha256."""
    tensors = {name: tensor.contiguous() for name, tensor in heads.state_dict().items()}
    save_file(tensors, folder / "heads.safetensors")
    record = {
        "format": FORMAT,
        "heads": {task: {"type": type(head).__name__, "config": head.config}
                  for task, head in heads.items()},
        "sha256": {name: _sha256(folder / name) for name in sorted(_files(folder) - {"README.md"})}}
    text = json.dumps(record, indent=2, ensure_ascii=False)
    (folder / "heads.json").write_text(text + "\n", encoding="utf-8")


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / "heads.json"
    if not path.is_file():
        raise FileNotFoundError(f"folder must be one that MultiTaskModel.save_pretrained wrote, "
                                f"got {folder}, which has no heads.json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT or not {**record["heads"], **record["sha256"]}:
            raise ValueError(f"format must be {FORMAT!r}, got {record['format']!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe saved heads: {error!r}") from error
    return record


def _build_head(task: str, entry: Any, types: Mapping[str, type[Head]]) -> Head:
    try:
        with torch.random.fork_rng(devices=[]):  # the weights come from the file
            return types[entry["type"]](**entry["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"heads.json: heads[{task!r}] must be one of the head_types {list(types)} "
                         f"with its config, got {entry!r}: {error!r}") from error


def _refuse_other_files(folder: Path) -> None:
    """Raise where saving would replace something that `save_pretrained` did not write."""
    others = {folder.name} if folder.is_file() else _files(folder)
    others = {name for name in others if Path(name).name not in (".DS_Store", "Thumbs.db")}
    if (folder / "heads.json").is_file():
        others -= {"heads.json", "README.md", *_read_record(folder)["sha256"]}
    if others:
        raise FileExistsError(f"folder must be new, empty or an earlier save of a model, got "
                              f"{folder} with {sorted(others)[:5]}")


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Bring a file, or the entries of a folder, to disk."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _model_card(model: MultiTaskModel, scores: Scores) -> ModelCard:
    """Model card with a row for each task and, as metadata, each score."""
    if not all(task in model.heads for task in scores):
        raise ValueError(f"scores has the tasks {list(scores)}; valid are {list(model.heads)}")
    results, table = [], "| task | head | labels | scores |\n|---|---|---|---|\n"
    for task, head in model.heads.items():
        metrics = {metric: float(value) for metric, value in scores.get(task, {}).items()}
        for metric, value in metrics.items():
            results.append(EvalResult("text-classification", "unspecified", "unspecified", metric,
                                      value, metric_name=f"{task} {metric}"))
        labels = ", ".join(getattr(head, "labels", ["real value"]))
        shown = ", ".join(f"{metric} {value:.3f}" for metric, value in metrics.items())
        table += f"| {task} | {type(head).__name__} | {labels} | {shown or 'not given'} |\n"
    data = ModelCardData(
        library_name="sentence-transformers", pipeline_tag="feature-extraction",
        tags=["sentence-transformers", "multi-task-learning"], model_name="multi-task model",
        eval_results=results or None)
    return ModelCard(f"""---
{data.to_yaml()}
---

# Multi-task sentence model

One shared encoder ({model.encoder.embedding_dim} dimensions) with a head for each task.

{table}
`SentenceTransformer(folder)` loads the encoder alone; `MultiTaskModel.from_pretrained(folder)` of
`mtl_helpers` loads it with its heads.
""")
