"""Single raters against the mean: by hand and by a loop; as the paper prints it, on the page."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from experiments.raters import human_row, leave_one_rater_out
from mtl_helpers import load_ratings


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
