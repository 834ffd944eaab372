"""Learning curves."""

from collections.abc import Sequence

from matplotlib.figure import Figure


def curves(history: Sequence[dict[str, float | None]]) -> Figure:
    """Plot loss and accuracy by epoch.

    Args:
        history: One mapping per epoch, such as `history` in `result.json`; `None` entries are left out.

    Returns:
        `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(8, 3), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for axes, kind in ((loss, "loss"), (accuracy, "accuracy")):
        for part in ("train", "validation", "test"):
            points = [(row["epoch"], row[f"{part}_{kind}"]) for row in history if row.get(f"{part}_{kind}") is not None]
            if points:
                axes.plot(*zip(*points), label=part, marker="." if len(points) < 40 else "")
        axes.set_xlabel("epoch")
        axes.set_title(kind, fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure
