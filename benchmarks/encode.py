"""Sentences encoded per second: SentenceEncoder beside sentence-transformers, in one process.

    python -m benchmarks.encode [--sentences 1000] [--rounds 5]

Writes results/benchmarks/encode.json. Every round runs every contestant once, so that a slow moment
of the machine meets all of them; medians over the rounds are compared. The library runs in torch at
the best of several batch sizes and, where optimum is installed, in ONNX Runtime and OpenVINO. Run
it on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import util
from typing import Any

import numpy as np
import torch

from experiments.records import RESULTS, write_record
from mtl_helpers import SentenceEncoder, load_corpus
from mtl_helpers.encoder import _onednn_computes, _PackedLinear

MODEL = "all-MiniLM-L6-v2"


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
            seconds = []
            for _ in range(60):
                start = time.perf_counter()
                layer(inputs)
                seconds.append(time.perf_counter() - start)
            medians.append(statistics.median(seconds[10:]))
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


def libraries(folder: str) -> dict[str, Callable[[list[str], int], np.ndarray]]:
    """The library's encode in each of its backends that is installed."""
    from sentence_transformers import SentenceTransformer

    backends: dict[str, dict[str, Any]] = {
        "library torch fp32": {}, "library torch bf16": {"model_kwargs": {"dtype": torch.bfloat16}}}
    if util.find_spec("optimum") and util.find_spec("optimum.onnxruntime"):
        backends["library ONNX fp32"] = {"backend": "onnx"}
    if util.find_spec("optimum") and util.find_spec("optimum.intel"):
        float32 = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}
        backends["library OpenVINO f32"] = {"backend": "openvino", "model_kwargs": float32}
        backends["library OpenVINO default"] = {"backend": "openvino"}
    found = {}
    for name, options in backends.items():
        model = SentenceTransformer(folder, device="cpu", **options)
        found[name] = lambda sentences, size, model=model: model.encode(sentences, batch_size=size)
    return found


def best_batch_size(encode: Callable[[list[str], int], np.ndarray], sentences: list[str]) -> int:
    """The fastest of several batch sizes on a part of the sentences, best of two runs each."""
    speed = {}
    for size in (8, 16, 32, 64):
        for _ in range(2):
            start = time.perf_counter()
            encode(sentences, size)
            taken = time.perf_counter() - start
            speed[size] = min(taken, speed.get(size, taken))
    return min(speed, key=speed.__getitem__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=1000, help="drawn from the corpus")
    parser.add_argument("--rounds", type=int, default=5, help="at least 5 for a figure to quote")
    options = parser.parse_args()

    corpus = load_corpus().sentences
    drawn = np.random.default_rng(0).choice(len(corpus), options.sentences, replace=False)
    sentences = [corpus[i] for i in drawn]
    encoder = SentenceEncoder.from_pretrained(MODEL)
    lengths = np.array([len(ids) for ids in encoder.tokenize(sentences)])
    by_tokens = np.argsort(-lengths)
    by_letters = np.argsort([-len(sentence) for sentence in sentences])

    contestants: dict[str, Callable[[], np.ndarray]] = {}
    padding = {}
    with tempfile.TemporaryDirectory() as folder:
        encoder.save_pretrained(folder)
        for name, encode in libraries(folder).items():
            size = best_batch_size(encode, sentences[:300])
            label = f"{name}, batches of {size}"
            contestants[label] = lambda encode=encode, size=size: encode(sentences, size)
            padding[label] = padding_share(lengths, by_letters, size)
    for name, dtype in {"ours fp32": torch.float32, "ours bf16": torch.bfloat16}.items():
        contestants[name] = lambda dtype=dtype: encoder.encode(sentences, dtype=dtype)
        padding[name] = padding_share(lengths, by_tokens, None)

    results = {name: encode() for name, encode in contestants.items()}  # also warms up
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    rates = {dtype: [gemm_rate(dtype, packed=True)] for dtype in (torch.float32, torch.bfloat16)}
    for _ in range(options.rounds):
        for name, encode in contestants.items():
            start = time.perf_counter()
            encode()
            seconds[name].append(time.perf_counter() - start)
        for dtype, found in rates.items():
            found.append(gemm_rate(dtype, packed=True))

    reference = next(iter(contestants))
    rows = {}
    for name, taken in seconds.items():
        wide = torch.bfloat16 if "bf16" in name or "default" in name else torch.float32
        speed = len(sentences) / statistics.median(taken)
        tokens = lengths.sum() / statistics.median(taken)
        torch_alike = f"library torch {'bf16' if wide == torch.bfloat16 else 'fp32'}"
        same = next(other for other in contestants if other.startswith(torch_alike))
        ratio, to_same = (statistics.median(
            theirs / ours for theirs, ours in zip(seconds[other], taken, strict=True)
        ) for other in (reference, same))
        rows[name] = {
            "sentences_per_second": round(speed, 1),
            "tokens_per_second": round(float(tokens)),
            "speed_ratio": round(ratio, 3),
            "ratio_in_same_precision": round(to_same, 3),
            "padding_share": round(float(padding[name]), 4),
            "share_of_gemm_rate": round(
                float(tokens) * flop_per_token(encoder) / statistics.median(rates[wide]), 3
            ),
            "max_difference": float(np.abs(results[name] - results[reference]).max()),
            "min_cosine": float((results[name] * results[reference]).sum(axis=1).min()),
        }
    print(f"{'':40} sentences/s  tokens/s  ratio  padding  of GEMM  max diff  min cosine")
    for name, row in rows.items():
        print(
            f"{name:40} {row['sentences_per_second']:11.0f} {row['tokens_per_second']:9,.0f} "
            f"{row['speed_ratio']:6.2f} {row['padding_share']:8.1%} "
            f"{row['share_of_gemm_rate']:8.0%} "
            f"{row['max_difference']:9.1e} {row['min_cosine']:11.5f}"
        )
    gflops = {str(dtype).removeprefix("torch."): round(statistics.median(found) / 1e9)
              for dtype, found in rates.items()}
    config = {"model": MODEL, "sentences": options.sentences, "rounds": options.rounds}
    write_record(RESULTS / "benchmarks" / "encode.json",
                 {"config": config, "gemm_gflops": gflops, "rows": rows})


if __name__ == "__main__":
    main()
