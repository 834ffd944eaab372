"""The shape of the package: what imports what, and how long files are."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import spikewright
from spikewright import rules

ROOT = Path(spikewright.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

LAYERS = [
    ["errors", "text", "contents", "as_recorded", "uncompiled", "leaves"],
    ["arguments", "complaints", "snapshot", "dataflow", "returned", "real_numbers"],
    ["temporal", "trial", "surrogate", "metrics", "criterion"],
    ["elementwise", "kernels", "operations", "folded", "holding", "interception", "foreign", "delays"],
    ["answering", "neurons", "synapse", "layers", "losses"],
    ["sites", "wiring", "rates", "stacked_norms", "hooks", "matrices"],
    ["resuming", "solvers", "rate_norms"],
    ["run"],
    ["rate_graph"],
    ["probing"],
    ["network"],
    ["spatial", "subspaces"],
    ["rules"],
    ["certify", "plan", "energy"],
    ["testing"],
    ["bench"],
    ["train"],
    ["continual", "graph"],
    ["plots"],
    ["cli"],
]
"""Parts of the core from the ground up; a part imports what stands below it, or itself."""
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
    assert {part_of(name) for name in IMPORTS} - RANK.keys() <= {"", "data", "models", "__main__"}


def test_imports_point_downwards() -> None:
    between = {(name, to) for name, to in INNER if part_of(name) in RANK and to in RANK and part_of(name) != to}
    assert {(name, to) for name, to in between if RANK[to] >= RANK[part_of(name)]} == set()


def test_models_and_data_stand_beside_the_core() -> None:
    below_network = {part for part in RANK if RANK[part] < RANK["run"]}
    models = {(name, to) for name, to in INNER if part_of(name) == "models" and to != "models"}
    assert {to for _, to in models} <= below_network
    assert {to for name, to in INNER if part_of(name) == "data"} <= {"data", "errors", "text"}
    core = {part for part in RANK if RANK[part] < RANK["train"]}
    assert {
        (name, to) for name, to in INNER if part_of(name) in core and to in ("data", "models", "cli", "plots")
    } == set()


def test_training_names_no_rule() -> None:
    concrete = {name for name in vars(rules) if isinstance(getattr(rules, name), type)} - {
        "Rule",
        "Update",
        "OnlineRule",
    }
    assert {"BPTT", "SLTT", "OTTT"} <= concrete
    for file in (ROOT / "train").rglob("*.py"):
        tree = ast.parse(file.read_text())
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        used |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        used |= {name.rpartition(".")[2] for name in imports(tree)}
        assert not used & concrete, file


def test_the_core_imports_torch_and_numpy_only() -> None:
    optional = "rich safetensors sklearn PIL matplotlib jsonargparse tensorboard yaml"
    program = f"import sys, spikewright; print([name for name in {optional.split()} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT.parent, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "[]\n", "")


def test_files_are_short() -> None:
    lengths = {name_of(file): len(file.read_text().splitlines()) for file in FILES}
    assert max(lengths.values()) <= 600, max(lengths, key=lambda name: lengths[name])
    assert statistics.median(lengths.values()) <= 150
