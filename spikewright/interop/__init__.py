"""Models of other libraries, converted with proof or refused."""

from spikewright.interop._convert import convert as convert
from spikewright.interop.conversion import Conversion as Conversion
from spikewright.interop.conversion import ConversionRow as ConversionRow

__all__ = ["Conversion", "ConversionRow", "convert"]


def __dir__() -> list[str]:
    return __all__
