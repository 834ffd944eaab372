"""The small networks of `tests/nets.py` as step programs: explicit functions of one frame and a machine.

`net.syn(name, x, pre=..., post=...)` names the neuron layers that a synapse joins; pooling and flattening do not
count. Parameter names are those of the modules; the names of neuron layers are free.
"""

import math
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from tests.oracles.delay import arrive
from tests.oracles.machine import Machine


def mlp(
    x: Tensor, net: Machine, taus: tuple[float, float] = (2.0, 2.0), hard: bool = False, attached: bool = False
) -> Tensor:
    s = net.lif("1", net.syn("0", x, post="1"), taus[0], hard, attached)
    s = net.lif("3", net.syn("2", s, pre="1", post="3"), taus[1], hard, attached)
    return net.syn("4", s, pre="3")


def conv(x: Tensor, net: Machine) -> Tensor:
    s = net.lif("1", net.syn("0", x, post="1", padding=1), tau=2.0)
    current = net.syn("3", F.avg_pool2d(s, 2), pre="1", post="4", stride=2, padding=1, groups=2)
    return net.syn("6", net.lif("4", current, tau=2.0).flatten(1), pre="4")


def residual(x: Tensor, net: Machine) -> Tensor:
    skip = net.lif("first", net.syn("stem", x, post="first", padding=1), tau=2.0)
    s = net.lif("inner", net.syn("conv1", skip, pre="first", post="inner", padding=1), tau=1.5)
    s = net.lif("last", skip + net.syn("conv2", s, pre="inner", post="last", padding=1), tau=3.0)
    return net.syn("out", F.avg_pool2d(s, 2).flatten(1), pre="last")


def branching(x: Tensor, net: Machine) -> Tensor:
    root = net.lif("root", net.syn("stem", x, post="root"), tau=1.5)
    side = net.lif("side", net.syn("right", root, pre="root", post="side"), tau=5.0)
    s = net.lif("join", net.syn("left", root, pre="root", post="join") + side, tau=2.0)
    return net.syn("out", s, pre="join")


def feedback(x: Tensor, net: Machine) -> Tensor:
    current, sent = net.syn("0", x, post="2"), net.last("4")
    if sent is not None:
        current = current + net.syn("1.transform", sent, pre="4", post="2")
    s = net.lif("2", current, tau=1.5)
    s = net.lif("4", net.syn("3", s, pre="2", post="4"), tau=3.0)
    return net.syn("5", s, pre="4")


def deep(x: Tensor, net: Machine) -> Tensor:
    s = net.lif("1", net.syn("0", x, post="1"), tau=2.0)
    s = net.lif("3", net.syn("2", s, pre="1", post="3"), tau=2.0)
    s = net.lif("5", net.syn("4", s, pre="3", post="5"), tau=2.0)
    return net.syn("6", s, pre="5")


def shared(x: Tensor, net: Machine) -> Tensor:
    s = net.lif("once", net.syn("fc1", x, post="once"), tau=2.0)
    s = net.lif("again", net.syn("fc2", s, pre="once", post="again"), tau=2.0)
    return net.syn("out", s, pre="again")


def delayed(x: Tensor, net: Machine) -> Tensor:
    s = net.lif("1", net.syn("0", x, post="1"), tau=2.0)
    s = net.lif("4", net.syn("3", arrive(net, "2", s), pre="1", post="4"), tau=3.0)
    return net.syn("5", s, pre="4")


PROGRAMS = {
    "mlp": mlp,
    "two_leaks": partial(mlp, taus=(1.5, 5.0)),
    "conv": conv,
    "residual": residual,
    "branching": branching,
    "feedback": feedback,
    "deep": deep,
    "shared": shared,
    "hard_reset": partial(mlp, hard=True),
    "attached": partial(mlp, attached=True),
    "delayed": delayed,
    "if_net": partial(mlp, taus=(math.inf, math.inf)),
}
