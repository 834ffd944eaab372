"""Constants that go into the weights in front: batch norm in evaluation, and the gain of neurons."""

from typing import Any

import numpy as np

from spikewright.errors import NetworkError
from spikewright.interop.nir.graph import NEURONS, Graph, Node
from spikewright.interop.nir.loops import remove

WEIGHTED = ("Linear", "Affine", "Conv1d", "Conv2d")


def fold_norms(graph: Graph) -> None:
    """Put every batch norm into the layer in front of it if that feeds nothing else, or make it a layer of its own."""
    for name in [name for name, node in graph.nodes.items() if node.kind == "BatchNorm"]:
        node = graph.nodes[name]
        into = graph.into(name)
        layer = graph.nodes[into[0]] if len(into) == 1 and graph.out_of(into[0]) == [name] else None
        if layer is None or layer.kind not in WEIGHTED:
            graph.nodes[name] = _by_channel(node)
            continue
        _scale(layer, node.values["factor"])
        _shift(layer, node.values["shift"])
        remove(graph, name)


def _by_channel(node: Node) -> Node:
    """Return a batch norm as a diagonal matrix, or as a convolution of each channel with one number."""
    factor, shift, shape = node.values["factor"], node.values["shift"], node.metadata["shape"]
    axes = len(shape) - 1
    if axes == 0:
        return Node("Affine", {"weight": np.diag(factor), "bias": shift}, node.metadata)
    if axes > 2:
        raise NetworkError(
            f"to_nir found batch norm over {axes} axes of places, but convolutions of NIR have one or two, and there "
            "is no other node for it. Put it directly behind a layer that feeds nothing else."
        )
    values = {"weight": factor.reshape(-1, 1, *[1] * axes), "bias": shift, "groups": len(factor)}
    same = {"stride": (1,) * axes, "padding": (0,) * axes, "dilation": (1,) * axes, "input_shape": tuple(shape[1:])}
    return Node(f"Conv{axes}d", {**values, **same}, node.metadata)


def fold_gains(graph: Graph) -> None:
    """Put the gain of neurons into the weights in front, so that r has its usual value.

    That is 1 for LIF and LI, 1/dt for IF and I; with a current, r is tau_mem/dt and w_in is tau_syn/dt.  Where
    something else than a weight that feeds these neurons alone is in front, the gain stays.
    """
    for name, node in graph.nodes.items():
        if node.kind not in NEURONS:
            continue
        share = 1 - node.values["leak"] if node.kind in ("LIF", "LI") else np.ones_like(node.values["leak"])
        gain = node.values["gain"] * node.values.get("current_gain", 1.0)
        factor = _per_output(gain / share)
        layers = [graph.nodes[source] for source in graph.into(name) if graph.out_of(source) == [name]]
        weighted = len(layers) == len(graph.into(name)) and all(layer.kind in WEIGHTED for layer in layers)
        if factor is None or not weighted:
            node.values["r"] = gain / share
            node.values["factor"] = np.ones_like(share)
            continue
        if not bool(np.all(factor == 1)):
            for layer in layers:
                _scale(layer, factor)
        node.values["r"] = np.ones_like(share)
        node.values["factor"] = gain / share


def _per_output(factors: Any) -> Any:
    """Return factors `[*feature]` as one for each channel; None if they differ within a channel."""
    flat = factors.reshape(len(factors), -1) if factors.ndim else factors.reshape(1, 1)
    return flat[:, 0] if bool(np.all(flat == flat[:, :1])) else None


def _scale(layer: Node, factor: Any) -> None:
    weight = layer.values["weight"]
    layer.values["weight"] = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    if "bias" in layer.values:
        layer.values["bias"] = layer.values["bias"] * factor


def _shift(layer: Node, shift: Any) -> None:
    layer.values["bias"] = layer.values.get("bias", 0) + shift
    layer.kind = "Affine" if layer.kind == "Linear" else layer.kind
