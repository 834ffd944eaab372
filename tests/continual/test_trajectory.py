"""Metrics of accuracy while learning, against hand-made trajectories and their definitions written out."""

import json
import math
import random
from itertools import combinations

import pytest

from spikewright.continual.trajectory import Trajectory
from spikewright.errors import ConfigError, InputError

FIRST = [0.10, 0.60, 0.90, 0.20, 0.50, 0.80, 0.40, 0.70, 0.85]
SECOND = [0.05, 0.70, 0.95, 0.30, 0.60, 0.90]
THIRD = [0.0, 0.5, 0.8]


def trajectory(curves: list[list[float]], length: int, spacing: int = 1) -> Trajectory:
    """Tasks of equal length, each probed from its first iteration on, every `spacing` iterations."""
    made = Trajectory()
    for task in range(len(curves)):
        start = task * length
        made.begin(start * spacing)
        for step in range(length):
            for seen in range(task + 1):
                made.add(seen, (start + step + 1) * spacing, curves[seen][start + step - seen * length])
        made.end((start + length) * spacing)
    return made


def three() -> Trajectory:
    return trajectory([FIRST, SECOND, THIRD], 3)


def single(values: list[float], spacing: int = 1) -> Trajectory:
    return trajectory([values], len(values), spacing)


def drawn(seed: int, tasks: int = 4, length: int = 7) -> Trajectory:
    source = random.Random(seed)
    return trajectory([[source.random() for _ in range(length * (tasks - i))] for i in range(tasks)], length)


def largest(probes: list[tuple[int, float]], window: int, sign: int) -> float:
    """The definition of a windowed metric, over all pairs."""
    return max(sign * (b - a) for (m, a), (n, b) in combinations(probes, 2) if n - m < window)


def test_three_tasks_by_hand() -> None:
    made = three()
    assert made.minima == [0.20, 0.30]
    assert made.min_acc == pytest.approx(0.25)
    assert made.wc_acc == pytest.approx(0.8 / 3 + 2 / 3 * 0.25)
    assert made.acc == pytest.approx(0.85)
    assert made.forgetting_by_task == pytest.approx([0.05, 0.05])
    assert made.forgetting == pytest.approx(0.05)
    assert made.windowed_forgetting_by_task(3) == pytest.approx([0.70, 0.65, -0.3])
    assert made.windowed_plasticity_by_task(3) == pytest.approx([0.80, 0.90, 0.80])
    assert made.windowed_forgetting(3) == pytest.approx((0.70 + 0.65 - 0.3) / 3)
    assert made.windowed_plasticity(3) == pytest.approx(2.5 / 3)


def test_a_rise_may_start_below_an_earlier_peak() -> None:
    made = single([0.5, 0.1, 0.9])
    assert made.windowed_plasticity(3) == pytest.approx(0.8)
    assert made.windowed_forgetting(3) == pytest.approx(0.4)


def test_constant_accuracy() -> None:
    made = single([0.4] * 6)
    assert (made.windowed_forgetting(3), made.windowed_plasticity(3)) == (0.0, 0.0)
    assert (made.min_acc, made.forgetting) == (None, None)
    assert made.wc_acc == made.acc == 0.4


@pytest.mark.parametrize("seed", range(20))
def test_the_worst_case_is_a_bound_at_all_times(seed: int) -> None:
    made, bounds = drawn(seed), 0
    for iteration in range(1, 29):
        then = made.until(iteration)
        old = [(low, now) for low, now in zip(then.minima, then.latest)]
        assert then.wc_acc is not None and then.acc is not None
        assert then.wc_acc <= then.acc + 1e-12
        at_minima = all(low == now for low, now in old)
        assert at_minima == (abs(then.wc_acc - then.acc) < 1e-12)
        bounds += not at_minima
    assert bounds > 10  # the test is not about equality


@pytest.mark.parametrize("window", [2, 3, 5, 12, 1000])
@pytest.mark.parametrize("seed", range(10))
def test_windows_by_their_definition(seed: int, window: int) -> None:
    source, made = random.Random(seed), Trajectory()
    made.begin(0)
    iterations = sorted(source.sample(range(1, 120), 40))
    for iteration in iterations:
        made.add(0, iteration, source.randrange(8) / 8)  # with ties
    pairs = any(n - m < window for m, n in combinations(iterations, 2))
    falls, rises = made.windowed_forgetting(window), made.windowed_plasticity(window)
    assert falls == (largest(made.probes[0], window, -1) if pairs else None)
    assert rises == (largest(made.probes[0], window, 1) if pairs else None)


