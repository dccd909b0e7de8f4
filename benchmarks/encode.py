"""Sentences encoded per second: SentenceEncoder beside sentence-transformers, in one process.

    python -m benchmarks.encode [--sentences 1000] [--rounds 5]

Writes results/benchmarks/encode.json. Every round runs every contestant once, so that a slow moment
of the machine meets all of them; medians over the rounds are compared. The library runs in torch at
the best of several batch sizes and, where optimum is installed, in ONNX Runtime and OpenVINO. On a
processor without AVX512-BF16, bfloat16 is left out. Run it on an idle machine.
"""

from __future__ import annotations

import tempfile
from functools import partial
from importlib import util
from typing import Any

import numpy as np
import torch

from benchmarks.common import interleaved, keep, median, median_ratio, parser, seconds
from mtl_helpers import SentenceEncoder, load_corpus
from mtl_helpers.encoder import _onednn_computes, _PackedLinear

MODEL = "all-MiniLM-L6-v2"
BFLOAT16 = torch.cpu._is_avx512_bf16_supported()


def gemm_rate(dtype: torch.dtype, packed: bool = False) -> float:
    """This machine's rate (FLOP/s) for the backbone's widest product, (1024, 384) x (384, 1536).

    That of torch's own linear layer; `packed`: or of one with packed weights, as `encode` uses,
    where that is faster.
    """
    layers = [torch.nn.Linear(384, 1536).to(dtype)]
    if packed and _onednn_computes(layers[0].weight):
        layers.append(_PackedLinear(layers[0]))
    inputs = torch.randn(1024, 384).to(dtype)
    medians = []
    with torch.inference_mode():
        for layer in layers:
            taken = [seconds(partial(layer, inputs)) for _ in range(60)]
            medians.append(median(taken[10:]))
    return 2 * 1024 * 384 * 1536 / min(medians)


def flop_per_token(encoder: SentenceEncoder) -> int:
    """Two for each weight of the linear layers that a token passes (attention scores left out)."""
    layers = encoder.backbone.encoder.modules()
    return sum(2 * layer.weight.numel() for layer in layers if isinstance(layer, torch.nn.Linear))


def padding_share(lengths: np.ndarray, order: np.ndarray, batch_size: int | None) -> float:
    """Share of the token slots that hold padding; batches of 1,024 tokens if no size is given."""
    slots, done = 0, 0
    while done < len(order):
        longest = lengths[order[done]]
        rows = order[done : done + (batch_size or max(1, 1024 // longest))]
        slots += len(rows) * lengths[rows].max()
        done += len(rows)
    return 1 - lengths.sum() / slots


def libraries(folder: str) -> dict[str, Any]:
    """The library's model in each of its backends that is installed."""
    from sentence_transformers import SentenceTransformer

    backends: dict[str, dict[str, Any]] = {"library torch fp32": {}}
    if BFLOAT16:
        backends["library torch bf16"] = {"model_kwargs": {"dtype": torch.bfloat16}}
    if util.find_spec("optimum") and util.find_spec("optimum.onnxruntime"):
        backends["library ONNX fp32"] = {"backend": "onnx"}
    if util.find_spec("optimum") and util.find_spec("optimum.intel"):
        float32 = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}
        backends["library OpenVINO f32"] = {"backend": "openvino", "model_kwargs": float32}
        backends["library OpenVINO default"] = {"backend": "openvino"}
    return {name: SentenceTransformer(folder, device="cpu", **options)
            for name, options in backends.items()}


def best_batch_size(model: Any, sentences: list[str]) -> int:
    """The fastest of several batch sizes on a part of the sentences, best of two runs each."""
    speed = {}
    for size in (8, 16, 32, 64):
        run = partial(model.encode, sentences, batch_size=size)
        speed[size] = min(seconds(run), seconds(run))
    return min(speed, key=speed.__getitem__)


def measure(sentences: list[str], rounds: int) -> dict[str, Any]:
    """The record: medians over the rounds, and ratios of the same round."""
    encoder = SentenceEncoder.from_pretrained(MODEL)
    lengths = np.array([len(ids) for ids in encoder.tokenize(sentences)])
    by_tokens = np.argsort(-lengths, kind="stable")
    by_letters = np.argsort([-len(sentence) for sentence in sentences], kind="stable")
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if not BFLOAT16:
        del dtypes["bf16"]
        print("bfloat16 is left out: this processor has no AVX512-BF16")
    encodes, padding = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        encoder.save_pretrained(folder)
        for name, model in libraries(folder).items():
            size = best_batch_size(model, sentences[:300])
            label = f"{name}, batches of {size}"
            encodes[label] = partial(model.encode, sentences, batch_size=size)
            padding[label] = padding_share(lengths, by_letters, size)
    for name, dtype in dtypes.items():
        encodes[f"ours {name}"] = partial(encoder.encode, sentences, dtype=dtype)
        padding[f"ours {name}"] = padding_share(lengths, by_tokens, None)

    results = {name: encode() for name, encode in encodes.items()}  # also warms up
    products = {dtype: partial(gemm_rate, dtype, packed=True) for dtype in dtypes.values()}
    found = interleaved({name: partial(seconds, encode) for name, encode in encodes.items()}
                        | products, rounds, warm_up=0)
    reference, rows = next(iter(encodes)), {}
    for name in encodes:
        taken = found[name]
        wide = torch.float32
        if "bf16" in name or ("default" in name and BFLOAT16):  # OpenVINO's own choice
            wide = torch.bfloat16
        alike = f"library torch {'bf16' if wide == torch.bfloat16 else 'fp32'}"
        same = next(other for other in encodes if other.startswith(alike))
        tokens = float(lengths.sum()) / median(taken)
        rows[name] = {
            "sentences_per_second": round(len(sentences) / median(taken), 1),
            "speed_ratio": round(median_ratio(found[reference], taken), 3),
            "ratio_in_same_precision": round(median_ratio(found[same], taken), 3),
            "padding_share": round(float(padding[name]), 4),
            "share_of_gemm_rate": round(tokens * flop_per_token(encoder) / median(found[wide]), 3),
            "min_cosine": float((results[name] * results[reference]).sum(axis=1).min())}
    gflops = {str(dtype).removeprefix("torch."): round(median(found[dtype]) / 1e9)
              for dtype in products}
    return {"config": {"model": MODEL, "sentences": len(sentences), "rounds": rounds},
            "gemm_gflops": gflops, "rows": rows}


def main() -> None:
    options = parser(__doc__, sentences=1000, rounds=5).parse_args()
    corpus = load_corpus().sentences
    drawn = np.random.default_rng(0).choice(len(corpus), options.sentences, replace=False)
    keep("encode", measure([corpus[i] for i in drawn], options.rounds))


if __name__ == "__main__":
    main()
