"""Every script in `examples/` runs, and what it returns is what it is there to show."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.interop import vision

FOLDER = Path(__file__).parent.parent / "examples"


def run(name: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return what `main` of an example returns, which also has to be printed."""
    found = importlib.util.spec_from_file_location(f"examples_{name}", FOLDER / f"{name}.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    result = module.main()
    assert capsys.readouterr().out
    return result


def test_every_example_is_tested_and_short() -> None:
    files = sorted(FOLDER.glob("*.py"))
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {file.stem for file in files} == tests - {"every_example_is_tested_and_short"}
    assert max(len(file.read_text().splitlines()) for file in files) <= 62


IGNORED = pytest.mark.filterwarnings("ignore")  # of packages that are not this library's


@IGNORED
def test_with_lightning(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightning")
    assert run("with_lightning", capsys) == {"once": 0.0, "online": 0.0}


@IGNORED
def test_with_transformers(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    assert run("with_transformers", capsys) == {"SGD": 0.0, "AdamW": 0.0}


@IGNORED
def test_with_accelerate(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate")
    assert run("with_accelerate", capsys) == 0.0


@IGNORED
def test_with_timm(capsys: pytest.CaptureFixture[str]) -> None:
    vision.timm()
    found = run("with_timm", capsys)
    assert len(found) == 6 and all(layers > 5 and changed > 20 for layers, changed, _ in found.values())


@pytest.mark.long
def test_rule_swap(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = run("rule_swap", capsys)
    assert len(accuracy) == 5 and min(accuracy.values()) > 0.8
    assert min(accuracy[name] for name in ("BPTT", "SLTT", "OTTT", "DSR")) > 0.9
    assert len({round(value, 4) for value in accuracy.values()}) >= 3, "rules learn differently"


@pytest.mark.long
def test_long_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    bptt, ottt, (first, last) = run("long_sequence", capsys)
    assert list(bptt) == list(ottt) == [100, 500, 2000]
    assert bptt[2000] / bptt[100] == pytest.approx(20, rel=0.05)
    assert ottt[2000] == ottt[100] < bptt[100] / 20
    assert last < first / 5


def test_gradient_check(capsys: pytest.CaptureFixture[str]) -> None:
    checked = run("gradient_check", capsys)
    exact = {name: {row.site for row in report.rows if row.relative_error < 1e-10} for name, report in checked.items()}
    assert all(report.ok for report in checked.values())
    assert exact["BPTT in chunks"] == {row.site for row in checked["OTTT"].rows}
    assert exact["SLTT"] == {"readout.weight", "readout.bias"}
    assert exact["OTTT"] == exact["SLTT"] | {"block.second.weight", "block.second.bias"}


@pytest.mark.long
def test_continual(capsys: pytest.CaptureFixture[str]) -> None:
    alone, protected = run("continual", capsys).values()
    assert len(alone) == len(protected) == 3
    assert protected[0] > alone[0] + 0.08 and protected[1] > alone[1] + 0.08
    assert min(protected) > 0.8


@pytest.mark.long
def test_family_reasoning(capsys: pytest.CaptureFixture[str]) -> None:
    before, after = run("family_reasoning", capsys)
    assert before < 0.1 and after > 0.4
