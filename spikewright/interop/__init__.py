"""Networks of other libraries and formats."""

from spikewright.interop.nir import from_nir as from_nir
from spikewright.interop.nir import to_nir as to_nir

__all__ = ["from_nir", "to_nir"]


def __dir__() -> list[str]:
    return __all__
