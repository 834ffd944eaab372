"""Files and graphs of NIR, read as plain data: what is missing in them, or no graph at all, is refused by name."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from spikewright._util.text import kind_of
from spikewright.errors import NetworkError
from spikewright.interop.nir.arguments import checked_source
from spikewright.interop.nir.graph import Edge, Graph, Node, listed
from spikewright.interop.nir.library import optional

_CONVOLUTION = ("weight", "bias", "stride", "padding", "dilation", "groups")
_POOLING = ("kernel_size", "stride", "padding")
_NEEDED = {
    "Affine": ("weight", "bias"),
    "AvgPool2d": _POOLING,
    "Conv1d": _CONVOLUTION,
    "Conv2d": _CONVOLUTION,
    "CubaLI": ("tau_syn", "tau_mem", "r"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_threshold"),
    "Delay": ("delay",),
    "I": ("r",),
    "IF": ("r", "v_threshold"),
    "Input": ("shape",),
    "LI": ("tau", "r"),
    "LIF": ("tau", "r", "v_threshold"),
    "Linear": ("weight",),
    "Output": ("shape",),
    "Scale": ("scale",),
    "SumPool2d": _POOLING,
    "Threshold": ("threshold",),
}
"""Parameters without which a node says nothing; where they are left out, `v_leak` and `v_reset` are 0, `w_in` is 1."""


def read_graph(source: Any) -> Graph:
    """Return a NIR file, or a `nir.NIRGraph` in memory, as a graph without nested graphs.

    Args:
        source: Path of an HDF5 file that `nir.write` made, an instance of `nir.NIRGraph`, or what its `to_dict`
            returns.

    Raises:
        ConfigError: There is no file of this name.
        NetworkError: It is no graph of NIR, a node lacks a parameter, an edge names a node that is not there or is
            there twice, or a nested graph has several inputs or outputs.
    """
    if isinstance(source, str | PathLike):
        content = _read_file(checked_source(source))
    elif isinstance(source, Mapping):
        content = dict(source)
    elif callable(getattr(source, "to_dict", None)):
        content = source.to_dict()
    else:
        raise NetworkError(
            f"from_nir was given {type(source).__name__}, which is neither the path of a NIR file nor a nir.NIRGraph. "
            "Give a path such as 'net.nir', or the graph that nir.read returns."
        )
    kind = _text(content.get("type")) if isinstance(content, Mapping) else None
    if not isinstance(kind, str) or kind != "NIRGraph":
        raise NetworkError(
            f"from_nir was given a node of type {kind}, but a network is a graph with an input and an output. Give "
            "nir.NIRGraph.from_list(node)."
        )
    return _laid_open(content, "")


def _laid_open(content: Mapping[str, Any], where: str) -> Graph:
    found_nodes, found_edges = content.get("nodes"), content.get("edges")
    shown = f"the graph '{where.removesuffix('.')}'" if where else "a graph"
    if not isinstance(found_nodes, Mapping):
        raise _no_graph(shown, "nodes", found_nodes, "nodes by name")
    graph = Graph({}, [], _metadata(shown, content))
    ends: dict[str, Edge] = {}  # where edges to and from a nested graph go
    for name, found in found_nodes.items():
        full = where + name
        kind = _text(found.get("type")) if isinstance(found, Mapping) else None
        if isinstance(kind, str) and kind == "NIRGraph":
            inner = _laid_open(found, f"{full}.")
            ends[full] = inner.only("Input"), inner.only("Output")
            for end in ends[full]:
                inner.nodes[end].kind = "Identity"
            graph.nodes.update(inner.nodes)
            graph.edges.extend(inner.edges)
        else:
            graph.nodes[full] = _node(full, kind, found)
    known = graph.nodes.keys() | ends.keys()
    for edge in _edges(shown, found_edges):
        source, target = (where + name for name in edge)
        for name in (source, target):
            if name not in known:
                raise NetworkError(
                    f"from_nir read an edge {edge[0]} -> {edge[1]}, but there is no node '{name}'{listed(known)}, "
                    "so what it connects is not known. Correct the edges of the file."
                )
        joined = ends[source][1] if source in ends else source, ends[target][0] if target in ends else target
        if joined in graph.edges:
            raise NetworkError(
                f"from_nir read the edge {source} -> {target} twice, but the edges of NIR are a set: the package nir "
                "refuses such a file, and readers that do not check count the edge once, where a sum has it twice. "
                "Leave one of them out; for twice the value, put a Scale node with 2 between them."
            )
        graph.edges.append(joined)
    return graph


def _node(name: str, kind: Any, found: Any) -> Node:
    if not isinstance(kind, str):
        raise _no_graph("a graph", f"nodes['{name}']", found, "a node: a dictionary with a type")
    values = {key: value for key, value in found.items() if key not in ("type", "metadata")}
    missing = [key for key in _NEEDED.get(kind, ()) if values.get(key) is None]
    if missing:
        raise NetworkError(
            f"from_nir read '{name}' ({kind}) without {', '.join(missing)}{listed(values)}, so that what it computes "
            "is not known. Write the file with the package nir, which asks for all of them."
        )
    for key, value in values.items():
        held = value.detach().cpu() if hasattr(value, "detach") else value
        numeric = key in (*_NEEDED.get(kind, ()), "v_leak", "v_reset", "w_in") and not (
            key == "padding" and isinstance(value, str)
        )
        if numeric and value is not None and np.asarray(held).dtype.kind not in "fiub":
            raise NetworkError(
                f"from_nir read '{name}' ({kind}) with {key} of {np.asarray(held).dtype}, which is no array of real "
                "numbers, so that no step can be computed with it. Correct the file where it was written."
            )
    return Node(kind, values, _metadata(f"'{name}' ({kind})", found))


def _metadata(shown: str, content: Mapping[str, Any]) -> dict[str, Any]:
    found = content.get("metadata")
    if found is None or found is dict:  # the default of nir.NIRGraph is the class
        return {}
    if not isinstance(found, Mapping):
        raise _no_graph(shown, "metadata", found, "texts and numbers by name")
    return dict(found)


def _no_graph(shown: str, key: str, found: object, expected: str) -> NetworkError:
    return NetworkError(
        f"from_nir read {shown} with {kind_of(found)} for {key}, which holds {expected}, so what was meant is not "
        "known. Give what nir.write wrote, a nir.NIRGraph, or what its to_dict returns."
    )


def _edges(shown: str, edges: Any) -> list[Edge]:
    """Return edges as pairs of names; a file without any holds an empty array."""
    pairs = [tuple(map(_text, pair)) for pair in edges] if isinstance(edges, Iterable) and _are_pairs(edges) else None
    if pairs is None:
        raise _no_graph(shown, "edges", edges, "pairs of names of nodes")
    return [(source, target) for source, target in pairs]


def _are_pairs(edges: Iterable[Any]) -> bool:
    if isinstance(edges, str | bytes | Mapping) or (isinstance(edges, np.ndarray) and not edges.ndim):
        return False
    pairs = list(edges)
    sized = all(isinstance(pair, list | tuple | np.ndarray) and len(pair) == 2 for pair in pairs)
    return sized and all(isinstance(_text(name), str) for pair in pairs for name in pair)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _read_file(path: Path) -> dict[str, Any]:
    """Return the content of a file; `nir.read` refuses valid grouped convolutions and kernels that are not square."""
    h5py = optional("h5py", "from_nir")

    def content(group: Any) -> dict[str, Any]:
        return {
            _text(key): content(item) if isinstance(item, h5py.Group) else _text(item[()])
            for key, item in group.items()
        }

    try:
        with h5py.File(path, "r") as file:
            found = content(file["node"]) if isinstance(file.get("node"), h5py.Group) else None
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        raise NetworkError(
            f"from_nir could not read {path} ({str(error).partition(chr(10))[0]}): files of NIR are HDF5, and this is "
            "another kind of file, or not whole. Give a file that to_nir or nir.write made."
        ) from error
    if found is None:
        raise NetworkError(
            f"from_nir read {path}, an HDF5 file without the group 'node', which holds the graph in files of NIR. "
            "Give a file that nir.write made."
        )
    return found
