"""Models, formats and trainers of other libraries."""

from spikewright.interop._convert import convert as convert
from spikewright.interop.conversion import Conversion as Conversion
from spikewright.interop.conversion import ConversionRow as ConversionRow
from spikewright.interop.exporting import Exported as Exported
from spikewright.interop.exporting import export as export
from spikewright.interop.lightning import LightningMixin as LightningMixin
from spikewright.interop.neurobench import CountedLayer as CountedLayer
from spikewright.interop.neurobench import neurobench_model as neurobench_model
from spikewright.interop.nir import from_nir as from_nir
from spikewright.interop.nir import to_nir as to_nir
from spikewright.interop.onnx import to_onnx as to_onnx
from spikewright.interop.state_dicts import Loaded as Loaded
from spikewright.interop.state_dicts import LoadedRow as LoadedRow
from spikewright.interop.state_dicts import load_state_dict as load_state_dict
from spikewright.interop.transformers import TransformersMixin as TransformersMixin

__all__ = [
    "Conversion",
    "ConversionRow",
    "CountedLayer",
    "Exported",
    "LightningMixin",
    "Loaded",
    "LoadedRow",
    "TransformersMixin",
    "convert",
    "export",
    "from_nir",
    "load_state_dict",
    "neurobench_model",
    "to_nir",
    "to_onnx",
]


def __dir__() -> list[str]:
    return __all__