def test_windows_count_iterations() -> None:
    """Probes ten iterations apart: five of them lie within 41 iterations, and no two within 10."""
    made = single([0.9, 0.7, 0.5, 0.3, 0.1], spacing=10)
    assert made.windowed_forgetting(10) is None
    assert made.windowed_forgetting(11) == pytest.approx(0.2)
    assert made.windowed_forgetting(40) == pytest.approx(0.6)
    assert made.windowed_forgetting(41) == pytest.approx(0.8)


def test_a_window_longer_than_the_run() -> None:
    """The largest drop; it is the drop from the first to the last only if accuracy falls all the way."""
    falling, waving = single([0.9, 0.7, 0.6, 0.2]), single([0.5, 0.9, 0.1, 0.6])
    assert falling.windowed_forgetting(100) == pytest.approx(0.9 - 0.2)
    assert waving.windowed_forgetting(100) == pytest.approx(0.9 - 0.1)
    assert waving.windowed_forgetting(100) != pytest.approx(0.5 - 0.6)


def test_averages_are_of_the_maxima_of_tasks() -> None:
    """The mean of the curves never falls, but one task does."""
    made = Trajectory()
    made.begin(0)
    made.add(0, 1, 1.0)
    made.end(1)
    made.begin(1)
    for iteration, (old, new) in enumerate([(0.5, 0.5), (0.5, 0.5), (0.0, 1.0)], 2):
        made.add(0, iteration, old)
        made.add(1, iteration, new)
    assert made.windowed_forgetting_by_task(2) == [0.5, 0.0]
    assert made.windowed_forgetting(2) == 0.25


def test_the_lowest_point_is_looked_for_after_the_end_of_a_task() -> None:
    assert trajectory([[0.0, 0.9, 0.8, 0.7], [0.0, 0.6]], 2).minima == [0.7]  # not its own 0.0, nor the current task's


def test_forgetting_compares_with_the_end_of_a_task() -> None:
    """Neither with its best accuracy before, nor with that after."""
    made = trajectory([[0.9, 0.6, 0.8, 0.5], [0.0, 0.6]], 2)
    assert made.forgetting_by_task == pytest.approx([0.6 - 0.5])


def test_learning_curve_area() -> None:
    made = three()
    assert made.lca_by_task(2) == pytest.approx([0.35, 0.375, 0.25])
    assert made.lca(2) == pytest.approx((0.35 + 0.375 + 0.25) / 3)
    assert made.lca(10) == pytest.approx((sum(FIRST[:3]) + sum(SECOND[:3]) + sum(THIRD)) / 9)  # own iterations only
    assert single([0.2, 0.4, 0.6], spacing=5).lca(10) == pytest.approx(0.3)


def test_the_probe_before_a_task_is_where_a_gap_starts() -> None:
    made = Trajectory()
    made.begin(0)
    made.add(0, 0, 0.1)
    made.add(0, 100, 0.8)
    made.end(100)
    made.begin(100)
    made.add(1, 100, 0.2)
    assert (made.gap_depth(0, 1), made.recovery_time(0, 1), made.min_acc, made.wc_acc) == (None,) * 4
    assert made.lca_by_task(10) == [None, None]
    for iteration, accuracy in ((101, 0.5), (102, 0.3), (104, 0.75), (110, 0.76), (111, 0.7)):
        made.add(0, iteration, accuracy)
    assert made.gap_depth(0, 1) == pytest.approx(0.8 - 0.3)
    assert made.recovery_time(0, 1) == 110 - 102  # 0.76 is 95 % of 0.8
    assert made.recovery_time(0, 1, share=0.9) == 104 - 102
    assert made.recovery_time(0, 1, share=1.0) == "never"


