"""The stored catalogue says what the components themselves say.

Run as a script, this file writes the catalogue anew.
"""

import json
import sys
from typing import Any, get_args

import pytest
import torch

from spikewright.cli import catalogue
from spikewright.cli._components import COMPONENTS, described
from spikewright.cli._list import entries
from spikewright.cli.catalogue import FILE, OF_TORCH, REGISTRIES, Kind, fingerprint, torch_version
from spikewright.errors import ConfigError
from spikewright.graph.build import build_reasoning
from spikewright.graph.config import configure_reasoning
from spikewright.train import build, configure

KINDS: tuple[Kind, ...] = get_args(Kind)
FINGERPRINTS = {kind: fingerprint(kind) for kind in REGISTRIES}


def live() -> dict[str, Any]:
    components = {kind: described(kind) for kind in KINDS}
    return {"torch": torch_version(), "registries": FINGERPRINTS, "components": components}


def test_the_version_of_torch_is_read_off_its_files() -> None:
    assert torch_version() == torch.__version__.partition("+")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_catalogue_is_fresh(kind: Kind) -> None:
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    if kind in OF_TORCH and stored["torch"] != torch_version():
        pytest.skip("it was written with another version of torch, and is not asked")
    assert stored["components"][kind] == described(kind), "write it anew: python -m tests.cli.test_catalogue"
    assert stored["registries"] == FINGERPRINTS, "write it anew: python -m tests.cli.test_catalogue"
    assert entries(kind) == described(kind)


def test_every_kind_can_be_listed() -> None:
    assert set(COMPONENTS) == set(KINDS)


def test_no_markup_is_shown() -> None:
    for kind in KINDS:
        for name, entry in entries(kind).items():
            assert entry["summary"] or kind in OF_TORCH, (kind, name)
            assert not {*"\\{}"} & {*entry["summary"]}, (kind, name)
            assert ":math:" not in entry["summary"] and "<" not in "".join(entry["arguments"].values()), (kind, name)


def test_under_another_version_of_torch_its_components_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    stale = {"torch": "1.0", "registries": FINGERPRINTS, "components": {kind: {} for kind in KINDS}}
    monkeypatch.setattr(catalogue, "_contents", lambda: stale)
    for kind in KINDS:
        assert entries(kind) == (described(kind) if kind in OF_TORCH else {})


def test_a_component_that_was_added_since_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue that lacks `mlp`, `ottt`, `lif` and `digits` does not refuse them once a registry differs."""
    stored = {"torch": torch_version(), "registries": FINGERPRINTS, "components": {kind: {} for kind in KINDS}}
    monkeypatch.setattr(catalogue, "_contents", lambda: stored)
    named = {"rule": "ottt", "model": "mlp", "neuron": "lif", "data": "digits"}
    for key, name in named.items():
        with pytest.raises(ConfigError, match=f"'{name}' is unknown"):
            catalogue.check_names({key: name})
    stored["registries"] = {}
    catalogue.check_names(named)
    assert entries("rules") == described("rules")


UNKNOWN = [
    ("rule", "otttt"),
    ("rule", "SLTTT"),
    ("model", "mpl"),
    ("neuron", "lfi"),
    ("data", "digit"),
    ("data", "Digits"),
]


@pytest.mark.parametrize(("section", "name"), UNKNOWN)
def test_an_unknown_name_is_refused_in_the_words_of_the_library(section: str, name: str) -> None:
    with pytest.raises(ConfigError) as quick:
        catalogue.check_names({section: name})
    with pytest.raises(ConfigError) as thorough:
        build(configure(**{section: {"name": name}}))
    assert str(quick.value) == str(thorough.value)


def test_known_names_pass() -> None:
    catalogue.check_names({"rule": "OTTT:online=true", "model": "mlp", "neuron": "LIF", "data": "digits"})
    catalogue.check_names({"rules": "bptt, sltt:k=2,", "rule": None, "model": None, "neuron": None})
    with pytest.raises(ConfigError, match="'bttp' is unknown"):
        catalogue.check_names({"rules": "ottt, bttp:chunk=1"})


def test_bases_are_no_rules() -> None:
    assert not {"rule", "onlinerule", "raterule", "continualrule", "projectedrule"} & entries("rules").keys()
    with pytest.raises(ConfigError, match="'onlinerule' is unknown"):
        build(configure(rule="onlinerule"))


def test_the_list_agrees_with_what_is_accepted() -> None:
    assert entries("rules")["hlop"]["arguments"]["rule"] == "ottt"
    assert entries("losses")["per_step"]["arguments"]["criterion"] == "cross_entropy"
    models = entries("graph-models")
    assert models["grsnn+"]["arguments"].keys() == models["grsnn"]["arguments"].keys()
    assert models["grsnn+"]["arguments"] != models["grsnn"]["arguments"]
    for name in models:
        assert "required" not in models[name]["arguments"].values()
        config = configure_reasoning(data={"name": "family", "trees": 1}, model={"name": name, "relations": 3})
        with pytest.raises(ConfigError, match=r"model\.relations is not an argument of \w+\. (?!.*relations)"):
            build_reasoning(config)


def main() -> None:
    FILE.write_text(json.dumps(live(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {FILE}\n")


if __name__ == "__main__":
    main()
