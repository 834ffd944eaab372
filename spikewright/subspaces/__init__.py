"""The directions in which the inputs of a weight have been, as rows of a matrix, and gradients kept out of them."""

from spikewright.subspaces.hebbian import Hebbian as Hebbian
from spikewright.subspaces.lateral import Lateral as Lateral
from spikewright.subspaces.rows import Rows as Rows
from spikewright.subspaces.subspace import Subspace as Subspace
