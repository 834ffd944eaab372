"""Notebooks run as scripts and show what their text says; as pages they hold what their cells print and draw."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docs._tools import notebook
from docs._tools.pages import DOCS, notebooks

Scope = dict[str, Any]


def first_network(scope: Scope) -> None:
    assert scope["accuracy"].keys() == {"BPTT", "SLTT", "OTTT"} and min(scope["accuracy"].values()) > 0.9
    assert len(scope["spikes"].chunks) == 1


def long_sequence(scope: Scope) -> None:
    kept, errors = scope["kept"], scope["errors"]
    assert (
        kept["BPTT"][1024] > 60 * kept["BPTT"][16]
        and kept["BPTT, checkpoint"][1024] < 10 * kept["BPTT, checkpoint"][16]
    )
    assert len(set(kept["SLTT"].values())) == len(set(kept["OTTT"].values())) == 1
    assert errors["SLTT"] == sorted(errors["SLTT"]) and all(o < s for o, s in zip(errors["OTTT"], errors["SLTT"]))


def continual_learning(scope: Scope) -> None:
    naive, protected = scope["matrices"]["naive"], scope["matrices"]["HLOP"]
    assert protected.bwt > naive.bwt + 0.1 and protected.acc > naive.acc + 0.05


CLAIMS: dict[str, Callable[[Scope], None]] = {
    "first_network": first_network,
    "long_sequence": long_sequence,
    "continual_learning": continual_learning,
}


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.long
def test_a_notebook_runs_and_shows_what_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    CLAIMS[name](runpy.run_path(str(DOCS / "notebooks" / f"{name}.py"), run_name="__main__"))


def test_every_notebook_is_run() -> None:
    assert CLAIMS.keys() == {script.stem for script in notebooks()}


SCRIPT = """# ---
# jupyter: header
# ---

# %% [markdown]
# # Title
#
# Text.

# %%
x = 2
print("seen", x)
x + 1

# %%
class Figure:
    def savefig(self, file):
        file.write_text("drawn")

Figure()

# %%
y = x
"""


def test_a_notebook_becomes_a_page_with_what_it_prints_and_draws(tmp_path: Path) -> None:
    script = tmp_path / "made.py"
    script.write_text(SCRIPT)
    page = notebook.as_markdown(script, tmp_path / "figures")
    assert page.startswith("# Title\n\nText.\n\n```python\nx = 2\n")
    assert "```text\nseen 2\n3\n```" in page and page.endswith("```python\ny = x\n```\n")
    assert "![Figure of the cell above](figures/made-2.svg)" in page
    assert (tmp_path / "figures" / "made-2.svg").read_text() == "drawn"


def test_a_notebook_that_fails_does_not_become_a_page(tmp_path: Path) -> None:
    script = tmp_path / "made.py"
    script.write_text("# %%\n1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        notebook.as_markdown(script, tmp_path / "figures")
