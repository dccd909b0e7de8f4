"""Single raters against the mean: by hand, by a loop, and as the paper prints it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from experiments.raters import human_row, leave_one_rater_out
from mtl_helpers import GENRES, load_corpus, load_ratings


def test_the_human_row_of_table_4_and_the_ceiling_of_each_genre_come_out() -> None:
    genres, ratings = load_corpus().labels["genre"], load_ratings()
    for genre, printed, strict, lenient in (
            ("movie review", (0.899, 0.95, 0.90, 0.92), (0.92, 0.62), (0.88, 0.69)),
            ("product review", (0.911, 0.94, 0.80, 0.85), (0.84, 0.65), (0.85, 0.81)),
            ("news editorial", (0.745, 0.87, 0.55, 0.65), (0.63, 0.49), (0.67, 0.67)),
            ("tweet", (0.888, 0.95, 0.76, 0.84), (0.84, 0.57), (0.82, 0.78))):
        own = ratings[genres == GENRES.index(genre)]
        row = human_row(own)
        assert abs(row.correlation - printed[0]) < 0.001
        assert tuple(round(score, 2) for score in row[1:]) == printed[1:], genre
        for band, expected in ((0.0, strict), (0.5, lenient)):
            report = leave_one_rater_out(own, band)
            found = round(report.weighted_f1, 2), round(report.macro_f1, 2)
            assert found == expected, (genre, band)


def test_a_human_row_worked_by_hand() -> None:
    row = human_row(np.array([[2, 1, np.nan], [-1, 1, np.nan], [-2, -3, -1]]))
    # Signs of the means: positive, neutral, negative; 5 of 7 agree, neutral is never said.
    assert row.recall == pytest.approx(5 / 7)
    assert row.precision == pytest.approx((2 * 2 / 3 + 2 * 0 + 3 * 3 / 4) / 7)
    assert row.correlation == pytest.approx(
        np.corrcoef([2, 1, -1, 1, -2, -3, -1], [1.5, 1.5, 0, 0, -2, -2, -2])[0, 1])


def test_leaving_one_rater_out_agrees_with_a_plain_loop() -> None:
    ratings = load_ratings()[::300]
    gold, said = [], []
    for row in ratings:
        given = row[~np.isnan(row)].astype(int).tolist()
        for i, rating in enumerate(given):
            others = given[:i] + given[i + 1:]
            mean = sum(others) / len(others)
            gold.append("+" if mean > 0.5 else "-" if mean < -0.5 else "0")
            said.append("+" if rating > 0.5 else "-" if rating < -0.5 else "0")
    report = leave_one_rater_out(ratings, 0.5)
    assert report.n == len(gold) and report.accuracy == np.mean(np.array(gold) == said)
    assert report.macro_f1 == pytest.approx(f1_score(gold, said, average="macro"))


def test_ratings_are_checked() -> None:
    for function, wrong in ((human_row, [[1, np.nan], [1, 2]]), (leave_one_rater_out, [1, 2])):
        with pytest.raises(ValueError, match=r"ratings must be \(N, R\) with two or more"):
            function(wrong)
