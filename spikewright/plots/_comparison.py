"""Comparison of several rules."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure


def comparison(summary: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Plot test accuracy, training time and activation memory of several rules.

    Args:
        summary: For each rule `test_accuracies` (one per seed, in [0, 1]), `test_accuracy`, `seconds`, `seconds_std`
            and `saved_bytes`.

    Returns:
        `matplotlib.figure.Figure`.
    """
    names = list(summary)
    figure = Figure(figsize=(10, 0.6 + 0.5 * len(names)), layout="constrained")
    accuracy, seconds, saved = figure.subplots(1, 3, sharey=True)
    for row, entry in enumerate(summary.values()):
        values = [100 * a for a in entry["test_accuracies"]]
        accuracy.plot(values, [row] * len(values), "o", color="tab:blue", alpha=0.5)
        accuracy.plot(100 * entry["test_accuracy"], row, "|", color="black", markersize=16)
    rows = range(len(names))
    seconds.barh(rows, [e["seconds"] for e in summary.values()], xerr=[e["seconds_std"] for e in summary.values()])
    saved.barh(rows, [e["saved_bytes"] / 1e6 for e in summary.values()], color="tab:orange")
    accuracy.set_yticks(list(rows), names)
    accuracy.invert_yaxis()
    titles = ("test accuracy, % (dots: seeds)", "training time, s", "saved for backward, MB")
    for axes, title in zip((accuracy, seconds, saved), titles):
        axes.set_title(title, fontsize=9)
        axes.grid(axis="x", alpha=0.3)
    return figure
