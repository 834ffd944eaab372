"""The ranges that docstrings state, and values inside and outside of them.

A range is read from the entry of an argument: "in [0, 1)", "from 1 to 10**6", "at least 1", "> 0" or "any finite
number". The type comes from the signature.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st

from spikewright.neurons import Neuron
from spikewright.rules import Traits
from tests.core.test_docstrings import docstring, entries, kinds, parameters

_NUMBER = r"[-+]?(?:\d+\*\*\d+|\d+(?:\.\d+)?(?:e[-+]?\d+)?|inf)(?: - 1)?"
_FORMS: list[tuple[str, Callable[..., tuple[str, str, str, str]]]] = [
    (rf"\bin ([\[(])({_NUMBER}), ({_NUMBER})([\])])", lambda a, low, high, b: (a, low, high, b)),
    (rf"\bfrom ({_NUMBER}) to ({_NUMBER})", lambda low, high: ("[", low, high, "]")),
    (rf"(?:\bat least|>=) ({_NUMBER})", lambda low: ("[", low, "inf", ")")),
    (rf"(?:\babove|>) ({_NUMBER})", lambda low: ("(", low, "inf", ")")),
    (rf"\bany finite number below ({_NUMBER})", lambda high: ("(", "-inf", high, ")")),
    (r"\bany (?:finite number|integer)\b()", lambda _: ("(", "-inf", "inf", ")")),
]
ODD: list[Any] = [math.nan, math.inf, -math.inf, -1, 0, 10**12, 10**400, -(10**400), 0.5, 1j, "1", "nan", "", b"1"]
"""What is tried on every number, beside what is drawn; each is inside of some ranges."""


@dataclass(frozen=True)
class Argument:
    """What an argument may be: `types` of its signature, and the interval of its numbers."""

    name: str
    types: tuple[Any, ...]
    interval: tuple[str, str, str, str] | None
    element: type | None
    default: Any
    nonzero: bool = False

    @property
    def number(self) -> type | None:
        """Type of its numbers, alone or in a sequence."""
        return self.element or next((kind for kind in (float, int) if kind in self.types), None)

    def holds(self, value: Any) -> bool:
        """Whether a number is in the range, and of the type."""
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            return False
        if self.nonzero and value == 0:
            return False
        if self.number is int and not isinstance(value, int):
            return False
        assert self.interval is not None
        left, low, high, right = self.interval
        bottom, top = _number(low), _number(high)
        try:
            float(value)
        except OverflowError:
            if self.number is float or high != "inf" or value < 0 > bottom:
                return self.number is int and bottom == -math.inf
        above = value >= bottom if left == "[" else value > bottom
        return above and (value <= top if right == "]" else value < top)

    def inside(self, most: float = 4) -> st.SearchStrategy[Any]:
        """Values in the range, small enough to be built at once."""
        assert self.interval is not None
        low, high = map(_number, (self.interval[1], self.interval[2]))
        bottom, top = max(low, -most), min(high, max(low, 0) + most)
        if self.number is int:
            return st.integers(int(bottom), int(top)).filter(self.holds)
        return st.floats(bottom, top, allow_subnormal=False).filter(self.holds)

    def outside(self) -> Iterator[Any]:
        """Values out of the range, and of other types."""
        yield from (value for value in ODD if not self.holds(value) and not self._may_be(value))
        assert self.interval is not None
        for end in map(_number, (self.interval[1], self.interval[2])):
            if math.isfinite(end):
                step = 1 if self.number is int else 1e-3
                near = (end - step, end, end + step)
                yield from (v for v in (map(int, near) if self.number is int else near) if not self.holds(v))
        yield True
        if self.number is int:
            yield 1.5
        if type(None) not in self.types:
            yield None

    def _may_be(self, value: Any) -> bool:
        """Whether a value fits another of the types, such as a size in text."""
        return isinstance(value, str) and str in self.types and bool(re.fullmatch(r"\d+ ?[KMG]?i?B", value))


def arguments(item: Any) -> Iterator[Argument]:
    """Yield what the signature and the docstring say of every number, flag and choice of a class or function."""
    documented = entries(docstring(item), "Args:", "Attributes:")
    for name, parameter in parameters(item).items():
        types = tuple(kinds(item, parameter))
        element = next((found for kind in types if (found := _element(kind)) is not None), None)
        choices = any(get_origin(kind) is Literal for kind in types)
        if not (element or choices or {bool, int, float} & set(types)) or name == "inplace":
            continue
        entry = documented.get(name, "")
        for other in parameters(item).values():
            if isinstance(other.default, int | float) and other.name != name:
                entry = re.sub(rf"(?<=[ (\[`]){other.name}\b", str(other.default), entry)
        yield Argument(name, types, stated(entry), element, parameter.default, "but 0" in entry)


def stated(entry: str) -> tuple[str, str, str, str] | None:
    """Return the interval that an entry states: bracket, ends, bracket.

    >>> stated("Share of the noise.  In [0, 1).  Default: 0.5.")
    ('[', '0', '1', ')')
    """
    entry = entry.partition("Default:")[0].replace("`", "")
    found = [
        (match.start(), interval(*match.groups()))
        for form, interval in _FORMS
        if (match := re.search(form, entry, re.IGNORECASE))
    ]
    return min(found, key=lambda one: one[0])[1] if found else None


def _number(text: str) -> float:
    """Return what a number in a docstring stands for; whole ones exactly.

    >>> _number("2**63 - 1") == 2**63 - 1, _number("0.5")
    (True, 0.5)
    """
    power, _, less = text.partition(" - ")
    base, _, exponent = power.partition("**")
    value = int(base) ** int(exponent) if exponent else float(base)
    whole = math.isfinite(value) and value == value // 1
    return (int(value) if whole else value) - int(less or 0)


def _element(kind: Any) -> type | None:
    """Return `int` or `float` for a sequence of such, of any length or of some."""
    if get_origin(kind) not in (tuple, Sequence):
        return None
    inner = [part for part in get_args(kind) if part is not ...]
    if set(inner) == {int} or set(inner) == {float}:
        return inner[0]
    return None


def concrete(item: Any) -> Any:
    """Return a class to make objects of: an abstract one with its methods left empty."""
    if item is Neuron:
        return type("Halving", (Neuron,), {"leak": 0.5})
    if not inspect.isclass(item) or not inspect.isabstract(item):
        return item
    methods: dict[str, Any] = {name: lambda *_, **__: None for name in item.__abstractmethods__}
    if "traits" in item.__annotations__:
        methods["traits"] = Traits("any", False, "own", "constant")
    return type(item.__name__, (item,), methods)
