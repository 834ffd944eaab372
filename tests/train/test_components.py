"""What a configuration names is looked up, its arguments are compared with the signature, and then it is built."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, Optional

import pytest
import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.surrogate import ATan, Surrogate
from spikewright.train import components as c
from spikewright.train.components import as_table, choose, construct, defaults, options

SLOPE = ATan()


class Part:
    """Remembers what it was made with."""

    def __init__(self, params: list[int], size: int = 1, rate: float = 0.5, surrogate: Surrogate = SLOPE) -> None:
        if size < 0:
            raise ValueError("size is negative")
        self.made = (params, size, rate, surrogate)


PARTS: c.Choices = {"part": Part}


def test_positions_come_from_the_program_and_the_rest_from_the_table() -> None:
    part = construct("part", PARTS, {"name": "part", "size": 3, "surrogate": "triangle"}, [7])
    assert part.made[:3] == ([7], 3, 0.5)
    assert type(part.made[3]).__name__ == "Triangle"


def test_names_are_looked_up_without_regard_to_case() -> None:
    assert choose("part", PARTS, "Part") is Part
    with pytest.raises(ConfigError, match=r"part.name = 'prat' is unknown. Did you mean 'part'"):
        choose("part", PARTS, "prat")


def test_arguments_of_the_program_are_not_the_configurations() -> None:
    assert list(options(Part)) == ["size", "rate", "surrogate"]
    for key in ("params", "sise"):
        with pytest.raises(ConfigError, match=rf"part.{key} is not an argument of Part.*rate, size, surrogate"):
            construct("part", PARTS, {"name": "part", key: 1}, [])
    with pytest.raises(ConfigError, match=r"part.rate is not an argument"):
        construct("part", PARTS, {"name": "part", "rate": 1.0}, [], rate=0.5)


def test_what_a_constructor_refuses_is_told() -> None:
    with pytest.raises(ConfigError, match=r"part = part could not be built with {'size': -1}: size is negative"):
        construct("part", PARTS, {"name": "part", "size": -1}, [])
    with pytest.raises(ConfigError, match=r"part = part could not be built.*missing 1 required positional"):
        construct("part", PARTS, {"name": "part"})


def test_defaults_are_filled_in_as_plain_values() -> None:
    filled = {"name": "part", "size": 4, "rate": 0.5, "surrogate": {"name": "atan", "alpha": 2.0, "factor": 1.0}}
    assert defaults("part", PARTS, {"name": "part", "size": 4}) == filled
    found = defaults("part", PARTS, {"name": "part", "surrogate": {"name": "sigmoid", "alpha": 1.0}})
    assert found["surrogate"] == {"name": "sigmoid", "alpha": 1.0, "factor": 1.0}
    assert defaults("model", c.MODELS, {"name": "mlp"}) == {
        "name": "mlp",
        "hidden": [256],
        "bias": True,
        "init": "spikes",
    }
    assert defaults("loss", c.LOSSES, {"name": "on_rate"})["criterion"]["name"] == "cross_entropy"


def test_the_short_form_of_a_component_is_its_name() -> None:
    assert as_table("part", "atan") == {"name": "atan"}
    given = {"name": "atan"}
    assert as_table("part", given) == given and as_table("part", given) is not given


def takes(hint: Any) -> c.Choices:
    def part(value: Any) -> Any:
        return value

    part.__annotations__ = {"value": hint}
    return {"part": part}


FITS: list[tuple[Any, Sequence[Any], Sequence[Any]]] = [
    (int, [0, -1], [True, 1.0, "1", None, [1]]),
    (float, [0.5, 1, -1], [True, "1", None, [1.0]]),
    (bool, [True, False], [0, 1, "true", None]),
    (str, ["a", ""], [1, True, None, ["a"]]),
    (int | None, [1, None], [1.0, "none", True]),
    (Optional[float], [1, None, 0.5], ["none", True]),  # noqa: UP045  (libraries still write it so)
    (Literal["a", "b"], ["a", "b"], ["c", 1, None]),
    (Literal["onehot"] | float, ["onehot", 1.0], ["two", None]),
    (tuple[int, ...], [[1, 2], (1,)], [1, "12", None]),
    (tuple, [[1]], [1, "12"]),
    (float | Tensor, [1.0, 1], ["1", True, None]),
    (float | Sequence[float] | Tensor, [1.0, [1.0, 2.0]], ["1", True, None]),
    (Callable[[int], int] | None, [None], ["f", 1]),
]


@pytest.mark.parametrize(("hint", "good", "bad"), FITS, ids=[str(fits[0]) for fits in FITS])
def test_types_are_compared_with_the_hints(hint: Any, good: Sequence[Any], bad: Sequence[Any]) -> None:
    for value in good:
        built = construct("part", takes(hint), {"name": "part", "value": value})
        assert built == (tuple(value) if isinstance(value, list) else value)
    for value in bad:
        with pytest.raises(ConfigError, match=r"part.value = (None|.* is an? \w+); part takes "):
            construct("part", takes(hint), {"name": "part", "value": value})


def test_lists_arrive_as_tuples_all_the_way_down() -> None:
    part = takes(tuple)
    assert construct("part", part, {"name": "part", "value": [1, ["P", [2]]]}) == (1, ("P", (2,)))


@pytest.mark.parametrize("kind", ["RULES", "NEURONS", "SURROGATES", "LOSSES", "CRITERIA", "MODELS", "OPTIMIZERS"])
def test_what_can_be_named_can_be_explained(kind: str) -> None:
    for name, builder in getattr(c, kind).items():
        assert name == name.lower()
        assert inspect.getdoc(builder), name
        assert isinstance(options(builder), dict)


def test_optimizers_are_those_of_torch() -> None:
    assert c.OPTIMIZERS["sgd"] is torch.optim.SGD
    assert "optimizer" not in c.OPTIMIZERS


@pytest.mark.parametrize("kind", ["RULES", "NEURONS", "SURROGATES"])
def test_unfinished_classes_cannot_be_named(kind: str) -> None:
    unfinished = [
        name
        for name, builder in getattr(c, kind).items()
        if any(getattr(getattr(builder, key), "__isabstractmethod__", False) for key in dir(builder))
    ]
    assert not unfinished
