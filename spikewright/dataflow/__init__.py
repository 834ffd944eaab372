"""Measured dataflow: the sources that a tensor depends on, and whether it is linear in them."""

from spikewright.dataflow._mode import Dataflow as Dataflow
from spikewright.dataflow._mode import saved_through_hooks as saved_through_hooks
from spikewright.dataflow.dependences import RANDOM as RANDOM
from spikewright.dataflow.dependences import Bend as Bend
from spikewright.dataflow.dependences import Dependences as Dependences
