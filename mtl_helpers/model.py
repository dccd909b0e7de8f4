"""One encoder with a head for each task, saved as one folder.

Goes with checkpoint.py, encoder.py and heads.py.
"""

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .checkpoint import find_folder, whole_folder
from .encoder import SentenceEncoder
from .heads import (
    ClassificationHead,
    Head,
    MultiLabelHead,
    Prediction,
    RegressionHead,
    SimilarityHead,
)

FORMAT = "MultiTaskModel 1"
CARD = """---
library_name: sentence-transformers
pipeline_tag: feature-extraction
tags: [sentence-transformers, multi-task-learning]
---
# Multi-task sentence model

`SentenceTransformer(folder)` loads its shared encoder;
`MultiTaskModel.from_pretrained(folder)` of `mtl_helpers` loads it with a head for each task.

| task | head | labels |
|---|---|---|
"""


class MultiTaskModel(nn.Module):
    """One shared encoder and one head for each task.

    Args:
        encoder: from sentences to embeddings of D dimensions.
        heads: {task: head}, one object for each task, each built for D dimensions.

    Raises:
        ValueError: if there is no head, a task cannot have its name, or a head does not fit or
            shares weights.

    Explained in Task_2.ipynb, section 2.1.
    """

    def __init__(self, encoder: SentenceEncoder, heads: Mapping[str, Head]) -> None:
        super().__init__()
        if not heads:
            raise ValueError("heads must be one head object for each task, got none")
        reserved = nn.ModuleDict()
        owners = dict.fromkeys(map(id, encoder.parameters()), "the encoder")
        for task, head in heads.items():
            if not isinstance(task, str) or not task or "." in task or hasattr(reserved, task):
                raise ValueError(f"heads has the task {task!r}; a name must be text "
                                 "without a dot that is no attribute of nn.ModuleDict")
            if head.embedding_dim != encoder.embedding_dim:
                raise ValueError(f"heads[{task!r}] must have the encoder's embedding_dim, "
                                 f"{encoder.embedding_dim}, got {head.embedding_dim}")
            for name, weights in head.named_parameters(remove_duplicate=False):
                if id(weights) in owners:
                    raise ValueError(f"heads[{task!r}] must have its own {name}, and shares "
                                     f"that of {owners[id(weights)]}")
                owners[id(weights)] = f"heads[{task!r}]"
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None) -> dict[str, Tensor]:
        """Logits of every task, (B, C) or (B,), from one encoder pass over ids (B, T)."""
        embeddings = self.encoder(input_ids, attention_mask)  # (B, T) -> (B, D)
        return {task: head(embeddings) for task, head in self.heads.items()}

    def train(self, mode: bool = True) -> Self:
        """Set train or eval mode; what has parameters and all of them frozen stays in eval."""
        super().train(mode)
        for module in self.modules():
            flags = [parameter.requires_grad for parameter in module.parameters()]
            if flags and not any(flags):
                nn.Module.train(module, False)  # not this method again
        return self

    @torch.no_grad()
    def predict(self, sentences: str | Sequence[str], dtype: torch.dtype = torch.float32,
                tokens_per_batch: int | None = None) -> dict[str, Prediction]:
        """Predictions of every task for N sentences, without dropout; a string is N = 1.

        `dtype` and `tokens_per_batch` are as in `SentenceEncoder.encode`.
        """
        listed = [sentences] if isinstance(sentences, str) else sentences
        found = torch.from_numpy(self.encoder.encode(listed, dtype, tokens_per_batch))
        *_, last = self.parameters()  # of a head, if one has any
        embeddings = found.to(last)  # (N, D); its device and dtype
        heads: Any = copy.deepcopy(self.heads).eval()  # the model's own stay in their modes
        return {task: head.decode(head(embeddings)) for task, head in heads.items()}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write one folder, whole or not at all, for SentenceTransformer and this class.

        A kill at any moment leaves the new folder, or the one that was there before.

        Args:
            folder: new, empty, or an earlier save with no other files in it.

        Raises:
            FileExistsError: if folder holds anything that `save_pretrained` did not write.
            ValueError: if what is written can't be loaded; nothing is replaced then.
        """
        target = Path(folder).expanduser().resolve()
        _refuse_other_files(target)
        with whole_folder(target) as new:
            self.encoder.save_pretrained(new)
            (new / "README.md").write_text(_model_card(self.heads), encoding="utf-8")
            _write_heads(self.heads, new)
            for name in _files(new):  # safetensors are private at first
                shutil.copymode(new / "heads.json", new / name)
            types: list[Any] = [type(head) for head in self.heads.values()]
            self.from_pretrained(new, types)  # or nothing is replaced

    @classmethod
    def from_pretrained(cls, folder: str | Path, head_types: Sequence[type[Head]] = (
            ClassificationHead, RegressionHead, MultiLabelHead, SimilarityHead)) -> Self:
        """Load a folder that `save_pretrained` wrote, in eval mode; nothing in it is executed.

        Args:
            folder: path of the folder.
            head_types: the classes that heads may have; name your own kinds of head here.

        Raises:
            FileNotFoundError: if the folder, or a file of it, is missing.
            ValueError: if a file was changed, or does not describe heads that fit the encoder.
        """
        path = find_folder(Path(folder).expanduser().resolve())
        record = _read_record(path)
        for name, digest in record["sha256"].items():
            if _sha256(path / name) != digest:
                raise ValueError(f"{path / name} is not as it was saved (sha256 differs). Has "
                                 "Git changed it, to CRLF or to a pointer of Git LFS?")
        types = {head_type.__name__: head_type for head_type in head_types}
        encoder, heads = SentenceEncoder.from_pretrained(path), {}
        try:
            for task, entry in record["heads"].items():
                with torch.random.fork_rng(devices=[]):  # the weights come from the file
                    heads[task] = types[entry["type"]](**entry["config"])
            model = cls(encoder, heads)
            model.heads.load_state_dict(load_file(path / "heads.safetensors"))
        except Exception as error:  # safetensors raises its own
            raise ValueError(f"{path / 'heads.json'} must describe heads of the types "
                             f"{list(types)} and their weights: {error!r}") from error
        return model.eval()


def _write_heads(heads: nn.ModuleDict, folder: Path) -> None:
    """Add the heads' tensors, and heads.json with their types and the files' sha256."""
    tensors = {name: tensor.contiguous() for name, tensor in heads.state_dict().items()}
    save_file(tensors, folder / "heads.safetensors")
    record: dict[str, Any] = {"format": FORMAT, "heads": {}, "sha256": {}}
    for task, head in heads.items():
        record["heads"][task] = {"type": type(head).__name__, "config": head.config}
    for name in sorted(_files(folder) - {"README.md"}):
        record["sha256"][name] = _sha256(folder / name)
    text = json.dumps(record, indent=2, ensure_ascii=False)
    (folder / "heads.json").write_text(text + "\n", encoding="utf-8")


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / "heads.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT or not {**record["heads"], **record["sha256"]}:
            raise ValueError(f"format must be {FORMAT!r}, got {record['format']!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} does not describe saved heads: {error!r}") from error
    return record


def _refuse_other_files(folder: Path) -> None:
    """Raise where saving would replace something that `save_pretrained` did not write."""
    others = {folder.name} if folder.is_file() else _files(folder)
    if "heads.json" in others:
        others -= {"heads.json", "README.md", *_read_record(folder)["sha256"]}
    if others:
        raise FileExistsError("folder must be new, empty or an earlier save of a model, got "
                              f"{folder} with {sorted(others)[:5]}")


def _files(folder: Path) -> set[str]:
    """Paths below a folder of all its files, without what a file manager leaves there."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")
            if not path.is_dir() and path.name not in (".DS_Store", "Thumbs.db")}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_card(heads: nn.ModuleDict) -> str:
    """Model card with a row for each task, for the model hub."""
    card = CARD
    for task, head in heads.items():
        labels = ", ".join(getattr(head, "labels", [head.predicts]))
        card += f"| {task} | {type(head).__name__} | {labels} |\n"
    return card
