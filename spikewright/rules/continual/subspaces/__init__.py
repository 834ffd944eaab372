"""Directions of the inputs of a weight, as rows of a matrix, and the projection of gradients."""

from spikewright.rules.continual.subspaces.hebbian import Hebbian as Hebbian
from spikewright.rules.continual.subspaces.lateral import Lateral as Lateral
from spikewright.rules.continual.subspaces.rows import Rows as Rows
from spikewright.rules.continual.subspaces.subspace import Subspace as Subspace
