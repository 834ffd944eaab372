"""Learning curves and spike times of graph reasoning."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from spikewright._util.ranges import check_count, check_counts


def learning(history: Sequence[dict[str, Any]], name: str = "MRR") -> Figure:
    """Plot training loss and validation metric by epoch.

    Args:
        history: One mapping per epoch, such as `history` in `result.json`.
        name: Name of the validation metric. Default: "MRR".

    Returns:
        `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, key, title in zip(figure.subplots(1, 2), ("train_loss", "validation"), ("training loss", name)):
        points = [(row["epoch"], row[key]) for row in history if row[key] is not None]
        axes.plot(*zip(*points), marker="." if len(points) < 40 else "")
        axes.set_xlabel("epoch")
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.3)
    return figure


def arrivals(spikes: Tensor, answer: int, shown: int = 60) -> Figure:
    """Plot the fraction of each node's neurons that fire at each step, nodes sorted by their first spike.

    Args:
        spikes: Spikes of one query, bool `[time, node, neuron]`, such as `model.spikes(...)[:, :, 0]`.
        answer: Index of the node to mark, at least 0.
        shown: Largest number of nodes, at least 1; the answer is always shown. Default: 60.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ConfigError: `answer` is no node, or `shown` is out of its range.
    """
    check_count(
        "arrivals", "answer", answer, f"there are {spikes.shape[1]} nodes, numbered from 0", 0, spikes.shape[1] - 1
    )
    check_counts("arrivals", shown=shown)
    rates = spikes.float().mean(2).cpu()
    reached = spikes.any(2)
    first = (~reached).cumprod(0).sum(0)  # equals the number of steps for nodes without spikes
    order = (first * (len(rates) + 1) - rates.sum(0)).argsort()
    rows = [int(node) for node in order[:shown]]
    rows = rows if answer in rows else [*rows[: shown - 1], answer]
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(rates[:, rows].T.numpy(), aspect="auto", cmap="viridis", vmin=0, interpolation="nearest")
    axes.set_yticks([rows.index(answer)], ["answer"])
    axes.set_xlabel("step")
    axes.set_title(f"neurons that fire, {len(rows)} of {rates.shape[1]} nodes, first reached on top", fontsize=9)
    figure.colorbar(image)
    return figure
