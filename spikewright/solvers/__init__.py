"""Solvers of the adjoint equation of a network with feedback, one per file."""

from spikewright.solvers._base import Adjoint as Adjoint
from spikewright.solvers._base import Cell as Cell
from spikewright.solvers._base import Edge as Edge
from spikewright.solvers._base import Iterative as Iterative
from spikewright.solvers._base import Report as Report
from spikewright.solvers._base import Solver as Solver
from spikewright.solvers.anderson import Anderson as Anderson
from spikewright.solvers.broyden import Broyden as Broyden
from spikewright.solvers.fixed_point import FixedPoint as FixedPoint
from spikewright.solvers.spiking import Spiking as Spiking

__all__ = ["Adjoint", "Anderson", "Broyden", "Cell", "Edge", "FixedPoint", "Iterative", "Report", "Solver", "Spiking"]


def __dir__() -> list[str]:
    return __all__
