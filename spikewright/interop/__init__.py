"""Trainers, model formats and libraries of others."""

from spikewright.interop.lightning import LightningMixin as LightningMixin
from spikewright.interop.transformers import TransformersMixin as TransformersMixin

__all__ = ["LightningMixin", "TransformersMixin"]


def __dir__() -> list[str]:
    return __all__
