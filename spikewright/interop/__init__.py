"""Trainers, model formats and libraries of others."""

from spikewright.interop.lightning import LightningMixin as LightningMixin

__all__ = ["LightningMixin"]


def __dir__() -> list[str]:
    return __all__
