"""The short tests hold every value of every list of parameters, and short and rest together are all tests."""

from collections import Counter
from itertools import product
from types import SimpleNamespace
from typing import Any

from tests.tiers import OCCURS, SMALL, chosen, pytest_collection_modifyitems


def case(name: str, *ids: str, long: bool = False) -> Any:
    mark = lambda asked: True if long and asked == "long" else None  # noqa: E731
    call = SimpleNamespace(_idlist=ids) if ids else None
    return SimpleNamespace(nodeid=f"{name}[{'-'.join(ids)}]" if ids else name, callspec=call, get_closest_marker=mark)


GRID = [case("t.py::grid", *each) for each in product("abcdefgh", "123456")]
TABLE = [case("t.py::table", f"case{number}") for number in range(2 * SMALL)]
ITEMS = [*GRID, *TABLE, case("t.py::one"), case("t.py::slow", long=True)]


def test_every_value_of_a_grid_occurs_and_tables_are_whole() -> None:
    short = chosen(ITEMS)
    kept = [item for item in GRID if item.nodeid in short]
    times = Counter(value for item in kept for value in enumerate(item.callspec._idlist))
    assert len(times) == 8 + 6 and min(times.values()) >= OCCURS and len(kept) < len(GRID) / 2
    assert {item.nodeid for item in TABLE} <= short and "t.py::one" in short and "t.py::slow" not in short


def test_two_tiers_are_all_tests() -> None:
    found = {tier: ran(tier, ["tests"]) for tier in ("short", "rest", "all", None)}
    assert not set(found["short"]) & set(found["rest"]) and set(found[None]) == set(found["short"])
    assert set(found["short"]) | set(found["rest"]) == set(found["all"]) == {item.nodeid for item in ITEMS}
    assert ran(None, ["tests/t.py"]) == found["all"]


def ran(tier: str | None, args: list[str]) -> list[str]:
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    config: Any = SimpleNamespace(args=args, hook=hook, getoption=lambda name: tier)
    items = list(ITEMS)
    pytest_collection_modifyitems(config, items)
    return [item.nodeid for item in items]
