"""The operations of a forward as a NIR graph, recorded while a module runs on a batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from spikewright.errors import NetworkError
from spikewright.interop.nir.graph import Graph, Node

Sources = tuple[str, ...]
"""Nodes whose outputs a tensor is the sum of."""
Handler = Callable[["Trace", Any, tuple[Any, ...], dict[str, Any]], Any]


class Trace(TorchFunctionMode):
    """While active, records what is done to the tensors that depend on the input.

    Every operation either becomes a node, or an edge, or is one that changes nothing, or is refused by its name:
    nothing is left out.

    Args:
        handlers: Handlers of operations, by function of torch.

    Attributes:
        graph: The nodes and edges so far.
        inside: Names of the modules that are running, the innermost last.
    """

    def __init__(self, handlers: dict[Any, Handler]) -> None:
        super().__init__()
        self.graph = Graph({}, [])
        self.inside: list[str] = []
        self._handlers = handlers
        self._of: dict[int, tuple[Tensor, Sources]] = {}
        self._paused = False

    def sources(self, x: object) -> Sources | None:
        """Return the nodes that a tensor is the sum of; None if it does not depend on the input."""
        found = self._of.get(id(x))
        return found[1] if found else None

    def mark(self, x: Tensor, sources: Sources) -> Tensor:
        """Note what a tensor is the sum of, and return it."""
        self._of[id(x)] = x, sources
        return x

    def node(self, kind: str, values: dict[str, Any], sources: Sources, name: str = "", site: str = "") -> str:
        """Add a node with edges from its sources, and return its name, made unique."""
        base = (name or (self.inside[-1] if self.inside else "") or kind.lower()).replace(".", "_") or kind.lower()
        name, count = base, 1
        while name in self.graph.nodes:
            count += 1
            name = f"{base}_{count}"
        self.graph.nodes[name] = Node(kind, values, {}, site)
        self.join(sources, name)
        return name

    def join(self, sources: Sources, target: str) -> None:
        """Add edges; several from one node go through a Scale node, because an edge counts once."""
        for source in dict.fromkeys(sources):
            count = sources.count(source)
            if count > 1:
                source = self.scaled((source,), float(count), self.shape(source), f"{source}_times_{count}")
            self.graph.edges.append((source, target))

    def scaled(self, sources: Sources, factor: Any, shape: Any, name: str = "") -> str:
        """Add a Scale node of the shape of a sample."""
        factors = torch.as_tensor(factor, dtype=torch.float64).expand(tuple(shape)).clone().numpy()
        return self.node("Scale", {"scale": factors}, sources, name)

    def start(self, x: Tensor) -> Tensor:
        """Return the input of a graph, marked as its Input node."""
        name = self.node("Input", {"shape": list(x.shape[1:])}, (), "input")
        self.graph.nodes[name].metadata["shape"] = list(x.shape[1:])
        return self.mark(x.clone(), (name,))

    def end(self, output: object) -> None:
        """Add the Output node."""
        sources = self.sources(output)
        if sources is None or not isinstance(output, Tensor):
            parts = f" of {len(output)}" if isinstance(output, tuple | list | dict) else ""
            raise self.refuse(
                f"an output of type {type(output).__name__}{parts} that is no recorded result of the input",
                "a graph has one output tensor, which operations compute from its input",
                "Return one tensor that depends on the input.",
            )
        self.node("Output", {"shape": list(output.shape[1:])}, sources, "output")

    def shape(self, name: str) -> Any:
        """Return the shape of the output of a node, `[*feature]`."""
        return self.graph.nodes[name].metadata["shape"]

    def output(self, kind: str, values: dict[str, Any], x: object, y: Tensor, site: str = "") -> Tensor:
        """Add a node that makes `y` of `x`."""
        sources = self.sources(x)
        assert sources is not None
        name = self.node(kind, values, sources, site=site)
        self.graph.nodes[name].metadata["shape"] = list(y.shape[1:])
        return self.mark(y, (name,))

    def check_alone(self, x: Tensor) -> None:
        """Raise `NetworkError` if a tensor that is written to shares its memory with another recorded one."""
        memory = x.untyped_storage().data_ptr()
        for other, _ in self._of.values():
            if other is not x and other.untyped_storage().data_ptr() == memory:
                raise self.refuse(
                    "an operation in place on a tensor of which there is a view",
                    "it changes both, and a graph has no memory that nodes share",
                    "Write it without the underscore: y = x + z.",
                )

    def refuse(self, what: str, why: str, way: str) -> NetworkError:
        """Return the error for something that NIR cannot say."""
        where = f" in the forward of '{self.inside[-1]}'" if self.inside and self.inside[-1] else ""
        return NetworkError(f"to_nir found {what}{where}: {why}. {way}")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Compute without recording."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._paused or not any(self.sources(leaf) is not None for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        handler = self._handlers.get(func)
        if handler is None:
            raise self.refuse(
                f"the operation {name_of(func)}",
                "it has no node in NIR, and an exported graph without it would compute something else",
                "Take it out of the forward, or put it in front of or behind the exported part.",
            )
        with self.paused():
            return handler(self, func, args, kwargs)


def name_of(func: Any) -> str:
    """Return the name of a function of torch, as users write it."""
    found = resolve_name(func) or getattr(func, "__name__", str(func))
    return found.removeprefix("torch.functional.").replace("torch._C._nn.", "torch.nn.functional.")
