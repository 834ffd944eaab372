"""Graphs as dictionaries, in the form of `nir.NIRGraph.to_dict`, and files of them."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

Content = dict[str, Any]


def node(kind: str, **values: Any) -> Content:
    return {"type": kind, **values}


def lif(
    size: int | tuple[int, ...], tau: float = 5e-3, r: float = 1.0, threshold: float = 0.5, **more: float
) -> Content:
    values = {"tau": tau, "r": r, "v_threshold": threshold, "v_leak": 0.0, "v_reset": 0.0, **more}
    return node("LIF", **{key: np.full(size, value) for key, value in values.items()})


def integrate(size: int | tuple[int, ...], r: float = 1e3, threshold: float = 1.0, reset: float = 0.0) -> Content:
    values = {"r": r, "v_threshold": threshold, "v_reset": reset}
    return node("IF", **{key: np.full(size, value) for key, value in values.items()})


def cuba(kind: str, size: int | tuple[int, ...], **more: Any) -> Content:
    """Return a CubaLIF or CubaLI with w_in, r and both time constants away from 1 and from each other."""
    values = {"tau_syn": 2e-3, "tau_mem": 7e-3, "r": 1.7, "w_in": 2.3, "v_leak": 0.0}
    values |= {"v_threshold": 0.6, "v_reset": 0.0} if kind == "CubaLIF" else {}
    return node(kind, **{key: np.zeros(size) + value for key, value in {**values, **more}.items()})


def leaky(size: int | tuple[int, ...], tau: Any = 6e-3, r: Any = 1.3, **more: Any) -> Content:
    return node("LI", **{key: np.zeros(size) + v for key, v in {"tau": tau, "r": r, "v_leak": 0.0, **more}.items()})


def affine(out: int, size: int, seed: int = 0, bias: bool = True, scale: float = 1.0) -> Content:
    draws = np.random.default_rng(seed)
    weight = scale * draws.standard_normal((out, size))
    return node("Affine", weight=weight, bias=draws.standard_normal(out)) if bias else node("Linear", weight=weight)


def conv2d(out: int, channels: int, kernel: Any, seed: int = 0, **more: Any) -> Content:
    draws = np.random.default_rng(seed)
    values = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "input_shape": None, **more}
    weight = draws.standard_normal((out, channels // values["groups"], *np.atleast_1d(kernel)))
    return node(f"Conv{weight.ndim - 2}d", weight=weight, bias=draws.standard_normal(out), **values)


def graph(shape: Any, output: Any, nodes: dict[str, Content], edges: str | None = None) -> Content:
    """Return a graph; edges are "a b" pairs separated by commas, or by default a chain in the given order."""
    ends = {"input": node("Input", shape=np.atleast_1d(shape)), "output": node("Output", shape=np.atleast_1d(output))}
    chain = ["input", *nodes, "output"]
    pairs = list(pairwise(chain)) if edges is None else [tuple(pair.split()) for pair in edges.split(",")]
    return node("NIRGraph", nodes={**nodes, **ends}, edges=pairs)


def written(content: Content, path: Path) -> Path:
    """Write a graph with the package nir, without its check of shapes."""
    import nir

    made = _made(nir, content)
    nir.write(path, made)
    return path


def _made(nir: Any, content: Content) -> Any:
    kind, values = content["type"], {key: value for key, value in content.items() if key != "type"}
    if kind == "NIRGraph":
        nodes = {name: _made(nir, inner) for name, inner in values["nodes"].items()}
        return nir.NIRGraph(nodes, list(values["edges"]), metadata=values.get("metadata", {}), type_check=False)
    if kind in ("Input", "Output"):
        return getattr(nir, kind)(np.asarray(values["shape"]))
    if kind.startswith("Conv"):
        values["input_shape"] = 1 if kind == "Conv1d" else (1, 1)
    if kind == "Flatten":
        values["input_type"] = {"input": np.asarray(values["input_type"])}
    return getattr(nir, kind)(**values)
