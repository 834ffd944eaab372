"""What is not read is refused, with the name of the node and a way out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikewright.errors import ConfigError, NetworkError
from spikewright.interop.nir import from_nir
from tests.interop.nir.graphs import Content, affine, cuba, graph, integrate, leaky, lif, node, written

DT = 1e-3


def with_node(content: Content) -> Content:
    return graph(4, 4, {"n": content})


def of(size: int, **changes: Any) -> Content:
    return {**lif(size), **changes}


NODES: dict[str, tuple[Content, str]] = {
    "LI": (leaky(4, v_leak=0.5), "'n' .LI. with v_leak 0.5: its potential is its output"),
    "CubaLI": (cuba("CubaLI", 4, v_leak=-0.5), "'n' .CubaLI. with v_leak -0.5: its potential is its output"),
    "CubaLIF": (cuba("CubaLIF", 4, v_reset=-0.5), "'n' .CubaLIF. with v_leak 0 and v_reset -0.5"),
    "tau_syn": (cuba("CubaLIF", 4, tau_syn=1e-4), "'n' .CubaLIF. with tau_syn 0.0001: tau_syn/dt is 0.1 steps"),
    "tau_mem": (cuba("CubaLI", 4, tau_mem=-1.0), "'n' .CubaLI. with tau_mem -1, but a time constant is a positive"),
    "w_in": (cuba("CubaLIF", 4, w_in=np.nan), "'n' .CubaLIF. with w_in nan"),
    "unknown": (node("Sigmoid"), "'n' of type Sigmoid, which is no type .* Leaving it out would change"),
    "thresholds": (of(4, v_threshold=np.arange(4.0)), "a threshold of from 0 to 3 and a reset to 0: .* fires without"),
    "resets": (of(4, v_reset=np.full(4, -0.5)), "v_leak 0 and v_reset -0.5: a potential decays towards one value"),
    "low": (of(4, v_threshold=np.zeros(4)), "a threshold of 0 and a reset to 0: .* fires without input"),
    "negative_tau": (of(4, tau=-np.ones(4)), "tau -1, but a time constant is a positive number"),
    "endless_tau": (of(4, tau=np.full(4, np.inf)), "with tau inf, which no step .* without leak is an IF node"),
    "no_weight": (node("Linear", weight=np.full((4, 4), np.nan)), "'n' .Linear. with weight nan"),
    "short_tau": (
        of(4, tau=np.full(4, 5e-6)),
        "tau/dt is 0.005 steps, below 1, .* Norse 1.1 .* is read with dt = 1e-06",
    ),
    "part_of_a_step": (node("Delay", delay=np.full(4, 1.5e-3)), "delays of 1.5 to 1.5 steps, .* whole number"),
    "before": (node("Delay", delay=np.full(4, -1e-3)), "delays of -1 to -1 steps"),
    "several_matrices": (node("Linear", weight=np.ones((2, 4, 4))), r"a weight of shape \[2, 4, 4\]"),
}


@pytest.mark.parametrize("name", NODES)
def test_a_node_without_an_equal_is_refused_by_its_name(name: str) -> None:
    content, message = NODES[name]
    with pytest.raises(NetworkError, match=message):
        from_nir(with_node(content), dt=DT)


def changed(change: Callable[[Content], object]) -> Content:
    content = graph(5, 3, {"a": affine(8, 5), "b": lif(8), "c": affine(3, 8), "d": integrate(3)})
    change(content)
    return content


def cut(edge: tuple[str, str]) -> Callable[[Content], object]:
    return lambda content: content["edges"].remove(edge)


def added(*edges: tuple[str, str], **nodes: Content) -> Callable[[Content], object]:
    return lambda content: (content["nodes"].update(nodes), content["edges"].extend(edges))


GRAPHS: dict[str, tuple[Content, str]] = {
    "nothing_leads_there": (changed(cut(("b", "c"))), "'a' .Affine., which does not lead to 'output'. .* lose edges"),
    "leads_nowhere": (changed(added(("b", "e"), e=affine(2, 8))), "'e' .Affine., which does not lead to 'output'"),
    "no_such_node": (changed(added(("b", "x"))), "an edge b -> x, but there is no node 'x'"),
    "two_inputs": (
        changed(added(("more", "a"), more=node("Input", shape=np.array([5])))),
        "2 Input nodes .input, more.",
    ),
    "two_outputs": (changed(added(("d", "more"), more=node("Output", shape=np.array([3])))), "2 Output nodes"),
    "size": (
        changed(lambda content: content["nodes"].update(b=lif(7))),
        r"'b' is declared for \[7\] and receives \[8\]",
    ),
    "input_size": (changed(lambda content: content["nodes"].update(a=affine(8, 6))), r"'a' .* does not take \[5\]"),
    "sum": (changed(added(("input", "d"))), r"'d' adds up \[3\] and \[5\]"),
    "no_neuron_in_loop": (
        changed(added(("c", "e"), ("e", "c"), e=affine(8, 3))),
        "is in a loop without a neuron, so its value at a step would depend on itself",
    ),
    "no_graph": (lif(3), "a node of type LIF, but a network is a graph"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_contradicts_itself_is_refused(name: str) -> None:
    content, message = GRAPHS[name]
    with pytest.raises(NetworkError, match=message):
        from_nir(content, dt=DT)


def test_a_loop_that_says_nothing_of_who_comes_first_is_refused() -> None:
    nodes = {"a": lif(4), "b": lif(4), "v": affine(4, 4, 1), "w": affine(4, 4, 2)}
    content = graph(4, 4, nodes, "input a,input b,a v,v b,b w,w a,a output,b output")
    with pytest.raises(
        NetworkError, match=r"'a' and 'b' .* equally near to the input, .* Put a Delay node of one step"
    ):
        from_nir(content, dt=DT)
    nodes["d"] = node("Delay", delay=np.full(4, DT))
    from_nir(graph(4, 4, nodes, "input a,input b,a v,v b,b d,d w,w a,a output,b output"), dt=DT)


def test_biases_on_both_sides_of_a_delay_in_a_loop_are_refused() -> None:
    nodes = {"n": lif(4), "v": affine(4, 4, 1), "d": node("Delay", delay=np.full(4, DT)), "w": affine(4, 4, 2)}
    content = graph(4, 4, nodes, "input n,n v,v d,d w,w n,n output")
    with pytest.raises(
        NetworkError, match="a loop from 'n' to 'n' with a bias in front of a Delay node and one behind"
    ):
        from_nir(content, dt=DT)


def test_ways_back_that_join_are_refused() -> None:
    nodes = {"n": lif(4), "v": affine(4, 4, 1), "u": affine(4, 4, 3), "w": affine(4, 4, 2)}
    content = graph(4, 4, nodes, "input n,n v,n u,v w,u w,w n,n output")
    with pytest.raises(NetworkError, match="'w' adds up several ways back from 'n'"):
        from_nir(content, dt=DT)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "dt=None.* NIR has no field for it"),
        ({"dt": 0.0}, "dt"),
        ({"dt": "1e-3"}, "dt"),
        ({"dt": DT, "decay": "heun"}, "decay='heun'"),
        ({"dt": DT, "reset": "soft"}, "reset='soft'"),
        ({"dt": DT, "comparison": "="}, "comparison='='"),
    ],
)
def test_arguments_are_checked(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_nir(with_node(lif(4)), **how)


def test_what_is_no_file_of_nir_is_refused(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("weights", data=np.ones(3))
    with pytest.raises(NetworkError, match="without the group 'node'"):
        from_nir(tmp_path / "other.h5", dt=DT)
    with pytest.raises(NetworkError, match="was given int, which is neither"):
        from_nir(3, dt=DT)
    inner = graph(4, 4, {"n": lif(4)})
    inner["nodes"]["more"] = node("Input", shape=np.array([4]))
    inner["edges"].append(("more", "n"))
    with pytest.raises(NetworkError, match="2 Input nodes"):
        from_nir(written(graph(4, 4, {"inner": inner}), tmp_path / "g.nir"), dt=DT)
