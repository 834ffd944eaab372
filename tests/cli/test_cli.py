"""The entry point: commands, their help, what is refused and with which exit status."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import spikewright
from spikewright import cli
from spikewright.cli import __main__ as entry
from spikewright.cli.__main__ import SUMMED, main
from tests.train.support import SHORT

ROOT = Path(__file__).parents[2]
COMMANDS = {name: getattr(cli, function) for name, function in entry.COMMANDS.items()}
PARAMETERS = [(name, key) for name, command in COMMANDS.items() for key in inspect.signature(command).parameters]


def test_without_a_command_the_commands_are_shown(says: Any) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        status, out, err = says(*arguments)
        assert (status, err) == (0, "")
        for name, command in COMMANDS.items():
            assert f"  {name}  " in out and (inspect.getdoc(command) or "").splitlines()[0] in out


def test_the_version(says: Any) -> None:
    assert says("--version") == (0, f"{spikewright.__version__}\n", "")


@pytest.mark.parametrize(("command", "key"), PARAMETERS)
def test_help_explains_every_parameter(says: Any, monkeypatch: pytest.MonkeyPatch, command: str, key: str) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    status, out, _ = says(command, "--help")
    assert status == 0
    about = entry._about(inspect.getdoc(COMMANDS[command]) or "", key)
    assert about, f"{command} does not say what {key} is"
    assert about in out
    flag = SUMMED[key][0] if key in SUMMED else "--" + key.replace("_", "-")
    assert key in entry.POSITIONAL or flag in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_begins_with_the_docstring_and_ends_before_its_sections(says: Any, command: str) -> None:
    out = says(command, "--help")[1]
    assert (inspect.getdoc(COMMANDS[command]) or "").splitlines()[0] in out
    assert "Args:" not in out and "Returns:" not in out


REFUSED = {
    "trian": "there is no command 'trian'. Did you mean 'train'? Known: bench, certify, compare, continual,",
    "train --ruel ottt": "unknown argument --ruel. Did you mean '--rule'?",
    "compare --rule bptt": "unknown argument --rule. Did you mean '--rules'?",
    "train --epoch 3": "unknown argument --epoch. Did you mean '--epochs'?",
    "train a.toml b.toml": "unknown argument b.toml",
    "train --epochs many": "argument --epochs: invalid int value: 'many'",
    "train --epochs": "argument --epochs: expected one argument",
    "list rule": "argument kind: invalid choice: 'rule'",
    "list": "the following arguments are required: kind (choose from rules, spatial, models,",
    "train --version": "unknown argument --version. Known: --batch-size, ",
    "train a.toml extra": "unknown argument extra.\nTry: ",
    "train --ruel=ottt": "unknown argument --ruel=ottt. Did you mean '--rule'?",
    "evaluate": "the following arguments are required: run",
    "evaluate run --checkpoint first": "argument --checkpoint: invalid choice: 'first'",
    "--rule ottt": "unrecognized arguments: --rule",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_not_known_is_refused_with_advice(says: Any, line: str) -> None:
    status, out, err = says(*line.split())
    assert (status, out) == (2, "")
    assert REFUSED[line] in err and "--help" in err and "Traceback" not in err


WRONG = {
    "train --rule otttt": "spikewright train: ConfigError: rule.name = 'otttt' is unknown. Did you mean 'ottt'",
    "train --rule sltt:2": "spikewright train: ConfigError: The rule 'sltt:2' has the part '2'",
    "train --model mpl": "model.name = 'mpl' is unknown. Did you mean 'mlp'",
    "train --neuron liff": "neuron.name = 'liff' is unknown. Did you mean 'lif'",
    "train --data digit": "The data set 'digit' is unknown. Did you mean 'digits'",
    "train --data mnist": "spikewright train: DatasetMissing: ",
    "train --set optimiser.lr=1": "there is no section 'optimiser'. Did you mean 'optimizer'",
    "train missing.toml": "The recipe missing.toml cannot be read: No such file",
    "train --resume . --out x": "--resume . continues that run in its folder",
    "train --resume .": "CheckpointError: . is not the folder of a run",
    "train --certify-every -1 --data synthetic": "train.certify_every = -1: it has to be at least 1",
    "train --device cuda:99": "train.device = 'cuda:99' cannot be used here",
    "evaluate .": "spikewright evaluate: CheckpointError: There is no checkpoint last.safetensors",
    "certify --rule sltt:k=9 --data synthetic": "SLTT(k=9) was given a sequence of 6 steps",
    "plan --shape 1,8": "--shape 1,8 cannot be read. Write channels, height, width",
    "plan --shape 1,8,8 --budget plenty": "--budget plenty cannot be read",
    "plan --shape 1,8,8 --classes -3": "--classes -3: at least 1 is needed",
    "plot . --neurons 0": "--neurons 0: at least 1 is needed",
    "plan --shape 1,8,8 --measure few": "--measure few cannot be read",
    "compare --rules , --data synthetic": "compare needs at least one rule and one seed",
    "compare --seeds 0 --data synthetic": "compare needs at least one rule and one seed",
}


@pytest.mark.parametrize("line", WRONG)
def test_errors_of_use_are_one_message(says: Any, line: str, tmp_path: Path) -> None:
    status, out, err = says(*line.split())
    assert (status, out) == (2, "")
    assert WRONG[line] in err and "Traceback" not in err
    assert not (tmp_path / "runs").exists()


INTERRUPTED = {
    "train": " before training began",
    "train --out x": " before training began",
    "train --out run": "; continue with: spikewright train --resume run",
    "reason --resume run": "; continue with: spikewright reason --resume run",
    "continual": " before training began",
    "compare": "; the same command continues it",
    "certify": "",
}


@pytest.mark.parametrize("line", INTERRUPTED)
def test_an_interruption_says_how_to_go_on(
    says: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    Path("run/config.json").write_text("{}")
    command, *rest = line.split()

    def interrupted(**options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted, "__signature__", inspect.signature(COMMANDS[command]), raising=False)
    monkeypatch.setattr(cli, command, interrupted)
    assert says(command, *rest) == (130, "", f"\ninterrupted{INTERRUPTED[line]}\n")


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "list_components", broken)
    with pytest.raises(ZeroDivisionError):
        main(["list"])


def in_a_process(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-W", "error", *command], capture_output=True, text=True, cwd=folder, env=environment
    )


@pytest.mark.long
def test_the_package_is_a_program(tmp_path: Path) -> None:
    done = in_a_process(tmp_path, "-m", "spikewright", "evaluate", "missing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("spikewright evaluate: CheckpointError: There is no checkpoint missing/last")


BARE = """
import sys
for name in ("rich", "safetensors", "sklearn", "PIL", "matplotlib", "tensorboard", "torchvision"):
    sys.modules[name] = None
import spikewright
from spikewright.cli.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.long
def test_without_the_extra_the_message_names_it(tmp_path: Path) -> None:
    done = in_a_process(tmp_path, "-c", BARE, "train", *SHORT, "--out", "run")
    assert done.returncode == 2
    assert "pip install 'spikewright[cli]'" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


LACKING = {
    "rich": ["train", *SHORT, "--out", "run"],
    "safetensors": ["train", *SHORT, "--quiet", "--out", "run"],
    "sklearn": ["train", "--quiet", "--out", "run"],
}


@pytest.mark.parametrize("module", LACKING)
def test_every_part_of_the_extra_is_asked_for_in_words(
    says: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module] + [module]:
        monkeypatch.setitem(sys.modules, name, None)
    status, _, err = says(*LACKING[module])
    assert status == 2 and "pip install 'spikewright[cli]'" in err
    assert not (tmp_path / "run" / "log.csv").exists(), "it was trained in vain"
