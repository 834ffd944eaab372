"""How the error gets from the output to the layers: one way a class, for the rules that learn step by step."""

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
