"""Matplotlib figures of spikes, training runs, continual learning and graph reasoning."""

from spikewright.plots._alignment import alignment as alignment
from spikewright.plots._comparison import comparison as comparison
from spikewright.plots._curves import curves as curves
from spikewright.plots._raster import raster as raster
from spikewright.plots.continual import accuracies as accuracies
from spikewright.plots.continual import accuracy_matrix as accuracy_matrix
from spikewright.plots.continual import stability_gap as stability_gap
from spikewright.plots.reasoning import arrivals as arrivals
from spikewright.plots.reasoning import learning as learning

__all__ = [
    "accuracies",
    "accuracy_matrix",
    "alignment",
    "arrivals",
    "comparison",
    "curves",
    "learning",
    "raster",
    "stability_gap",
]


def __dir__() -> list[str]:
    return __all__
