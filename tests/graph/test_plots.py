"""Figures of reasoning show what they are given."""

import pytest
import torch

pytest.importorskip("matplotlib")

from spikewright.plots import arrivals, learning


def test_nodes_are_in_the_order_they_are_reached_and_the_answer_is_marked() -> None:
    spikes = torch.zeros(4, 3, 2, dtype=torch.bool)  # node 0 never fires, node 1 from step 2 on, node 2 from step 0 on
    spikes[2:, 1], spikes[:, 2, 0] = True, True
    axes = arrivals(spikes, answer=1).axes[0]
    rows = torch.as_tensor(axes.images[0].get_array().data)
    assert rows.tolist() == [[0.5] * 4, [0, 0, 1, 1], [0] * 4]
    assert axes.get_yticks().tolist() == [1]


def test_an_answer_that_is_reached_late_is_shown_too() -> None:
    spikes = torch.zeros(4, 9, 1, dtype=torch.bool)
    spikes[0, :8] = True
    axes = arrivals(spikes, answer=8, shown=3).axes[0]
    assert len(axes.images[0].get_array()) == 3 and axes.get_yticks().tolist() == [2]


def test_learning_shows_the_epochs_that_were_evaluated() -> None:
    history = [{"epoch": e, "train_loss": 1 / e, "validation": e / 4 if e % 2 else None} for e in (1, 2, 3)]
    loss, found = (axes.lines[0].get_xydata().tolist() for axes in learning(history).axes)
    assert loss == [[1, 1], [2, 0.5], [3, 1 / 3]] and found == [[1, 0.25], [3, 0.75]]
