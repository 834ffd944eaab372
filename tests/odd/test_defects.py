"""What each family of odd networks is there to find is not there, and is found if it is put back."""

import pytest

from tests.odd.check import RULES, check
from tests.odd.defects import DEFECTS, search
from tests.odd.draw import build, recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*draws random numbers"),
    pytest.mark.filterwarnings("ignore:.*does not see"),
]

PLANTED = [name for name, defect in DEFECTS.items() if defect.plant is not None]


@pytest.mark.parametrize("name", DEFECTS)
def test_is_not_there(name: str) -> None:
    found = search(DEFECTS[name], networks=8)
    assert found is None, (found[1].recipe, found[1].rule)


@pytest.mark.parametrize("name", PLANTED or [pytest.param("", marks=pytest.mark.skip(reason="nothing to put back"))])
def test_is_found_where_it_is_put_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    defect = DEFECTS[name]
    assert defect.plant is not None
    defect.plant(monkeypatch)
    assert search(defect) is not None


@pytest.mark.parametrize("name", RULES)
def test_nothing_is_found_in_networks_without_anything_odd(name: str) -> None:
    if RULES[name].second_task:
        pytest.skip("the families of second tasks have nothing odd either")
    for seed in range(3):
        assert check(build(recipe(seed, family=(), steps=3)), name).ok