def test_gaps_by_later_task() -> None:
    made = three()
    assert made.gap_depth(0, 1) == pytest.approx(0.90 - 0.20)
    assert made.gap_depth(0, 2) == pytest.approx(0.80 - 0.40)
    assert made.gap_depth(1, 2) == pytest.approx(0.95 - 0.30)
    assert made.recovery_time(0, 1) == "never"  # 0.80 of 0.90, and what follows belongs to the next task
    assert made.recovery_time(0, 2) == 2
    assert made.recovery_time(1, 2) == "never"
    assert trajectory([[0.5, 0.8, 0.9, 0.9], [0.1, 0.1]], 2).recovery_time(0, 1) == 0
    late = trajectory([[0.1, 0.5, 0.8, 0.8, 0.3, 0.8], [0.1, 0.1, 0.1]], 3)
    assert late.recovery_time(0, 1) == 1  # what was still there before the lowest point is no recovery


def test_the_summary_has_it_all_and_survives_json() -> None:
    made = three()
    found = made.summary(windows=(3,), beta=2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["windowed_forgetting"] == {"3": made.windowed_forgetting(3)}
    assert found["windowed_plasticity"] == {"3": made.windowed_plasticity(3)}
    assert [found[n] for n in ("tasks", "acc", "min_acc", "wc_acc", "forgetting")] == [
        *(3, made.acc, made.min_acc, made.wc_acc, made.forgetting)
    ]
    assert found["lca"] == made.lca(2)
    assert found["gap_depth"] == pytest.approx((0.7 + 0.4 + 0.65) / 3)
    assert (found["recovery_time"], found["never_recovered"]) == (2, 2)
    second = found["by_task"][1]
    assert (second["acc"], second["min_acc"], second["forgetting"]) == pytest.approx((0.90, 0.30, 0.05))
    assert second["windowed_forgetting"]["3"] == pytest.approx(0.65)
    assert second["windowed_plasticity"]["3"] == pytest.approx(0.90)
    assert (second["gap_depth"], second["recovery_time"]) == ({"2": pytest.approx(0.65)}, {"2": "never"})
    assert (found["by_task"][2]["min_acc"], found["by_task"][2]["forgetting"]) == (None, None)


def test_a_second_probe_takes_the_place_of_the_first() -> None:
    made = Trajectory()
    made.begin(0)
    for accuracy in (0.5, 0.75):
        made.add(0, 3, accuracy)
    assert made.probes == [[(3, 0.75)]]
    with pytest.raises(InputError, match="given for task 0"):
        made.add(0, 3, 1.5)
    assert made.probes == [[(3, 0.75)]]


def test_nothing_yet() -> None:
    found = Trajectory().summary()
    assert {name for name, value in found.items() if value is not None} == {
        *("tasks", "windowed_forgetting", "windowed_plasticity", "never_recovered", "by_task")
    }


def test_tree_and_back() -> None:
    made = three()
    made.begin(9)
    back = Trajectory.from_tree(json.loads(json.dumps(made.tree())))
    assert (back.starts, back.ends, back.probes) == (made.starts, made.ends, made.probes)
    back.add(0, 10, 0.5)
    assert len(made.probes[0]) == 9


def test_the_order_of_events_is_kept() -> None:
    made = Trajectory()
    with pytest.raises(InputError, match="0 tasks are open"):
        made.end(1)
    made.begin(0)
    with pytest.raises(InputError, match="End a task before the next"):
        made.begin(1)
    made.add(0, 3, 0.5)
    with pytest.raises(InputError, match="last probe of this one was after iteration 3"):
        made.add(0, 2, 0.5)
    with pytest.raises(InputError, match="Begin the task first"):
        made.add(1, 4, 0.5)
    with pytest.raises(InputError, match=r"tasks \[0\] have no probe there"):
        made.end(4)
    made.end(3)
    with pytest.raises(InputError, match="after iteration 2"):
        made.begin(2)


def test_what_cannot_be_asked() -> None:
    made = three()
    with pytest.raises(ConfigError, match=r"window=1\).*Give 2 or more"):
        made.windowed_forgetting(1)
    with pytest.raises(ConfigError, match=r"lca\(beta=0\)"):
        made.lca(0)
    for pair in ((1, 1), (2, 0), (0, 3), (-1, 1)):
        with pytest.raises(InputError, match="an earlier task and a later one"):
            made.gap_depth(*pair)
    with pytest.raises(InputError, match="given for task 2"):
        made.add(2, 10, math.nan)
