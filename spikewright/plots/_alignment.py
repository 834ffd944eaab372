"""Agreement of a rule's gradients with backpropagation during training."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure


def alignment(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot the cosine between the gradient of a rule and that of backpropagation, one line per weight.

    Biases and other vectors are left out if there are weights, and batches in which a gradient was 0.

    Args:
        rows: Mappings with `batch`, `site` (name of a parameter) and `cosine` (`None` if a gradient is 0), such as
            `alignment` in `result.json`.

    Returns:
        `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    sites = dict.fromkeys(row["site"] for row in rows)
    weights = [site for site in sites if site.endswith("weight")] or list(sites)
    for number, site in enumerate(weights):
        points = [(row["batch"], row["cosine"]) for row in rows if row["site"] == site and row["cosine"] is not None]
        marker = "." if len(points) < 40 else ""
        axes.plot([x for x, _ in points], [y for _, y in points], label=site, marker=marker, color=f"C{number % 10}")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(-1.05, 1.05)
    axes.set_xlabel("batch")
    axes.set_ylabel("cosine to backpropagation")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=1 + len(weights) // 12)
    return figure
