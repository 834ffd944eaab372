"""What each family of odd networks is there to find is not there, and is found if it is put back."""

import pytest

from tests.odd.check import RULES, check
from tests.odd.defects import DEFECTS, search
from tests.odd.draw import build, recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*draws random numbers"),
    pytest.mark.filterwarnings("ignore:.*does not see"),
]

ONCE = {defect.plant: name for name, defect in reversed(DEFECTS.items())}.values()
"""One defect for every plant; `benchmarks/odd_networks.py --defects` puts every defect back."""


@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.long
def test_is_not_there(name: str) -> None:
    found = search(DEFECTS[name], networks=5)
    assert found is None, (found[1].recipe, found[1].rule)


@pytest.mark.parametrize("name", ONCE)
def test_is_found_where_it_is_put_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        DEFECTS[name].plant(patch)
        found = search(DEFECTS[name])
    assert found is not None
    _, verdict = found
    assert check(build(verdict.recipe), verdict.rule).ok  # so that it is the plant that shows


@pytest.mark.parametrize("name", [name for name, entry in RULES.items() if not entry.second_task])
def test_nothing_is_found_in_networks_without_anything_odd(name: str) -> None:
    for seed in range(3):
        assert check(build(recipe(seed, family=(), steps=3)), name).ok
