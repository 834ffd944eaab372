"""Help, lists and errors in the arguments are answered without what takes long to import."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "rich", "matplotlib", "safetensors")

COMMAND = f"""
import sys
from spikewright.cli.__main__ import main
try:
    status = main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
print(status, [name for name in {HEAVY} if name in sys.modules])
"""


def ends(program: str, *arguments: str) -> tuple[str, str]:
    """Run a program: the last line that it writes, and what it writes to the stream of errors."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.rstrip("\n").rpartition("\n")[2], done.stderr


ANSWERED = {
    "--help": 0,
    "--version": 0,
    "train --help": 0,
    "evaluate --help": 0,
    "compare --help": 0,
    "continual --help": 0,
    "reason --help": 0,
    "explain --help": 0,
    "certify --help": 0,
    "plan --help": 0,
    "plot --help": 0,
    "bench --help": 0,
    "list --help": 0,
    "list rules": 0,
    "list models": 0,
    "list graphs": 0,
    "list rules --quiet": 0,
    "trian": 2,
    "--rule ottt": 2,
    "train --ruel ottt": 2,
    "train --epochs many": 2,
    "evaluate run --checkpoint first": 2,
    "evaluate": 2,
    "list": 2,
    "list rule": 2,
    "train --rule otttt": 2,
    "compare --rules bptt,otttt": 2,
    "continual --rule hlpo:dsr": 2,
    "train --model mpl": 2,
    "certify --neuron lfi": 2,
    "plan --data digit": 2,
}


@pytest.mark.parametrize("line", ANSWERED)
def test_an_answer_needs_no_torch(line: str) -> None:
    found, errors = ends(COMMAND, *line.split())
    assert found == f"{ANSWERED[line]} []", errors
    assert bool(errors) == (ANSWERED[line] == 2)


def test_a_list_is_written_to_a_file_without_torch(tmp_path: Path) -> None:
    assert ends(COMMAND, "list", "neurons", "--json", str(tmp_path / "n.json"))[0] == "0 []"
    assert '"lif"' in (tmp_path / "n.json").read_text()


@pytest.mark.parametrize("name", ["spikewright", "spikewright.errors", "spikewright.cli"])
def test_an_import_needs_no_torch(name: str) -> None:
    assert ends(f"import sys, {name}; print([name for name in {HEAVY} if name in sys.modules])") == ("[]", "")


def test_output_that_nobody_reads_on_is_no_error() -> None:
    program = f"{sys.executable} -c '{COMMAND.replace('print', '0 and print')}' list rules"
    done = subprocess.run(f"{program} | true", shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
