"""Values of `--set` and of rules in short form are numbers and booleans, also as Python writes them."""

from typing import Any

import pytest

from spikewright.train import configure
from spikewright.train.config import rule_table

VALUES = {
    ".1": 0.1,
    "-.5": -0.5,
    "+.5E2": 50.0,
    "2.": 2.0,
    "1e-3": 0.001,
    "3": 3,
    "True": True,
    "FALSE": False,
    "None": None,
    "1.2.3": "1.2.3",
    ".": ".",
    "007": "007",
}


@pytest.mark.parametrize("text", VALUES)
def test_a_value_is_read_as_it_is_meant(text: str) -> None:
    expected: Any = VALUES[text]
    for found in (
        configure(overrides=[f"optimizer.lr={text}"]).optimizer["lr"],
        rule_table(f"hlop:rows={text}:ottt")["rows"],
    ):
        assert (found, type(found)) == (expected, type(expected))
