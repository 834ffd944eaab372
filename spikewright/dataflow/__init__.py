"""Measured dataflow: what a tensor depends on, and whether it is linear in it, found by watching operations run."""

from spikewright.dataflow._mode import Dataflow as Dataflow
from spikewright.dataflow._mode import saved_through_hooks as saved_through_hooks
from spikewright.dataflow.dependences import RANDOM as RANDOM
from spikewright.dataflow.dependences import Bend as Bend
from spikewright.dataflow.dependences import Dependences as Dependences
