"""The directions in which the inputs of a weight have been, as rows of a matrix, and gradients kept out of them."""

from spikewright.rules.continual.subspaces.hebbian import Hebbian as Hebbian
from spikewright.rules.continual.subspaces.lateral import Lateral as Lateral
from spikewright.rules.continual.subspaces.rows import Rows as Rows
from spikewright.rules.continual.subspaces.subspace import Subspace as Subspace
