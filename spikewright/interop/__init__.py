"""Trainers, model formats and libraries of others."""

from spikewright.interop.exporting import Exported as Exported
from spikewright.interop.exporting import export as export
from spikewright.interop.lightning import LightningMixin as LightningMixin
from spikewright.interop.onnx import to_onnx as to_onnx
from spikewright.interop.transformers import TransformersMixin as TransformersMixin

__all__ = ["Exported", "LightningMixin", "TransformersMixin", "export", "to_onnx"]


def __dir__() -> list[str]:
    return __all__
