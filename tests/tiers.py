"""Which tests run: the short ones by default, the rest, or all, as `--tier` says.

The rest are tests marked `long`, and most combinations of large grids: of a test with two or more lists of parameters,
the default runs as many combinations as it takes for every value of every list to occur `OCCURS` times.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

OCCURS = 2
SMALL = 24
"""Grids of so many combinations run whole."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tier", choices=("short", "rest", "all"), help="default: short, and all of a file that is named")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes half a second or more")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = any(".py" in argument for argument in config.args)
    tier = config.getoption("--tier") or ("all" if named else "short")
    if tier == "all":
        return
    short = chosen(items)
    kept, left = [], list[pytest.Item]()
    for item in items:
        (kept if (item.nodeid in short) == (tier == "short") else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def chosen(items: Iterable[pytest.Item]) -> set[str]:
    """Return the names of the tests that run by default."""
    grids, found = defaultdict[str, list[pytest.Item]](list), set[str]()
    for item in items:
        if not item.get_closest_marker("long"):
            grids[item.nodeid.partition("[")[0]].append(item)
    for grid in grids.values():
        whole = len(grid) <= SMALL or len(values(grid[0])) < 2
        found.update(item.nodeid for item in (grid if whole else covering(grid)))
    return found


def covering(grid: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Return combinations in which every value occurs `OCCURS` times, or as often as it does in the grid."""
    seen, kept = Counter[tuple[int, str]](), list[pytest.Item]()
    for item in sorted(grid, key=lambda item: hashlib.sha256(item.nodeid.encode()).digest()):
        own = list(enumerate(values(item)))
        if any(seen[value] < OCCURS for value in own):
            seen.update(own)
            kept.append(item)
    return kept


def values(item: pytest.Item) -> list[str]:
    """Return the names of a test's parameters, one for each list of them."""
    call = getattr(item, "callspec", None)
    return [] if call is None else list(call._idlist)
