"""Sentences encoded per second by each model of Task 1 that is at hand, interleaved, in fp32.

    python -m benchmarks.models [--sentences 400] [--rounds 5]

Writes results/benchmarks/models.json. Run it on an idle machine.
"""

from __future__ import annotations

from functools import partial

from benchmarks.common import interleaved, keep, median, parser, seconds
from experiments.compare_encoders import MODELS, fixed_sample, load


def main() -> None:
    options = parser(__doc__, sentences=400, rounds=5).parse_args()
    sentences = fixed_sample()[0].sentences[: options.sentences]
    contestants = {}
    for name in MODELS:
        try:
            encoder = load(name)
        except OSError:
            print(f"{name}: not at hand")
            continue
        if encoder:
            contestants[name] = partial(seconds, partial(encoder.encode, sentences))
    rows = {name: round(len(sentences) / median(taken), 1)
            for name, taken in interleaved(contestants, options.rounds).items()}
    config = {"sentences": len(sentences), "rounds": options.rounds, "dtype": "float32"}
    keep("models", {"config": config, "rows": rows})


if __name__ == "__main__":
    main()
