"""A dispatch mode that follows which sources tensors depend on, and whether linearly."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from spikewright.dataflow.dependences import RANDOM, Bend, Dependences, bent, union
from spikewright.dataflow.exits import Exits
from spikewright.dataflow.schemas import Operator, operator
from spikewright.dataflow.storages import memory_of

_T = TypeVar("_T")
_NOTHING: Dependences = {}
_KNOWN = ("torch", __name__.partition(".")[0])


class Dataflow(TorchDispatchMode):
    """While active, follows which sources every tensor depends on, operation by operation.

    A tensor is linear in a source if it is a sum of parts that do not depend on the source and of the source times
    constants, which depend neither on another source nor on random numbers.  Gradients do not matter: a detached tensor
    depends on the same sources.  Parameters, buffers and numbers depend on nothing, so they are constants.

    Tensors with the same storage count as one, so a view depends on all that its base does.  Operators that are not
    known to be linear count as not linear.  Custom operators and code outside of torch are not followed: declare their
    results as sources, or they depend on all inputs, not linearly.

    Args:
        write: Called with tensors that are about to be written to.
        read: Called with tensors whose values are about to be read, and the name of the module that is running.

    Attributes:
        module: Name of the innermost module that is running; set by the caller.
        left: Places where Python received values that depend on a source, or shapes of tensors that do, or where values
            were read that no operation of torch has written ("empty").  Dependences of later results are unknown.
        random: Places where random numbers were drawn from the shared generator.
        hooked: Graph nodes of tensors with hooks on their gradients.
        cuts: Places where foreign code cut tensors from the graph, or computed with gradients off, so that gradients
            may differ from the derivatives.
        saved: Places where tensors saved for the backward pass go through hooks other than those of torch.

    >>> import torch
    >>> with Dataflow() as flow:
    ...     x = torch.ones(2, 3)
    ...     flow.source(x, "x")
    ...     y = (2 * x).sum(1) * (x[:, 0] > 0)
    ...     z = 2 * x
    >>> flow.depends(z)
    {'x': frozenset()}
    >>> sorted(bend.op for bend in flow.depends(y)["x"])
    ['gt', 'mul']
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        write: Callable[[Tensor], None] = lambda x: None,
        read: Callable[[Tensor, str], None] = lambda x, module: None,
    ) -> None:
        super().__init__()
        self._write, self._read = write, read
        self.module = ""
        self.left: list[Bend] = []
        self.random: list[Bend] = []
        self.hooked: list[Any] = []
        self.cuts: list[Bend] = []
        self.saved: list[Bend] = []
        self._known: dict[
            int, tuple[object, Dependences]
        ] = {}  # by storage, which is kept alive so that its id is not reused
        self._places: dict[int, int] = {}  # storages by address
        self._blank: dict[int, object] = {}
        self._aside = False
        self._exits: list[Exits] = []

    def __enter__(self) -> "Dataflow":
        self._exits.append(Exits(self._leave, self._hook, self._write, self._cut))
        self._exits[-1].__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._exits.pop().__exit__(*error)

    def source(self, x: Tensor, name: str, also: Dependences | None = None) -> None:
        """Declare that a tensor, with all of its storage, is a source; its former dependences are dropped.

        Args:
            x: The tensor.
            name: Name of the source.
            also: Further dependences of the tensor, as `depends` returns them.
        """
        key, storage = self._key(x)
        self._blank.pop(key, None)
        self._known[key] = storage, union({name: frozenset()}, also or {})

    def bend(self, x: Tensor, bend: Bend) -> None:
        """Declare that a tensor, with all of its storage, is not linear in its sources."""
        key, storage = self._key(x)
        if key in self._known:
            self._known[key] = storage, bent(self._known[key][1], bend)

    def depends(self, x: Tensor) -> Dependences:
        """Return the sources of a tensor by name, each with the places that make it not linear."""
        return dict(self._of(x, read=True, written=False))

    def _leave(self, op: str, values: Any) -> None:
        """Note a read of values by something other than an operator, if they depend on a source."""
        if self._aside:
            return
        self._tell(values)
        if any(self._of(x, read=True, written=False) for x in _tensors(values)):
            _add(self.left, Bend(op, self.module))

    def aside(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call a function of an observer without following it, and return its result."""
        outer, self._aside = self._aside, True
        try:
            return function(*args)
        finally:
            self._aside = outer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._aside:
            return func(*args, **kwargs)
        op = operator(func)
        if saved_through_hooks():
            _add(self.saved, Bend("saved_tensors_hooks", self.module))
        if op.composite:
            with self._again():
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        given = dict(zip(op.arguments, args), **kwargs) if op.arguments else {"all": _tensors((args, kwargs))}
        for x in _tensors([given.get(name) for name in op.written]):
            self._write(x)
        if not (op.views or op.made):
            self._tell([x for name, x in given.items() if name not in op.written])
        dependent = {} if op.made else self._dependent(op, given)
        if (dependent and not torch.is_grad_enabled()) or given.get("scale_grad_by_freq"):
            self._cut(op.name)
        if dependent and op.exits(given, dependent):
            _add(self.left, Bend(op.name, self.module))
        result = self.aside(partial(func, *args, **kwargs))
        if op.blank:
            self._blank.update(self._key(x) for x in _tensors(result) if x.numel())
        draws = op.draws(given)
        if draws and given.get("generator") is None:
            _add(self.random, Bend(op.name, self.module))
        if dependent or draws:
            self._settle(op, given, dependent, draws, result)
        return result

    def _cut(self, what: str) -> None:
        _add(self.cuts, Bend(what, self.module))

    def _tell(self, values: Any) -> None:
        """Report tensors whose values are about to be read, except by this mode itself."""
        for x in () if self._aside else _tensors(values):
            self.aside(self._read, x, self.module)

    def _hook(self, x: Tensor) -> None:
        self.hooked.append(x.grad_fn)

    def _dependent(self, op: Operator, given: Mapping[str, Any]) -> dict[str, Dependences]:
        """Return the dependences of the arguments of a call, without arguments that depend on nothing."""
        dependent: dict[str, Dependences] = {}
        for name, value in given.items():
            if isinstance(value, Tensor):
                found = self._of(value, read=not op.views and name not in op.written, written=name in op.written)
            elif isinstance(value, list | tuple):
                found = _NOTHING
                for x in _tensors(value):
                    found = union(found, self._of(x, read=True, written=name in op.written))
            else:
                continue
            if found and name not in op.unread:
                dependent[name] = found
        return dependent

    def _of(self, x: Tensor, read: bool, written: bool) -> Dependences:
        key, _ = self._key(x)
        if self._blank and key in self._blank:
            if written:
                del self._blank[key]
            elif read:
                _add(self.left, Bend("empty", self.module))
        known = self._known.get(key)
        return _NOTHING if known is None else known[1]

    def _settle(
        self, op: Operator, given: Mapping[str, Any], dependent: Mapping[str, Dependences], draws: bool, result: Any
    ) -> None:
        """Set the dependences of the results of a call."""
        linear = not draws and op.is_linear(given, dependent)
        flows = self._formula(op, dependent) if linear else self._curved(op, dependent, draws)
        moved = {x.dtype for name in dependent for x in _tensors(given[name])} if op.copies else ()
        for x in _tensors(result) + [x for name in op.written for x in _tensors(given.get(name))]:
            after = flows
            if linear and not (x.dtype.is_floating_point or x.dtype.is_complex or moved == {x.dtype}):
                after = self._curved(op, dependent, draws)
            key, storage = self._key(x)
            before = self._known.get(key)
            self._known[key] = storage, after if before is None else union(before[1], after)

    def _formula(self, op: Operator, dependent: Mapping[str, Dependences]) -> Dependences:
        flows = _NOTHING
        for term in op.terms or ():
            factors = [dependent[name] for name in term if name in dependent]
            product = union(_NOTHING, *factors)
            flows = union(flows, product if len(factors) < 2 else bent(product, Bend(op.name, self.module)))
        return flows

    def _curved(self, op: Operator, dependent: Mapping[str, Dependences], draws: bool) -> Dependences:
        every = union({RANDOM: frozenset()} if draws else _NOTHING, *dependent.values())
        return bent(every, Bend(op.name, self.module)) if dependent else every

    def _key(self, x: Tensor) -> tuple[int, object]:
        """Return a key for the storage of a tensor, valid as long as the second value is alive.

        Storages of the same memory (of a tensor that went through an array, or DLPack) have the same key.
        """
        memory = self.aside(memory_of, x)
        if memory is None:
            return id(x), x
        storage, place = memory
        key = storage._cdata
        if place and key not in self._known:
            other: Any = self._places.get(place, key)
            same: Any = self._known.get(other, (None,))[0]
            if same is not None and same.data_ptr() == place:  # unless that has been given other memory
                return other, same
        self._places[place] = key
        return key, storage

    @contextmanager
    def _again(self) -> Iterator[None]:
        """Activate this mode inside its own handler."""
        super().__enter__()
        try:
            yield
        finally:
            super().__exit__(None, None, None)


def saved_through_hooks() -> bool:
    """True if tensors saved for the backward pass go through foreign hooks, which may change them.

    Hooks of torch and of this library, which count bytes, do not count.
    """
    if torch.compiler.is_compiling():  # which takes no notice of them
        return False
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True) or ()  # type: ignore[attr-defined]
    return not all(str(getattr(hook, "__module__", "")).partition(".")[0] in _KNOWN for hook in hooks)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [x for part in value for x in _tensors(part)] if isinstance(value, list | tuple) else []


def _add(places: list[Bend], place: Bend) -> None:
    if place not in places:
        places.append(place)
