"""What classification does to similarity: the measures, the list of runs, the table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import make_encoder

from experiments import keepers, similarity, similarity_table
from mtl_helpers import SimilarityHead


class Letters:
    """An encoder for tests: how often a sentence has the letters a and b."""

    def encode(self, sentences: list[str]) -> np.ndarray:
        return np.array([[text.count("a"), text.count("b")] for text in sentences], float)


def test_cosines_of_pairs_agree_with_scores_in_rank_alone(tmp_path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text('"a, a",aa,5\na,ab,4\na,abb,1.5\na,b,0\n', encoding="utf-8")
    pairs = similarity.read_pairs(path)
    assert pairs.first[0] == "a, a" and pairs.scores.tolist() == [5, 4, 1.5, 0]
    found = similarity.pair_cosines(Letters(), pairs)
    assert found == pytest.approx([1, 0.5 ** 0.5, 0.2 ** 0.5, 0])
    assert similarity.agreement(found, pairs.scores) == 1
    assert similarity.agreement(found, -pairs.scores) == -1
    assert similarity.agreement(found[[0, 2, 1, 3]], pairs.scores) == pytest.approx(0.8)

    for row in ("a,b", "a,b,much", "a,b,5.5", "a,b,nan", "a,b,1,2"):
        path.write_text(f"a,b,1\n{row}\n", encoding="utf-8")
        with pytest.raises(ValueError, match="pairs.csv"):
            similarity.read_pairs(path)


def test_other_ways_to_keep_similarity_are_what_they_say() -> None:
    dim, generator = 8, torch.Generator().manual_seed(0)
    before, now = torch.nn.functional.normalize(
        torch.randn(2, 5, dim, generator=generator, dtype=torch.float64), dim=-1)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    cosines, vectors = keepers.BatchCosinesHead(dim), SimilarityHead(dim)
    assert cosines.loss(3 * before @ turn, before).abs().max() < 1e-6  # it turned as a whole
    assert vectors.loss(before @ turn, before).max() > 0.5
    pairs = (now @ now.T - before @ before.T).square().mean(dim=1)
    torch.testing.assert_close(cosines.loss(now, before).double(), pairs, rtol=1e-5, atol=1e-6)
    squared = (now - before).square().sum(dim=1)  # of vectors of length 1 it is no other loss
    torch.testing.assert_close(squared, 2 * vectors.loss(now, before))

    one, other = make_encoder(), make_encoder()
    for parameter in other.parameters():
        torch.nn.init.constant_(parameter, 3.0)
    first = [parameter.detach().clone() for parameter in one.parameters()]
    keepers.average_with(one, other)
    for parameter, was in zip(one.parameters(), first, strict=True):
        torch.testing.assert_close(parameter.detach(), (was + 3) / 2)


def test_no_pair_both_chooses_and_reports() -> None:
    chosen, reported = (np.arange(1500)[half] for half in (similarity.CHOOSING,
                                                          similarity.REPORTING))
    assert len(chosen) == len(reported) == 750 and not np.intersect1d(chosen, reported).size


def test_nearest_are_others_and_of_equals_the_earlier() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 1], [3, 0], [0, 2]])
    assert similarity.nearest(vectors, 2).tolist() == [[3, 2], [4, 2], [0, 1], [0, 2], [1, 2]]
    assert similarity.neighbours_kept(vectors, vectors[:, ::-1], 2) == 1
    moved = vectors[[0, 3, 2, 1, 4]]  # row 2 keeps both of its neighbours, the others one each
    assert similarity.neighbours_kept(vectors, moved, 2) == 6 / 10
    before, after = np.random.default_rng(0).normal(size=(2, 400, 30))
    assert similarity.neighbours_kept(before, 2 * before + 1e-9) == 1  # length does not count
    assert abs(similarity.neighbours_kept(before, after) - 10 / 399) < 0.01


def test_runs_are_listed_once_the_first_seed_of_all_before_the_second() -> None:
    runs = list(similarity.jobs())
    assert len({run.name for run in runs}) == len(runs) <= 100
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert sum(run.arm == "base" for run in runs) == 5
    for run in runs:  # one factor at a time
        changed = [name for name in ("sentences", "policy", "encoder_lr", "similarity")
                   if getattr(run, name) != getattr(similarity.BASE, name)]
        if run.keeps:  # in place of SimilarityHead, with its weight where it has one
            changed = ["keeps"]
        if not run.arm.startswith("few-"):  # those of Task 3, with and without a task more
            assert len(changed) == (run.arm not in ("base", "published"))


def test_the_table_has_a_row_for_each_arm_that_is_recorded(monkeypatch) -> None:
    made = [{"config": {"arm": "published"}}]
    for score in (0.5, 0.7):
        made.append({"config": {"arm": "base"},
                     "test": {"genre": {"macro_f1": 0.9}, "sentiment": {"macro_f1": score}}})
    for row in made:
        row |= {"stsb": {"reporting": 0.8}, "neighbours_kept": 0.25, "separation": 5.0}
    monkeypatch.setattr(similarity_table, "records", lambda: made)
    _, _, published, base = similarity_table.table().replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert published == "| the encoder as it came | 80.0 |  |  | 25.0 | 5.00 |"
    assert "(2 of 5 seeds) | 80.0 ± 0.0 | 90.0 ± 0.0 | 60.0 ± 127.1 |" in base  # t = 12.71
