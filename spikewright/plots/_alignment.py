"""Whether the gradients of a rule point where those of backpropagation do, while a network learns."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure


def alignment(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the cosine between the two, one line per weight; biases and other vectors are left out where weights are.

    Args:
        rows: Each with `batch`, `site` and `cosine`, as in the `alignment` of `result.json`.
    """
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    sites = dict.fromkeys(row["site"] for row in rows)
    weights = [site for site in sites if site.endswith("weight")] or list(sites)
    for number, site in enumerate(weights):
        points = [(row["batch"], row["cosine"]) for row in rows if row["site"] == site]
        axes.plot(*zip(*points), label=site, marker="." if len(points) < 40 else "", color=f"C{number % 10}")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(-1.05, 1.05)
    axes.set_xlabel("batch")
    axes.set_ylabel("cosine to backpropagation")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=1 + len(weights) // 12)
    return figure
