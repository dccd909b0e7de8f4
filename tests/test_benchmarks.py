"""What the benchmarks share."""

import pytest

from benchmarks.common import interleaved, median_ratio, peak_memory


def test_contestants_take_turns_and_the_first_round_only_warms_up() -> None:
    turns: list[str] = []

    def run(name: str) -> int:
        turns.append(name)
        return len(turns)

    found = interleaved({name: lambda name=name: run(name) for name in "ab"}, rounds=2)
    assert turns == [*"ababab"] and found == {"a": [3, 5], "b": [4, 6]}
    assert median_ratio(found["b"], found["a"]) == (4 / 3 + 6 / 5) / 2


def test_memory_is_that_of_the_process_at_its_peak(tmp_path, monkeypatch) -> None:
    (tmp_path / "fills.py").write_text("import sys; held = b'1' * int(sys.argv[1]); del held")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert peak_memory("fills", "1000000000") > 1e9
    with pytest.raises(RuntimeError, match="fills some failed"):
        peak_memory("fills", "some")
