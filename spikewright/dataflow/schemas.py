"""Properties of operators of torch, from their schemas and the table of linear operators."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator, OpOverload

from spikewright.dataflow.linear_ops import COPIES, EXCEPT, ONLY_IF, SUMS

_FORMULAS = COPIES | SUMS

# Depend on the shapes of their arguments only.
_MADE = set(
    """
    empty_like full_like ones_like zeros_like rand_like randn_like randint_like
    new_empty new_empty_strided new_full new_ones new_zeros
    """.split()
)
_BLANK = {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"}
_WRITE_UNDECLARED: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"), ("running_mean", "running_var")
)
_OFF = ("dropout_p", "p", "train", "training")  # arguments of random operators that turn them off
_METADATA = set(
    """
    dense_dim dim is_coalesced is_complex is_contiguous is_non_overlapping_and_dense is_pinned is_same_size
    is_strides_like_format numel size sparse_dim storage_offset stride sym_is_contiguous sym_numel sym_size
    sym_storage_offset sym_stride
    """.split()
)
_READABLE = {"_local_scalar_dense": "item", "_to_copy": "to"}
_PREFIXES, _SUFFIXES = ("_", "native_"), ("_backward", "_with_indices", "_legit", "_legit_no_training", "_for_cpu")


@dataclass(frozen=True)
class Operator:
    """Properties of an operator that matter to dataflow.

    Attributes:
        name: Usual name.
        arguments: Names of the arguments, in order.
        defaults: Default values, by name of the argument.
        written: Arguments that are written to.
        unread: Arguments that are written to without being read (`out=`).
        terms: Formula: products, each a tuple of arguments.  `None`: the operator is not linear.
        entering: All arguments in the formula.
        condition: Condition on the other arguments under which the formula holds.
        copies: True if it moves entries and computes nothing.
        made: True if the result depends on no entries of the arguments.
        blank: True if the result has no values yet.
        views: True if the result is a view of an argument.
        random: True if it draws random numbers, unless its arguments turn that off.
        leaves: True if the result is not a tensor, or a tensor whose shape depends on entries.
        composite: True if it can be decomposed into other operators.
    """

    name: str
    arguments: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    written: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()
    terms: tuple[tuple[str, ...], ...] | None = None
    entering: frozenset[str] = frozenset()
    condition: Callable[[Callable[[str], Any]], bool] | None = None
    copies: bool = False
    made: bool = False
    blank: bool = False
    views: bool = False
    random: bool = False
    leaves: bool = False
    composite: bool = False

    def is_linear(self, given: Mapping[str, Any], dependent: Mapping[str, Any]) -> bool:
        """True if the formula holds in a call, and covers all arguments that depend on a source."""
        if self.terms is None or not dependent.keys() <= self.entering:
            return False
        return self.condition is None or self.condition(lambda name: given.get(name, self.defaults.get(name)))

    def draws(self, given: Mapping[str, Any]) -> bool:
        """True if a call draws random numbers."""
        if not self.random:
            return False
        settings = [given.get(name, self.defaults.get(name)) for name in _OFF]
        return not any(type(x) in (bool, int, float) and x == 0 for x in settings)

    def exits(self, given: Mapping[str, Any], dependent: Mapping[str, Any]) -> bool:
        """True if Python sees entries, in a call, of arguments that depend on a source."""
        if not self.leaves or self.name != "index":
            return self.leaves
        marks = given["indices"] if "indices" in dependent else ()
        return any(isinstance(m, Tensor) and m.dtype in (torch.bool, torch.uint8) for m in marks)


@functools.cache
def operator(func: OpOverload | HigherOrderOperator) -> Operator:
    """Return the properties of an operator."""
    if not isinstance(func, OpOverload):  # takes functions; has no schema
        return Operator(name=func.name())
    schema = func._schema
    namespace, _, packet = schema.name.partition("::")
    base = packet if packet in _FORMULAS or packet.startswith("__") else packet.removesuffix("_")
    overload = f"{base}.{schema.overload_name}"
    formula = _FORMULAS.get(base) if namespace == "aten" and overload not in EXCEPT else None
    written = [a for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    tensors = not schema.returns or any("Tensor" in str(r.type) for r in schema.returns)
    random = torch.Tag.nondeterministic_seeded in func.tags or any(a.name == "generator" for a in schema.arguments)
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    terms = None if formula is None else tuple(tuple(term.split("*")) for term in formula.split(" + "))
    return Operator(
        name=_readable(base) if namespace == "aten" else f"{namespace}.{packet}",
        arguments=tuple(a.name for a in schema.arguments),
        defaults={a.name: a.default_value for a in schema.arguments if a.has_default_value()},
        written=(*(a.name for a in written), *(_WRITE_UNDECLARED.get(base, ()) if namespace == "aten" else ())),
        unread=frozenset(a.name for a in written if a.kwarg_only),
        terms=terms,
        entering=frozenset(name for term in terms or () for name in term),
        condition=ONLY_IF.get(base),
        copies=base in COPIES,
        made=namespace == "aten" and base in _MADE,
        blank=namespace == "aten" and base in _BLANK,
        views=func.is_view,
        random=random,
        leaves=torch.Tag.dynamic_output_shape in func.tags or not (tensors or base in _METADATA),
        composite=func.has_kernel_for_dispatch_key(key),
    )


def _readable(name: str) -> str:
    """Return the usual name of an operator.

    >>> _readable("max_pool2d_with_indices"), _readable("native_layer_norm"), _readable("_to_copy")
    ('max_pool2d', 'layer_norm', 'to')
    """
    name = _READABLE.get(name, name)
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name
