"""Spatial credit assignment: how errors get from the output to the layers within a step."""

from spikewright.spatial._base import Spatial as Spatial
from spikewright.spatial.direct import DFA as DFA
from spikewright.spatial.direct import DKP as DKP
from spikewright.spatial.layerwise import BP as BP
from spikewright.spatial.layerwise import FA as FA
from spikewright.spatial.layerwise import SignSymmetric as SignSymmetric
from spikewright.spatial.local import Local as Local
from spikewright.spatial.perturbed import OPZO as OPZO
from spikewright.spatial.perturbed import ZO as ZO

__all__ = ["BP", "DFA", "DKP", "FA", "OPZO", "ZO", "Local", "SignSymmetric", "Spatial"]


def __dir__() -> list[str]:
    return __all__
