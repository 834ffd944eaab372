"""The page on modules says of every kind of layer what is found when a small network with it is wired.

Run as a script, this file writes the table of the page anew.
"""

import re
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from spikewright.errors import IncompatibleRule, NetworkError, SpikewrightError
from spikewright.network import Network
from spikewright.rules import DSR
from tests.modules_page import GROUPS, Make, network

PAGE = Path(__file__).parent.parent / "docs" / "modules.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
REASONS = {
    "mixes the rows": "refused: mixes samples",
    "keeps a state": "refused: keeps a state",
    "loop over time": "refused: loops over time",
    "keeps the first axis": "refused: output shape",
}
LEFT_OUT = {
    "Module ModuleDict ModuleList Sequential Container Parameter ParameterDict ParameterList Buffer",  # containers
    "AdaptiveLogSoftmaxWithLoss Transformer TransformerEncoder TransformerDecoder",  # made of what is in the table
    "RNNBase RNNCellBase MaxUnpool1d MaxUnpool3d UninitializedBuffer UninitializedParameter ZeroPad",
    "LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d LinearCrossEntropyLoss",
}


def verdicts(make: Make, feature: tuple[int, ...]) -> tuple[str, str]:
    """What is said of a network with a layer, and by DSR."""
    module, x = network(make, feature)
    try:
        net = Network(module)
        wiring = net.wiring(x)
    except SpikewrightError as error:
        found = next((shown for words, shown in REASONS.items() if words in str(error)), "refused: by name")
        assert isinstance(error, NetworkError), error
        return found, ""
    try:
        DSR().check(wiring, net.sites)
    except IncompatibleRule as error:
        bend = re.search(r"there is (\w+), which", str(error))
        return "yes", f"no: {bend[1]}" if bend else "no: " + _why(str(error))
    return "yes", "yes"


def _why(message: str) -> str:
    found = (
        shown
        for words, shown in {
            "fresh mask": "a mask of every step",
            "differ from step to step": "statistics of every step",
            "batch_norm=": "unless `batch_norm='joint'`",
            "memory of its own": "a memory of its own",
            "feeds back": "IDE and SPIDE only",
            "hard reset": "a hard reset",
            "rate map": "no rate map",
        }.items()
        if words in message
    )
    return next(found, message)


def row(name: str, make: Make, feature: tuple[int, ...]) -> str:
    steps, rates = verdicts(make, feature)
    return f"| `{name}` | {steps} | {rates} |"


def table() -> str:
    lines: list[str] = []
    for group, members in GROUPS.items():
        lines += [f"**{group}**", "", "| layer | in a network | with rate rules |", "|---|---|---|"]
        lines += [row(name, *member) for name, member in members.items()]
        lines.append("")
    return "\n".join(lines)


MEMBERS = [pair for group in GROUPS.values() for pair in group.items()]


@pytest.mark.filterwarnings("ignore")  # of layers that are old, or not made for such small inputs
@pytest.mark.parametrize("name, member", MEMBERS, ids=[name for name, _ in MEMBERS])
def test_the_page_says_what_is_found(name: str, member: tuple[Make, tuple[int, ...]]) -> None:
    assert row(name, *member) in PAGE.read_text().splitlines()


def test_the_page_has_no_other_rows() -> None:
    shown = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text().split(BEGIN)[1].split(END)[0], re.MULTILINE)
    assert shown == [name for group in GROUPS.values() for name in group]


def test_no_layer_of_torch_is_missing() -> None:
    known = {name.partition("(")[0] for group in GROUPS.values() for name in group} | {*" ".join(LEFT_OUT).split()}
    kinds = {n for n, kind in vars(nn).items() if isinstance(kind, type) and issubclass(kind, nn.Module)}
    assert {name for name in kinds - known if not name.endswith(("Loss", "Loss2d")) and name != "DataParallel"} == set()


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    text = PAGE.read_text() if PAGE.exists() else f"{BEGIN}{END}"
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}{END}{rest.split(END)[1]}")
    sys.stdout.write(f"wrote {PAGE}\n")


if __name__ == "__main__":
    main()
