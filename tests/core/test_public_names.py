"""What is public: the same whether one asks a package, its `__all__`, or completes its names in an editor."""

import ast
import copy
import io
import pickle
import pydoc
import subprocess
import sys
import tomllib
import types
from importlib import import_module
from pathlib import Path

import pytest

import spikewright as sw

ROOT = Path(sw.__file__).parent
INTERNAL = {"_util", "cli", "dataflow"}
ROOMS = sorted({p.parent.name for p in ROOT.glob("*/__init__.py")} - INTERNAL)
FILES = ["errors", "surrogate"]
PUBLIC = ["spikewright", "spikewright.cli", *(f"spikewright.{name}" for name in ROOMS + FILES)]


def imported(name: str) -> types.ModuleType:
    if name == "spikewright.plots":
        pytest.importorskip("matplotlib")
    return import_module(name)


@pytest.mark.parametrize("name", PUBLIC)
def test_dir_shows_the_public_names(name: str) -> None:
    module = imported(name)
    names = module.__all__
    assert len(set(names)) == len(names)
    assert set(dir(module)) == set(names)
    assert not [each for each in names if each.startswith("_") and each != "__version__"]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_there_and_no_modules_but_rooms(name: str) -> None:
    module = imported(name)
    for each in module.__all__:
        if isinstance(getattr(module, each), types.ModuleType):
            assert module is sw and f"{name}.{each}" in PUBLIC, each


@pytest.mark.parametrize("name", PUBLIC[2:])
def test_what_a_room_imports_under_a_public_name_is_declared(name: str) -> None:
    module = imported(name)
    if Path(module.__file__ or "").name == "__init__.py":
        tree = ast.parse(Path(module.__file__ or "").read_text())
        found = {a.asname or a.name for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names}
        assert found == set(module.__all__)


def test_type_checkers_are_told_what_is_imported() -> None:
    for package in (sw, import_module("spikewright.cli")):
        told = next(n for n in ast.parse(Path(package.__file__ or "").read_text()).body if isinstance(n, ast.If))
        assert ast.unparse(told.test) == "TYPE_CHECKING"
        there = {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in told.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert there.keys() == set(package.__all__) - {"__version__"}
        for name, path in there.items():
            module, _, own = path.rpartition(".")
            assert getattr(import_module(module), own) is getattr(package, name), name


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'spikewright' has no attribute 'LIFF'"):
        _ = sw.LIFF  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ImportError, match="cannot import name 'LIFF'"):
        exec("from spikewright import LIFF")


def in_a_process(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


USES = {
    "import spikewright as sw; print(sw.rules.OTTT.__name__)": "OTTT",
    "import spikewright.rules; print(spikewright.rules.OTTT.__name__)": "OTTT",
    "from spikewright import LIF, rules; print(LIF.__name__, rules.__name__)": "LIF spikewright.rules",
    "from spikewright import *; print(LIF.__name__, losses.PerStep.__name__)": "LIF PerStep",
    "import spikewright as sw; print(sw.Network.__name__, sw.network.__name__)": "Network spikewright.network",
    "import spikewright.network, spikewright as sw; print(sw.Network.__name__)": "Network",
    "import spikewright as sw; print(sw.plan is sw.reports.plan, sw.energy is sw.reports.energy)": "True True",
    "import spikewright as sw, pickle; print(pickle.loads(pickle.dumps(sw.LIF(tau=3.0))).leak > 0)": "True",
    "import spikewright as sw; print('LIF' in vars(sw), sw.LIF is vars(sw)['LIF'])": "False True",
}


@pytest.mark.parametrize("program", USES)
@pytest.mark.long
def test_names_are_found_when_they_are_asked_for(program: str) -> None:
    assert in_a_process(program) == USES[program]


def test_classes_are_pickled_and_copied() -> None:
    assert pickle.loads(pickle.dumps(sw.LIF)) is sw.LIF
    assert copy.copy(sw.losses.PerStep) is sw.losses.PerStep


def test_help_shows_the_public_names() -> None:
    text = io.StringIO()
    pydoc.Helper(output=text).help(sw)
    shown = text.getvalue()
    assert "class LIF(" in shown and "certify(" in shown and f"VERSION\n    {sw.__version__}" in shown
    assert "import_module" not in shown


@pytest.mark.long
def test_a_name_is_found_inside_a_compiled_function() -> None:
    program = (
        "import torch, spikewright as sw\n"
        "f = torch.compile(lambda x: sw.detach({'a': {'v': x * 2}})['a']['v'], backend='eager', fullgraph=True)\n"
        "x = torch.ones(2, requires_grad=True)\n"
        "print(f(x).requires_grad, f(x).tolist())"
    )
    assert in_a_process(program) == "False [2.0, 2.0]"


def test_the_version_has_one_place() -> None:
    project = ROOT.parent / "pyproject.toml"
    if not project.exists():
        pytest.skip("this is no source checkout")
    settings = tomllib.loads(project.read_text())
    assert settings["project"]["dynamic"] == ["version"] and "version" not in settings["project"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "spikewright.__version__"}
    literal = [n for n in ast.parse((ROOT / "__init__.py").read_text()).body if isinstance(n, ast.Assign)]
    assert any(ast.unparse(n) == f"__version__ = {sw.__version__!r}" for n in literal), (
        "it has to be read without torch"
    )


@pytest.mark.long
def test_torch_is_found_once_a_name_is_used() -> None:
    assert in_a_process("import sys, spikewright as sw; sw.LIF; print('torch' in sys.modules)") == "True"
