"""A way back from a neuron, through which its spikes of the last step arrive."""

from collections.abc import Sequence

import torch
from torch import nn

from spikewright.errors import NetworkError


class Way:
    """A way back from a neuron.

    Args:
        neuron: The neuron.
        target: The node at which it arrives.
        chain: The nodes in between.

    Attributes:
        waits: True behind the first Delay node.
    """

    def __init__(self, neuron: str, target: str, chain: Sequence[str]) -> None:
        self.neuron, self.target, self.chain = neuron, target, chain
        self.waits = self._before = self._behind = False

    def note(self, modules: Sequence[nn.Module]) -> None:
        """Note whether layers have a bias."""
        if any(isinstance(getattr(m, "bias", None), torch.Tensor) for m in modules):
            self._behind, self._before = self._behind or self.waits, self._before or not self.waits

    @property
    def acts_at_start(self) -> bool:
        """True if there is something to add at the first step: a bias that no Delay node holds back.

        Raises:
            NetworkError: One bias is held back and another is not.
        """
        if self.waits and self._before and self._behind:
            raise NetworkError(
                f"from_nir read a loop from '{self.neuron}' to '{self.target}' with a bias in front of a Delay node "
                "and one behind it, but a feedback connection here starts with all of them or with none. Put the "
                f"second bias into the layer in front of '{self.target}'."
            )
        return self._behind if self.waits else self._before
