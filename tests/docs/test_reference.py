"""Every public name has an entry in the reference, and the reference has no entry for anything else."""

import re

import spikewright as sw
from docs._tools import pages, public


def test_every_public_name_has_one_entry() -> None:
    reference = pages.reference()
    entries = [entry for text in reference.values() for entry in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]
    modules = public.public_modules()
    names = {id(getattr(m, n)): f"{m.__name__}.{n}" for m in modules for n in public.public_names(m)}
    assert len(entries) == len(set(entries)) == len(names) + len(modules)
    for module in modules:
        for name in public.public_names(module):
            home = public.home(name) if module is sw else f"{module.__name__}.{name}"
            assert home in entries, f"{module.__name__}.{name} has no entry"


def test_names_that_stand_with_their_module_are_listed_at_the_top() -> None:
    top = pages.reference()["api/spikewright.md"]
    assert "| `spikewright.LIF` | [spikewright.neurons.LIF][] |" in top
    assert "::: spikewright.Run" in top and "::: spikewright.LIF" not in top


def test_rooms_are_found_by_themselves() -> None:
    found = {module.__name__ for module in public.public_modules()}
    assert found >= {
        "spikewright",
        "spikewright.rules",
        "spikewright.errors",
        "spikewright.graph",
        "spikewright.testing",
    }
    assert not any("._" in name for name in found)
