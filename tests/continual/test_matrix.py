"""The accuracy matrix, against numbers worked out by hand."""

import json
import math

import pytest

from spikewright.continual.matrix import AccuracyMatrix
from spikewright.errors import InputError, ShapeError

ROWS = [[0.9], [0.6, 0.8], [0.7, 0.5, 0.95]]
FULL = [[0.9, 0.3, 0.2], [0.6, 0.8, 0.4], [0.7, 0.5, 0.95]]
BASELINE = [0.1, 0.2, 0.15]


def matrix(rows: list[list[float]], baseline: list[float] | None = None) -> AccuracyMatrix:
    made = AccuracyMatrix(baseline)
    for row in rows:
        made.add(row)
    return made


def test_by_hand() -> None:
    made = matrix(ROWS)
    assert made.acc == pytest.approx((0.7 + 0.5 + 0.95) / 3)
    assert made.forgetting_by_task == pytest.approx([0.9 - 0.7, 0.8 - 0.5])
    assert made.forgetting == pytest.approx(0.25)
    assert made.bwt == pytest.approx(-0.25)


def test_the_maximum_is_over_all_rows_since_learning() -> None:
    """The first task was at its best after the second, and only just learned tasks are at their best at once."""
    made = matrix([[0.5], [0.9, 0.8], [0.7, 0.6, 1.0]])
    assert made.maximal_forgetting == pytest.approx((0.2 + 0.2) / 2)
    assert made.forgetting == pytest.approx((-0.2 + 0.2) / 2)
    assert made.bwt == pytest.approx(0.0)


def test_a_maximum_before_learning_does_not_count_and_neither_does_now() -> None:
    assert matrix([[0.5, 0.9], [0.5, 0.4], [0.5, 0.3, 0.6]]).maximal_forgetting == pytest.approx((0.0 + 0.1) / 2)
    assert matrix([[0.5], [0.8, 0.9]]).maximal_forgetting == pytest.approx(-0.3)


def test_accuracies_on_later_tasks_change_nothing_but_forward_transfer() -> None:
    some, full = matrix(ROWS), matrix(FULL, BASELINE)
    assert (some.acc, some.bwt, some.maximal_forgetting) == (full.acc, full.bwt, full.maximal_forgetting)
    assert matrix(FULL[:2]).acc == pytest.approx(0.7)
    assert full.forward_transfer == pytest.approx(((0.3 - 0.2) + (0.4 - 0.15)) / 2)


def test_forward_transfer_needs_full_rows_and_a_baseline() -> None:
    assert matrix(FULL).forward_transfer is None
    assert matrix(ROWS, BASELINE).forward_transfer is None
    assert matrix(FULL[:1], BASELINE).forward_transfer is None
    assert matrix(FULL[:2], BASELINE).forward_transfer == pytest.approx(0.3 - 0.2)


def test_nothing_is_defined_too_early() -> None:
    empty, one = matrix([]), matrix([[0.5]])
    assert (empty.acc, empty.bwt, empty.forgetting, empty.maximal_forgetting) == (None,) * 4
    assert one.acc == 0.5
    assert (one.bwt, one.forgetting, one.maximal_forgetting, one.forgetting_by_task) == (None, None, None, [])


@pytest.mark.parametrize("baseline", [None, BASELINE])
def test_survives_json(baseline: list[float] | None) -> None:
    made = matrix(FULL, baseline)
    back = AccuracyMatrix.from_tree(json.loads(json.dumps(made.tree())))
    assert (back.rows, back.baseline) == (FULL, baseline)
    assert back.forward_transfer == made.forward_transfer


def test_the_tree_is_a_copy() -> None:
    made = matrix(ROWS)
    made.tree()["rows"][0][0] = 0.0
    assert made.rows == ROWS


def test_a_row_must_have_every_task_seen() -> None:
    made = matrix(ROWS[:1])
    with pytest.raises(ShapeError, match=r"Row 2 of an accuracy matrix was given with 1 accuracies, but 2 tasks"):
        made.add([0.5])
    assert made.rows == ROWS[:1]


def test_a_baseline_must_have_every_task() -> None:
    made = matrix(ROWS[:2], [0.1, 0.1])
    for row in (ROWS[2], [*ROWS[2], 0.1]):
        with pytest.raises(ShapeError, match="a baseline of 2"):
            made.add(row)


@pytest.mark.parametrize("value", [-0.1, 1.01, 95.0, math.nan, math.inf])
def test_accuracies_are_fractions(value: float) -> None:
    with pytest.raises(InputError, match=r"given for row 1.*Divide percentages by 100"):
        matrix([[value]])
    with pytest.raises(InputError, match="given for a baseline"):
        AccuracyMatrix([value])
