"""What the documentation shows is run, and what it points to exists."""

import re
from pathlib import Path

import pytest
import torch

import spikewright as sw
from spikewright.graph import GraphData

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_example_of_the_readme_runs():
    scope: dict[str, object] = {}
    for block in blocks(ROOT / "README.md"):
        exec(block, scope)
    net = scope["net"]
    assert isinstance(net, sw.Network)
    assert all(p.isfinite().all() for p in net.parameters())


def test_the_loop_of_the_page_on_tasks_runs():
    scope: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "continual.md"):
        exec(block, scope)
    rule = scope["rule"]
    assert isinstance(rule, sw.rules.HLOP) and int(rule.task) == 4
    assert [len(s.old) for s in rule.subspaces.by_name().values()] == [12, 12]


def test_the_page_on_reasoning_trains_a_model_that_answers():
    torch.manual_seed(0)
    scope: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "reasoning.md"):
        exec(block, scope)
    spikes, data = scope["spikes"], scope["data"]
    assert isinstance(spikes, torch.Tensor) and isinstance(data, GraphData)
    assert spikes.shape == (10, len(data.train.entities), 1, 32) and spikes.any()


def test_the_rule_of_the_extending_page_works():
    scope: dict[str, object] = {}
    exec(blocks(ROOT / "docs" / "extending.md")[0], scope)
    rule = scope["Decayed"]
    net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
    x, y = 3 * torch.rand(6, 5, 4), torch.tensor([0, 1, 2, 1, 0])
    loss = sw.losses.PerStep(torch.nn.CrossEntropyLoss())
    whole, cut = (sw.certify(net, rule(chunk=chunk), x, y, loss) for chunk in (None, 4))
    for block in blocks(ROOT / "docs" / "extending.md")[1:]:
        exec(block, scope)  # which holds them to the contracts of the kit
    assert {"Plain", "Escaping", "assert_rule", "assert_neuron"} <= scope.keys()
    assert whole.ok
    assert [row.relative_error for row in whole.rows] == pytest.approx(
        [row.relative_error for row in cut.rows], abs=1e-5
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_of_a_page_exist(page):
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = re.findall(r"`((?:spikewright|docs|tests|recipes|benchmarks)/[\w./-]+)`", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing
