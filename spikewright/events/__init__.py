"""Event streams: readers of the usual files, and frames made of events."""

from spikewright.events.recording import Events as Events

__all__ = ["Events"]


def __dir__() -> list[str]:
    return __all__
