"""Single raters against the mean: by hand, by a loop, and as the paper prints it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from experiments.raters import human_row, leave_one_rater_out
from mtl_helpers import GENRES, load_corpus, load_ratings


@pytest.fixture(scope="module")
def genres() -> np.ndarray:
    return load_corpus().labels["genre"]


@pytest.fixture(scope="module")
def ratings() -> np.ndarray:
    return load_ratings()


def test_the_human_row_of_table_4_comes_out(genres: np.ndarray, ratings: np.ndarray) -> None:
    for genre, *printed in (("movie review", 0.899, 0.95, 0.90, 0.92),
                            ("product review", 0.911, 0.94, 0.80, 0.85),
                            ("news editorial", 0.745, 0.87, 0.55, 0.65),
                            ("tweet", 0.888, 0.95, 0.76, 0.84)):
        row = human_row(ratings[genres == GENRES.index(genre)])
        assert abs(row.correlation - printed[0]) < 0.001
        assert [round(score, 2) for score in row[1:]] == printed[1:], genre


def test_a_human_row_worked_by_hand() -> None:
    row = human_row(np.array([[2, 1, np.nan], [-1, 1, np.nan], [-2, -3, -1]]))
    # Signs of the means: positive, neutral, negative; 5 of 7 agree, neutral is never said.
    assert row.recall == pytest.approx(5 / 7)
    assert row.precision == pytest.approx((2 * 2 / 3 + 2 * 0 + 3 * 3 / 4) / 7)
    assert row.correlation == pytest.approx(
        np.corrcoef([2, 1, -1, 1, -2, -3, -1], [1.5, 1.5, 0, 0, -2, -2, -2])[0, 1])


def test_leaving_one_rater_out_agrees_with_a_plain_loop(ratings: np.ndarray) -> None:
    for band in (0.0, 0.5):
        gold, said = [], []
        for row in ratings[::300]:
            given = row[~np.isnan(row)].astype(int).tolist()
            for i, rating in enumerate(given):
                others = given[:i] + given[i + 1:]
                mean = sum(others) / len(others)
                gold.append("+" if mean > band else "-" if mean < -band else "0")
                said.append("+" if rating > band else "-" if rating < -band else "0")
        report = leave_one_rater_out(ratings[::300], band)
        assert report.n == len(gold) and report.accuracy == np.mean(np.array(gold) == said)
        assert report.macro_f1 == pytest.approx(f1_score(gold, said, average="macro"))
        assert report.weighted_f1 == pytest.approx(f1_score(gold, said, average="weighted"))


def test_the_human_ceiling_of_each_genre(genres: np.ndarray, ratings: np.ndarray) -> None:
    for band, weighted_f1, macro_f1 in (
            (0.0, [0.92, 0.84, 0.63, 0.84], [0.62, 0.65, 0.49, 0.57]),
            (0.5, [0.88, 0.85, 0.67, 0.82], [0.69, 0.81, 0.67, 0.78])):
        reports = [leave_one_rater_out(ratings[genres == genre], band) for genre in range(4)]
        assert [round(report.weighted_f1, 2) for report in reports] == weighted_f1
        assert [round(report.macro_f1, 2) for report in reports] == macro_f1


def test_ratings_are_checked() -> None:
    for function, wrong in ((human_row, [[1, np.nan], [1, 2]]), (leave_one_rater_out, [1, 2])):
        with pytest.raises(ValueError, match=r"ratings must be \(N, R\) with two or more"):
            function(wrong)
