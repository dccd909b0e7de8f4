"""Write the two example files, reviews.csv and topics.csv, from the phrases of `make_sentences`.

    python examples/make_csv.py [FOLDER]

They look as such files do: reviews.csv has a byte order mark and Windows line ends, as a
spreadsheet saves it, both have commas and quotes in the text, and some labels are empty.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from mtl_helpers import SENTIMENTS, TOPICS, make_sentences

HERE = Path(__file__).resolve().parent
ROWS = 180  # of each file


def write(path: Path, task: str, names: list[str], first: int, encoding: str, end: str) -> None:
    """Write ROWS sentences from the first-th on, with the label of one task."""
    sentences, labels = make_sentences(first + ROWS)
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, lineterminator=end)
        writer.writerow(["text", task])
        for row in range(first, first + ROWS):
            text = sentences[row]
            if row % 10 == 3:
                text = f'She said: "{text}"'
            label = "" if row % 15 == 4 else names[labels[task][row]]
            writer.writerow([text, label])


def main(folder: Path) -> None:
    write(folder / "reviews.csv", "sentiment", SENTIMENTS, 0, "utf-8-sig", "\r\n")
    write(folder / "topics.csv", "topic", TOPICS, ROWS, "utf-8", "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
