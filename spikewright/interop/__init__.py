"""Models, formats and trainers of other libraries."""

from spikewright.interop._convert import convert as convert
from spikewright.interop.conversion import Conversion as Conversion
from spikewright.interop.conversion import ConversionRow as ConversionRow
from spikewright.interop.nir import from_nir as from_nir
from spikewright.interop.nir import to_nir as to_nir

__all__ = ["Conversion", "ConversionRow", "convert", "from_nir", "to_nir"]


def __dir__() -> list[str]:
    return __all__
