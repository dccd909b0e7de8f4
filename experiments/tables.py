"""The README's tables and figure, made from the records in results/.

    python -m experiments.tables        draws results/figures/cosines.png

The tables stand in the README between comment markers, where cog calls these functions.
"""

from __future__ import annotations

from experiments.compare_encoders import MODELS, PUBLISHED
from experiments.records import RESULTS, read_records
from mtl_helpers.plots import plot_pairs


def encoders() -> str:
    """Probe scores of every model of Task 1 that has a record."""
    records, speed = read_records("encoders"), read_records("benchmarks")["models"]["rows"]
    lines = [
        "| model | parameters | dim | sentences/s | published "
        "| genre accuracy | sentiment macro-F1 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in MODELS:
        published = f"{PUBLISHED[name]:.2f}" if name in PUBLISHED else ""
        if name not in records:
            lines.append(f"| {name} | no weights here | | | {published} | | |")
            continue
        row = records[name]
        scores = row["probe"]
        low, high = scores["sentiment"]["macro_f1_interval"]
        size = f"{row['parameters'] / 1e6:.1f} M" if row["parameters"] else ""
        rate = f"{speed[name]:.0f}" if name in speed else ""
        lines.append(
            f"| {name} | {size} | {row['embedding_dim']:,} | {rate} | {published} "
            f"| {scores['genre']['accuracy']:.3f} "
            f"| {scores['sentiment']['macro_f1']:.3f} [{low:.2f}, {high:.2f}] |"
        )
    return "\n".join(lines)


def encode_speed() -> str:
    """Sentences a second of `encode` beside the library's backends."""
    record = read_records("benchmarks")["encode"]
    lines = [
        "| all-MiniLM-L6-v2 | sentences/s | ratio | padding | of GEMM rate | least cosine |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in record["rows"].items():
        lines.append(
            f"| {name} | {row['sentences_per_second']:.0f} | {row['speed_ratio']:.2f} "
            f"| {row['padding_share']:.1%} | {row['share_of_gemm_rate']:.0%} "
            f"| {row['min_cosine']:.5f} |"
        )
    config, place = record["config"], record["environment"]
    lines.append(
        f"\n{config['sentences']:,} sentences of the corpus, medians of {config['rounds']} "
        f"interleaved rounds on {place['threads']} cores of an {place['processor']} processor; "
        f"a plain matrix product there runs at {record['gemm_gflops']['float32']} GFLOP/s in fp32 "
        f"and {record['gemm_gflops']['bfloat16']} in bf16."
    )
    return "\n".join(lines)


def draw_cosines() -> None:
    records = read_records("encoders")
    cosines = {name: records[name]["cosine"] for name in MODELS if name in records}
    title = "On average a negation is closer than a sentence on the same topic"
    figure = plot_pairs(cosines, title)
    path = RESULTS / "figures" / "cosines.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(figure._repr_png_())


if __name__ == "__main__":
    draw_cosines()
