"""A user's module as a spiking network: its sites, its runs, its wiring, and what is found by looking at it."""

from spikewright.network.network import Network as Network

__all__ = ["Network"]


def __dir__() -> list[str]:
    return __all__
