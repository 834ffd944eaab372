"""Spike raster."""

from collections.abc import Mapping

import numpy
from matplotlib.figure import Figure
from torch import Tensor

from spikewright._util.ranges import check_counts


def raster(spikes: Mapping[str, Tensor], neurons: int = 80, titles: Mapping[str, str] | None = None) -> Figure:
    """Plot the spikes of one sample over time, one panel per neuron layer.

    Args:
        spikes: Spikes of each layer by name. Shape `[time, *feature]`, non-zero for a spike.
        neurons: Largest number of neurons shown per layer, evenly spaced, at least 1. Default: 80.
        titles: Panel titles by layer. Default: None, name and firing rate.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ConfigError: `neurons` is out of its range.
    """
    check_counts("raster", neurons=neurons)
    figure = Figure(figsize=(3.2 * len(spikes), 3.4), layout="constrained")
    panels = figure.subplots(1, len(spikes), squeeze=False)[0]
    for axes, (site, fired) in zip(panels, spikes.items()):
        flat = fired.flatten(1).cpu().numpy()
        chosen = numpy.linspace(0, flat.shape[1] - 1, min(neurons, flat.shape[1])).astype(int)
        times, ids = numpy.nonzero(flat[:, chosen])
        axes.scatter(times + 1, ids, s=12, marker="|", color="black", linewidths=1.2)
        axes.set_xlim(0.5, len(flat) + 0.5)
        axes.set_xlabel("time step")
        axes.set_title((titles or {}).get(site, f"{site}: {flat.mean():.0%} fire per step"), fontsize=9)
    panels[0].set_ylabel("neuron")
    return figure
