"""What is trained and how fast: freeze parts of a model by name, groups of parameters for AdamW."""

import re
from typing import Any

from torch import nn

PARTS = "all, encoder, embeddings, layers:K for the embeddings and the first K layers, head:TASK"


def freeze(model: Any, *parts: str) -> None:
    """Take parts of a MultiTaskModel out of training: no gradient, no decay, no dropout.

    Args:
        parts: "all", "encoder", "embeddings", "layers:K" (the embeddings and the first K layers),
            or "head:TASK".

    Raises:
        ValueError: if a part is unknown or K is out of range.

    Explained in Task_3.md, "What freezing does".
    """
    _set_requires_grad(model, parts, False)


def unfreeze(model: Any, *parts: str) -> None:
    """Train parts of a MultiTaskModel again; parts and errors as in `freeze`."""
    _set_requires_grad(model, parts, True)


def _set_requires_grad(model: Any, parts: tuple[str, ...], value: bool) -> None:
    chosen = [module for part in parts for module in _modules(model, part)]  # all named first
    unused = getattr(model.encoder.backbone, "pooler", None)  # takes no part, so stays frozen
    for module in chosen:
        module.requires_grad_(value)
    if unused is not None:
        unused.requires_grad_(False)
    model.train(model.training)  # what is frozen goes to eval mode, the rest follows the model


def _layers(model: Any) -> list[nn.Module]:
    """The layers of a backbone laid out as BERT's, RoBERTa's and MPNet's are; [] of another."""
    backbone = model.encoder.backbone
    layers = getattr(getattr(backbone, "encoder", None), "layer", None)
    like_bert = {name for name, _ in backbone.named_children()} <= {"embeddings", "encoder",
                                                                    "pooler"}
    return list(layers) if like_bert and isinstance(layers, nn.ModuleList) else []


def _modules(model: Any, part: str) -> list[nn.Module]:
    """The modules of one named part."""
    name, _, value = part.partition(":")
    backbone = model.encoder.backbone
    if part == "all":
        return [model]
    if part == "encoder":
        return [model.encoder]
    if part == "embeddings":
        return [backbone.embeddings]
    if name == "head" and value in model.heads:
        return [model.heads[value]]
    layers = _layers(model)
    if name == "layers" and not layers:
        raise ValueError(f"part is {part!r}, and {type(backbone).__name__} is not laid out as BERT "
                         "is: embeddings, encoder.layer and perhaps a pooler")
    if name == "layers" and value.isdecimal() and 0 <= int(value) <= len(layers):
        shared = [child for child in backbone.encoder.children()  # MPNet's relative positions
                  if value != "0" and not isinstance(child, nn.ModuleList)]
        return [backbone.embeddings, *shared, *layers[: int(value)]]
    raise ValueError(f"part must be one of {PARTS}, with K from 0 to {len(layers)} and TASK one of "
                     f"{', '.join(model.heads)}; got {part!r}")


def frozen_depth(model: Any) -> int | str | None:
    """How far up the encoder is frozen: "encoder", the number of layers, None if it is not at all.

    A count of layers implies that the embeddings are frozen, and what layers share; it is known of
    backbones laid out as BERT is.
    """
    def frozen(module: nn.Module) -> bool:
        return not any(parameter.requires_grad for parameter in module.parameters())

    backbone, layers = model.encoder.backbone, _layers(model)
    if frozen(model.encoder):
        return "encoder"
    if not layers or not frozen(backbone.embeddings):
        return None
    shared = [child for child in backbone.encoder.children()
              if not isinstance(child, nn.ModuleList)]
    trainable = [i for i, layer in enumerate(layers) if not frozen(layer)]
    return min(trainable, default=0) if all(map(frozen, shared)) else 0


def parameter_groups(model: Any, encoder_lr: float, head_lr: float, weight_decay: float = 0.01,
                     layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Group what is trainable for AdamW: a rate for each layer and the heads, decay or none.

    Norms and biases, all that has one dimension, get no weight decay.

    Args:
        model: a MultiTaskModel; every parameter that requires a gradient is in exactly one group.
        encoder_lr, head_lr: learning rates of the top layer and of the heads.
        layer_decay: factor from each layer to the one below it (Howard and Ruder 2018), the
            embeddings being the lowest; 1 gives all the same rate.

    Raises:
        ValueError: if nothing is trainable, or there are no layers whose rates could decay.

    Explained in Task_3.md, "A rate for each layer".
    """
    found = {name: re.search(r"^encoder\..*\.layers?\.(\d+)\.", name)
             for name, _ in model.named_parameters()}
    depths = {name: int(layer[1]) + 1 if layer else 0 for name, layer in found.items()}
    n_layers = max(depths.values())  # embeddings and what all layers share have depth 0
    if layer_decay != 1 and not n_layers:
        raise ValueError(f"layer_decay is {layer_decay}, and the backbone has no numbered layers")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = encoder_lr * layer_decay ** (n_layers - depths[name])
            rate = rate if name.startswith("encoder.") else head_lr
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise ValueError("model must have a trainable parameter, and every one is frozen")
    return [{"params": group, "lr": rate, "weight_decay": decay}
            for (rate, decay), group in groups.items()]


def trainable_table(model: Any) -> str:
    """A Markdown table of the model's parts: their parameters, and how many are trainable."""
    parts = {"embeddings": getattr(model.encoder.backbone, "embeddings", nn.Module())}
    parts |= {f"layer {i}": layer for i, layer in enumerate(_layers(model), start=1)}
    parts |= {f"head:{task}": head for task, head in model.heads.items()}
    counts = {part: list(module.parameters()) for part, module in parts.items()}
    known = {id(p) for found in counts.values() for p in found}
    counts["rest of the encoder"] = [p for p in model.parameters() if id(p) not in known]
    counts["all"] = list(model.parameters())
    rows = [f"| {part} | {sum(p.numel() for p in found):,} | "
            f"{sum(p.numel() for p in found if p.requires_grad):,} |"
            for part, found in counts.items() if found]
    return "\n".join(["| part | parameters | trainable |", "|---|---:|---:|", *rows])
