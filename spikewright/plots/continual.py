"""Accuracies of continual learning."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure


def accuracy_matrix(rows: Sequence[Sequence[float]]) -> Figure:
    """Plot the accuracy on every task after every task.

    Args:
        rows: For each finished task, the accuracy on each task so far, in [0, 1].

    Returns:
        `matplotlib.figure.Figure`.
    """
    size = len(rows)
    whole = [[*row[:size], *[float("nan")] * (size - len(row))] for row in rows]
    figure = Figure(figsize=(1.6 + 0.55 * size, 1.2 + 0.5 * size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(whole, vmin=0, vmax=1, cmap="viridis")
    for after, row in enumerate(rows):
        for task, accuracy in enumerate(row[:size]):
            colour = "white" if accuracy < 0.6 else "black"
            axes.text(task, after, f"{100 * accuracy:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(size), [str(i + 1) for i in range(size)])
    axes.set_yticks(range(size), [str(i + 1) for i in range(size)])
    axes.set_xlabel("accuracy on task, %")
    axes.set_ylabel("after task")
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def accuracies(result: Mapping[str, Any]) -> Figure:
    """Plot the accuracy on every task over the updates of a continual-learning run.

    Without probes during learning, plots the accuracy after each task, which does not show the stability gap: drops
    right after a task switch that have recovered when the task ends.

    Args:
        result: `result.json` of a continual-learning run.

    Returns:
        `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    if result["trajectory"] is not None:
        for task, probes in enumerate(result["trajectory"]["probes"]):
            axes.plot(*zip(*probes), label=f"task {task + 1}", linewidth=1)
        for start in result["trajectory"]["starts"]:
            axes.axvline(start, color="grey", linewidth=0.5, linestyle=":")
        axes.set_xlabel("update")
    else:
        rows = result["accuracy_matrix"]
        for task in range(len(rows)):
            after = range(task, len(rows))
            axes.plot([k + 1 for k in after], [rows[k][task] for k in after], label=f"task {task + 1}", marker=".")
        axes.set_xlabel("after task")
    axes.set_ylabel("accuracy")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2)
    return figure


def stability_gap(result: Mapping[str, Any]) -> Figure:
    """Plot the mean accuracy on old tasks after every task switch, relative to that at the switch.

    Args:
        result: `result.json` of a continual-learning run with probes during learning.

    Returns:
        `matplotlib.figure.Figure`.
    """
    trajectory = result["trajectory"]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for new, start in enumerate(trajectory["starts"][1:], 1):
        stop = trajectory["ends"][new]
        old = [dict(map(tuple, probes)) for probes in trajectory["probes"][:new]]
        steps = sorted(step for step in old[0] if start <= step <= stop)
        means = [sum(probes[step] for probes in old) / new for step in steps]
        axes.plot([s - start for s in steps], [100 * (m - means[0]) for m in means], label=f"to task {new + 1}", lw=1)
    axes.axhline(0, color="grey", linewidth=0.5)
    axes.set_xlabel("updates since the switch")
    axes.set_ylabel("accuracy on old tasks, points")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure
