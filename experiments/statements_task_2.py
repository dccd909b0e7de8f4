"""What Task_2.ipynb says of recorded runs in words: phrases of the page, and whether they hold."""

from __future__ import annotations

import numpy as np

from experiments.records import read_records
from experiments.statements import ROOT, Pairs

PAGE = ROOT / "Task_2.ipynb"


def sharing() -> Pairs:
    """One model or two."""
    record = read_records("benchmarks")["sharing"]
    ratios, place = record["ratios"], record["environment"]
    one, many = (round(float(np.median(ratios[load])), 2)
                 for load in ("one sentence", "200 sentences"))
    memory = [row["peak_bytes"] for row in record["rows"].values()]
    ends = [round(ratio, 2) for found in ratios.values() for ratio in (found[0], found[-1])]
    return [
        ("two take 1.93 to 1.97 times as long", (one, many) == (1.93, 1.97)),
        ("Two models take 1.93 times as long as one for a single sentence, and 1.97 times as long "
         "for 200 (medians of the ratios in nine rounds; the table has medians of the times)",
         (one, many) == (1.93, 1.97) and {len(found) for found in ratios.values()} == {9}),
        ("The memory of the process is far from doubled", memory[1] < 1.3 * memory[0]),
        ("on two threads of an AMD EPYC processor",
         (place["threads"], place["processor"]) == (2, "AMD EPYC")),
        ("the ratio was 1.82 to 2.60 for one sentence and 1.44 to 2.07 for 200",
         ends == [1.82, 2.6, 1.44, 2.07])]


SECTIONS = (sharing,)
