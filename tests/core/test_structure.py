"""The shape of the package: what imports what, and how long files are."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import spikewright
from spikewright import rules

ROOT = Path(spikewright.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

LAYERS = [
    ["errors"],
    ["temporal", "dataflow"],
    ["_util"],
    ["losses", "metrics", "surrogate", "synapses"],
    ["kernels"],
    ["layers", "neurons"],
    ["network"],
    ["interop", "solvers", "spatial"],
    ["rules"],
    ["reports"],
    ["testing"],
    ["bench", "train"],
    ["continual", "graph", "interop"],
    ["plots"],
    ["cli"],
]
"""Rooms and loose files from the ground up; each imports what stands below it, or itself."""
RANK = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def part_of(name: str) -> str:
    """`spikewright.rules.ottt` belongs to `rules`."""
    return [*name.split("."), ""][1]


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the modules that are imported when the code runs, inside functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt) and for_types_only(node):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imports(node)


IMPORTS = {name_of(file): set(imports(ast.parse(file.read_text()))) for file in FILES}
INNER = {
    (name, part_of(imported))
    for name, found in IMPORTS.items()
    for imported in found
    if imported.startswith("spikewright.")
}


def test_every_part_of_the_core_has_its_place() -> None:
    assert {part_of(name) for name in IMPORTS} - RANK.keys() <= {"", "data", "events", "models", "__main__"}


def test_the_loose_files_are_those_that_belong_to_no_room() -> None:
    loose = {file.stem for file in ROOT.glob("*.py")}
    assert loose == {"__init__", "__main__", "errors", "surrogate", "temporal"}


def test_files_import_each_other_in_one_direction_too() -> None:
    files = {name: {to if to in IMPORTS else to.rpartition(".")[0] for to in found} for name, found in IMPORTS.items()}
    order = TopologicalSorter({name: found & IMPORTS.keys() - {name} for name, found in files.items()})
    assert len(list(order.static_order())) == len(IMPORTS)


def test_no_module_is_hidden_by_what_its_package_exports() -> None:
    for name in IMPORTS:
        package, _, own = name.rpartition(".")
        if package and own not in ("__main__", "child") and "gpu" not in name:
            module = import_module(name)
            assert getattr(sys.modules[package], own) is module, name


def test_imports_point_downwards() -> None:
    between = {(name, to) for name, to in INNER if part_of(name) in RANK and to in RANK and part_of(name) != to}
    assert {(name, to) for name, to in between if RANK[to] >= RANK[part_of(name)]} == set()


def test_models_and_data_stand_beside_the_core() -> None:
    below_network = {part for part in RANK if RANK[part] < RANK["network"]}
    models = {(name, to) for name, to in INNER if part_of(name) == "models" and to != "models"}
    assert {to for _, to in models} <= below_network
    assert {to for name, to in INNER if part_of(name) == "data"} <= {"data", "errors", "_util"}
    core = {part for part in RANK if RANK[part] < RANK["train"]}
    assert {
        (name, to) for name, to in INNER if part_of(name) in core and to in ("data", "models", "cli", "plots")
    } == set()


def test_training_names_no_rule() -> None:
    concrete = {name for name in vars(rules) if isinstance(getattr(rules, name), type)} - {
        "Rule",
        "Update",
        "OnlineRule",
        "Share",
    }
    assert {"BPTT", "SLTT", "OTTT"} <= concrete
    for file in (ROOT / "train").rglob("*.py"):
        tree = ast.parse(file.read_text())
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        used |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        used |= {name.rpartition(".")[2] for name in imports(tree)}
        assert not used & concrete, file


@pytest.mark.long
def test_the_core_imports_torch_and_numpy_only() -> None:
    optional = "rich safetensors sklearn PIL matplotlib jsonargparse tensorboard yaml"
    used = "import sys, spikewright as sw; [getattr(sw, name) for name in sw.__all__]"
    program = f"{used}; print([name for name in {optional.split()} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT.parent, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "[]\n", "")


def test_files_are_short() -> None:
    lengths = {name_of(file): len(file.read_text().splitlines()) for file in FILES}
    assert max(lengths.values()) <= 600, max(lengths, key=lambda name: lengths[name])
    assert statistics.median(lengths.values()) <= 150
