"""Order, pairing and arithmetic of timing."""

import pytest

from spikewright.bench.measure import Spread, Times, interleave
from spikewright.bench.report import timed


class Scripted:
    """Advances a clock of its own by given amounts."""

    def __init__(self, name: str, log: list[str], now: list[float], taken: list[float]) -> None:
        self.name, self.log, self.now, self.taken = name, log, now, iter(taken)

    def clear(self) -> None:
        self.now[0] += 1000.0

    def run(self) -> None:
        self.log.append(self.name)
        self.now[0] += next(self.taken)


def race(taken: dict[str, list[float]], repeats: int, warm_up: int, in_a_row: int = 1) -> tuple[Times, list[str]]:
    log: list[str] = []
    now = [0.0]
    steps = {name: Scripted(name, log, now, values) for name, values in taken.items()}
    return interleave(steps, repeats, warm_up, in_a_row, clock=lambda: now[0]), log


@pytest.mark.long
def test_contenders_run_in_turn_there_and_back() -> None:
    _, log = race({name: [1.0] * 4 for name in "abc"}, repeats=3, warm_up=1)
    assert log == ["c", "b", "a", "a", "b", "c", "c", "b", "a", "a", "b", "c"]


@pytest.mark.long
def test_only_runs_after_the_warm_up_count_and_clearing_is_not_timed() -> None:
    times, _ = race({"a": [50.0, 2.0, 4.0], "b": [70.0, 1.0, 8.0]}, repeats=2, warm_up=1)
    assert times.seconds == {"a": [2.0, 4.0], "b": [1.0, 8.0]}


@pytest.mark.long
def test_of_steps_in_a_row_the_median_counts() -> None:
    times, log = race({"a": [9.0, 2.0, 4.0], "b": [7.0, 6.0, 8.0]}, repeats=1, warm_up=0, in_a_row=3)
    assert log == ["a"] * 3 + ["b"] * 3
    assert times.seconds == {"a": [4.0], "b": [7.0]}


@pytest.mark.long
def test_ratios_are_taken_within_a_repeat() -> None:
    times, _ = race({"a": [2.0, 4.0], "b": [1.0, 8.0]}, repeats=2, warm_up=0)
    assert times.ratios("a", "b") == [2.0, 0.5]
    assert times.ratios("b", "a") == [0.5, 2.0]
    assert times.ratios("a", "nobody") is None


@pytest.mark.long
def test_one_that_raises_is_left_out_with_its_reason_and_the_others_go_on() -> None:
    times, log = race({"a": [1.0] * 3, "short": [1.0], "b": [1.0] * 3}, repeats=3, warm_up=0)
    assert times.seconds == {"a": [1.0] * 3, "b": [1.0] * 3}
    assert times.left_out == {"short": "StopIteration: "}
    assert log.count("short") == 2


@pytest.mark.long
def test_an_interruption_is_not_taken_for_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Scripted) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Scripted, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        race({"a": [1.0]}, repeats=1, warm_up=0)


def test_spread() -> None:
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0)
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0)


def test_a_table_shows_ratios_before_milliseconds_and_keeps_every_repeat() -> None:
    times = Times({"a": [0.002, 0.004], "b": [0.001, 0.001]}, {"c": "broke"})
    table = timed("w", "title", times, {"x b": "b"}, {"more": {"a": "yes"}}, {"a": {"exact": 7}}, {"d": "missing"})
    assert list(table.head) == ["", "x b", "ms", "more"]
    assert table.rows == [["a", "3.00 [2.50, 3.50]", "3", "yes"], ["b", "1.00 [1.00, 1.00]", "1", "-"]]
    assert table.results["a"]["ratios"]["b"] == {"median": 3.0, "low": 2.5, "high": 3.5, "by_repeat": [2.0, 4.0]}
    assert table.results["a"]["milliseconds"]["median"] == 3.0
    assert table.results["a"]["exact"] == 7
    assert str(table).splitlines()[-2:] == ["left out: d: missing", "left out: c: broke"]


def test_a_table_without_its_reference_has_no_ratios() -> None:
    table = timed("w", "title", Times({"a": [1.0]}, {"b": "broke"}), {"x b": "b"})
    assert table.rows == [["a", "-", "1000"]]
    assert table.results["a"]["ratios"] == {}
