"""Networks in the Neuromorphic Intermediate Representation (NIR): read, written, and compared with other readers."""

from spikewright.interop.nir.exporting import to_nir as to_nir
from spikewright.interop.nir.importing import from_nir as from_nir
from spikewright.interop.nir.report import NIRReport as NIRReport
from spikewright.interop.nir.report import NIRRow as NIRRow

__all__ = ["NIRReport", "NIRRow", "from_nir", "to_nir"]


def __dir__() -> list[str]:
    return __all__
