"""Spike raster."""

from collections.abc import Mapping

import numpy
from matplotlib.figure import Figure
from torch import Tensor

from spikewright._util.ranges import check_counts


def raster(spikes: Mapping[str, Tensor], neurons: int = 80, titles: Mapping[str, str] | None = None) -> Figure:
    """Plot the spikes of one sample over time, one panel per neuron layer.

    An entry that is not zero is a spike, whatever its value.  If noise was added, so that no entry is zero, entries
    nearer to the value of a spike than to zero are spikes; noise of a quarter of that value blurs the two.

    Args:
        spikes: Output of each layer by name, any numbers. Shape `[time, *feature]`.
        neurons: Largest number of neurons shown per layer, evenly spaced, at least 1. Default: 80.
        titles: Panel titles by layer. Default: None, name and firing rate.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ConfigError: `neurons` is out of its range.
    """
    check_counts("raster", neurons=neurons)
    figure = Figure(figsize=(3.2 * max(1, len(spikes)), 3.4), layout="constrained")
    panels = figure.subplots(1, max(1, len(spikes)), squeeze=False)[0]
    for axes, (site, sent) in zip(panels, spikes.items()):
        fired = _fired(sent.detach().flatten(1).cpu().double().numpy())
        chosen = numpy.linspace(0, fired.shape[1] - 1, min(neurons, fired.shape[1])).astype(int)
        times, ids = numpy.nonzero(fired[:, chosen])
        axes.scatter(times + 1, ids, s=12, marker="|", color="black", linewidths=1.2)
        axes.set_xlim(0.5, len(fired) + 0.5)
        axes.set_xlabel("time step")
        rate = fired.mean() if fired.size else 0.0
        axes.set_title((titles or {}).get(site, f"{site}: {rate:.0%} fire per step"), fontsize=9)
    panels[0].set_ylabel("neuron")
    return figure


def _fired(sent: numpy.ndarray) -> numpy.ndarray:
    """Return which entries are spikes."""
    fired = sent != 0
    if not sent.size or not fired.all() or (sent == sent.flat[0]).all():
        return fired
    # Noise around zero and around the value of a spike, which is first guessed as the most extreme entry.
    value = sent.flat[numpy.abs(sent).argmax()]
    for _ in range(50):
        fired = sent / value > 0.5
        mean = sent[fired].mean()
        if mean == value:
            break
        value = mean
    alike = (sent / value < -0.5).sum()  # noise alone goes as far on the other side
    return fired if 2 * alike < fired.sum() else numpy.zeros_like(fired)
