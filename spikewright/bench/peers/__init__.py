"""Other spiking libraries, each in its fastest documented mode on a CPU."""

from spikewright.bench.peers._base import Peer as Peer
from spikewright.bench.peers.norse import Norse
from spikewright.bench.peers.sinabs import Sinabs
from spikewright.bench.peers.snntorch import SnnTorch
from spikewright.bench.peers.spikingjelly import SpikingJelly

NORSE: Peer = Norse()
COMPILED: Peer = Norse(compiled=True)
"""The library whose cell gains from `torch.compile`."""
PEERS: tuple[Peer, ...] = (SpikingJelly(), SnnTorch(), NORSE, Sinabs())
EVERYONE: tuple[Peer, ...] = (*PEERS, COMPILED)
