"""Figures show the numbers they were given."""

from typing import Any

import pytest
import torch

pytest.importorskip("matplotlib")

from spikewright.cli._train import _energy
from spikewright.plots import alignment, comparison, curves, raster

SUMMARY: dict[str, dict[str, Any]] = {
    "bptt": {
        "test_accuracies": [0.9, 0.7],
        "test_accuracy": 0.8,
        "seconds": 5.0,
        "seconds_std": 1.0,
        "saved_bytes": 4e6,
    },
    "ottt": {
        "test_accuracies": [0.6, 0.8],
        "test_accuracy": 0.7,
        "seconds": 7.0,
        "seconds_std": 0.5,
        "saved_bytes": 1e6,
    },
}


def points(line: Any) -> list[tuple[float, float]]:
    return [(pytest.approx(x), pytest.approx(y)) for x, y in zip(line.get_xdata(), line.get_ydata())]


def test_a_comparison_has_three_panels_and_a_row_for_each_rule() -> None:
    figure = comparison(SUMMARY)
    assert len(figure.axes) == 3
    accuracy = figure.axes[0]
    assert [label.get_text() for label in accuracy.get_yticklabels()] == ["bptt", "ottt"]
    low, high = accuracy.get_ylim()
    assert low > high, "the first rule is on top"


def test_a_comparison_shows_every_seed_and_the_mean() -> None:
    lines = comparison(SUMMARY).axes[0].lines
    assert [points(line) for line in lines[::2]] == [[(90, 0), (70, 0)], [(60, 1), (80, 1)]]
    assert [points(line) for line in lines[1::2]] == [[(80, 0)], [(70, 1)]]


def test_a_comparison_shows_seconds_and_megabytes() -> None:
    _, seconds, saved = comparison(SUMMARY).axes
    assert [bar.get_width() for bar in seconds.patches] == [5, 7]
    assert [bar.get_width() for bar in saved.patches] == [4, 1]
    (bars,) = [c for c in seconds.collections if hasattr(c, "get_segments")]
    spans = [(segment[0][0], segment[1][0]) for segment in bars.get_segments()]
    assert spans == [(4, 6), (6.5, 7.5)]


def test_a_comparison_of_one_rule_and_one_seed() -> None:
    assert len(comparison({"bptt": SUMMARY["bptt"] | {"test_accuracies": [0.5]}}).axes) == 3


def spikes() -> dict[str, torch.Tensor]:
    first = torch.zeros(4, 2, 3)
    first[0, 0, 0] = first[3, 1, 2] = first[2, 0, 1] = 1
    return {"first": first, "second": torch.zeros(4, 5)}


def test_a_raster_has_a_panel_for_each_site_and_a_mark_for_each_spike() -> None:
    first, second = raster(spikes()).axes
    marks = first.collections[0].get_offsets().tolist()
    assert sorted(marks) == [[1, 0], [3, 1], [4, 5]]
    assert len(second.collections[0].get_offsets()) == 0
    assert first.get_title() == "first: 12% fire per step" and second.get_title() == "second: 0% fire per step"
    assert first.get_xlim() == (0.5, 4.5)


def test_a_raster_shows_an_even_choice_of_many_neurons() -> None:
    fired = torch.zeros(2, 101)
    fired[0, [0, 50, 99, 100]] = 1
    (axes,) = raster({"site": fired}, neurons=3).axes
    assert sorted(axes.collections[0].get_offsets().tolist()) == [[1, 0], [1, 1], [1, 2]]
    assert "2% fire" in axes.get_title(), "the rate is that of all neurons"


SENT = {
    "amplitude": lambda fired: 6 * fired,
    "negative": lambda fired: -0.3 * fired,
    "noise": lambda fired: fired + 0.05 * torch.randn(fired.shape),
    "much noise": lambda fired: 20 * fired + 2 * torch.randn(fired.shape),
    "negative with noise": lambda fired: -fired + 0.1 * torch.randn(fired.shape),
    "flags": lambda fired: fired.bool(),
    "half": lambda fired: fired.half(),
    "graded": lambda fired: fired * torch.rand(fired.shape).clamp(min=0.01),
}


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("sent", SENT)
def test_a_raster_shows_spikes_whatever_they_are_sent_as(sent: str, rate: float) -> None:
    torch.manual_seed(0)
    fired = (torch.rand(20, 50) < rate).float()
    if sent == "graded" and rate == 1:
        fired[0, 0] = 0  # else it looks as noise does
    (axes,) = raster({"site": SENT[sent](fired)}).axes
    assert axes.get_title() == f"site: {fired.mean():.0%} fire per step"
    marks = {(int(time) - 1, int(neuron)) for time, neuron in axes.collections[0].get_offsets()}
    assert marks == {(t, n) for t, n in fired.nonzero().tolist()}


def test_a_raster_of_nothing() -> None:
    raster({})
    (axes,) = raster({"site": torch.zeros(3, 0)}).axes
    assert axes.get_title() == "site: 0% fire per step"


def test_a_raster_takes_titles() -> None:
    first, second = raster(spikes(), titles={"first": "of one's own"}).axes
    assert first.get_title() == "of one's own" and second.get_title().startswith("second")


ROWS = [
    {"epoch": 1, "train_loss": 2.0, "test_loss": None, "train_accuracy": 0.5, "test_accuracy": None},
    {"epoch": 2, "train_loss": 1.0, "test_loss": 1.5, "train_accuracy": 0.7, "test_accuracy": 0.6},
]


def test_curves_leave_out_what_was_not_measured() -> None:
    loss, accuracy = curves(ROWS).axes
    assert {line.get_label(): points(line) for line in loss.lines} == {"train": [(1, 2), (2, 1)], "test": [(2, 1.5)]}
    assert {line.get_label(): points(line) for line in accuracy.lines} == {
        "train": [(1, 0.5), (2, 0.7)],
        "test": [(2, 0.6)],
    }


def test_alignment_has_a_line_for_each_weight() -> None:
    sites = ("a.weight", "a.bias", "b.weight")
    rows = [{"batch": b, "site": s, "cosine": 0.1 * b + 0.01 * i} for b in (0, 5) for i, s in enumerate(sites)]
    (axes,) = alignment(rows).axes
    lines = {line.get_label(): points(line) for line in axes.get_lines() if not line.get_label().startswith("_")}
    assert lines == {"a.weight": [(0, 0.0), (5, 0.5)], "b.weight": [(0, 0.02), (5, 0.52)]}


def test_alignment_without_weights_shows_what_there_is() -> None:
    (axes,) = alignment([{"batch": 0, "site": "scale", "cosine": 0.5}]).axes
    assert "scale" in [line.get_label() for line in axes.get_lines()]


def test_alignment_leaves_out_gradients_of_zero() -> None:
    rows = [{"batch": b, "site": "a.weight", "cosine": c} for b, c in ((0, None), (5, 0.5))]
    assert points(alignment(rows).axes[0].get_lines()[0]) == [(5, 0.5)]
    assert points(alignment(rows[:1]).axes[0].get_lines()[0]) == []


def test_figures_of_a_run_are_shown_where_there_are_none() -> None:
    energy = {"simulation_nj": 2.0, "learning_nj": None, "ratio": None}
    assert _energy(energy) == "2 nJ simulation; the rule states no cost of learning (operations at 45 nm)"
    assert _energy(energy | {"learning_nj": 0.0}) == "2 nJ simulation + 0 nJ learning (operations at 45 nm)"
    assert _energy(energy | {"learning_nj": 1.0, "ratio": 0.5}).endswith("learning = 0.5 x BPTT (operations at 45 nm)")
