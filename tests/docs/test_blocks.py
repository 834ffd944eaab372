"""The Python blocks of README and docs run as they stand, each alone unless it says that it continues."""

import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import spikewright as sw
from docs._tools.pages import ROOT, sources
from spikewright.graph import GraphData

CONTINUES = "# continues the block above\n"
NEEDED = re.compile(r"# needs (\w+)\n")
"""First line of a block that runs where a package is installed."""
Scope = dict[str, Any]
NEEDS = {
    "docs/interop-nir.md": ("nir", "h5py"),
    "docs/coming-from-spikingjelly.md": ("spikingjelly",),
    "docs/coming-from-snntorch.md": ("snntorch",),
    "docs/coming-from-sinabs.md": ("sinabs",),
    "docs/coming-from-norse.md": ("norse",),
}
"""Optional packages, without which the blocks of a page are skipped."""


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def needed(block: str) -> str | None:
    """Return the package that a block needs beside those of the tests."""
    found = NEEDED.match(block)
    return found[1] if found else None


FOUND = {page: [*dict.fromkeys(map(needed, blocks(page)))] for page in sources() if page.suffix == ".md"}
PAGES = [page for page, packages in FOUND.items() if None in packages]
OPTIONAL = [(page, package) for page, packages in FOUND.items() for package in packages if package]


def run(page: Path, package: str | None = None) -> list[Scope]:
    """Run the blocks that need a package, or those that need none; return the names of each."""
    scopes: list[Scope] = []
    for number, block in enumerate(blocks(page)):
        if needed(block) != package:
            continue
        if not block.startswith(CONTINUES):
            scopes.append({"__name__": "__main__"})
        exec(compile(block, f"{page.relative_to(ROOT)}, block {number + 1}", "exec"), scopes[-1])
    return scopes


def readme(scope: Scope) -> None:
    assert isinstance(scope["net"], sw.Network)
    assert all(p.isfinite().all() for p in scope["net"].parameters())


def training(scope: Scope) -> None:
    assert scope["result"]["epochs"] == 2 and (Path("runs/mine") / "best.safetensors").exists()


def tasks(scope: Scope) -> None:
    rule = scope["rule"]
    assert isinstance(rule, sw.rules.HLOP) and int(rule.task) == 4
    assert [len(s.old) for s in rule.subspaces.by_name().values()] == [12, 12]


def reasoning(scope: Scope) -> None:
    spikes, data = scope["spikes"], scope["data"]
    assert isinstance(spikes, torch.Tensor) and isinstance(data, GraphData)
    assert spikes.shape == (10, len(data.train.entities), 1, 32) and spikes.any()


def decolle(rule: sw.rules.Rule) -> None:
    """The local rule, beside a loop over layers and steps."""
    sizes, decays, (steps, batch) = (5, 7, 6), (0.5, 0.8), (8, 4)
    layers = [torch.nn.Linear(n, m) for n, m in pairwise(sizes)]
    neurons = [sw.LIF(1 / (1 - decay)) for decay in decays]
    net = sw.Network(torch.nn.Sequential(layers[0], neurons[0], layers[1], neurons[1], torch.nn.Linear(6, 3)).double())
    x, y = 2 * torch.rand(steps, batch, 5, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    list(rule.updates(net, x, y, sw.losses.PerStep(torch.nn.CrossEntropyLoss())))
    readouts = [rule.get_buffer(f"readout_{site}").double() for site in (1, 3)]
    found = [torch.zeros_like(layer.weight) for layer in layers]
    traces, potentials = ([torch.zeros(batch, n, dtype=torch.float64) for n in part] for part in (sizes[:2], sizes[1:]))
    for step in x:
        spikes = step
        for i, (layer, decay) in enumerate(zip(layers, decays)):
            traces[i] = decay * traces[i] + spikes
            u = decay * potentials[i] + layer(spikes).detach()
            spikes, half = (u >= 1).double(), torch.sigmoid(4 * (u - 1))
            potentials[i] = u - spikes
            local = (spikes @ readouts[i]).softmax(1) - torch.nn.functional.one_hot(y, 3)
            error = local @ readouts[i].T * 4 * half * (1 - half)
            found[i] += error.T @ traces[i] / (batch * steps)
    for layer, expected in zip(layers, found):
        torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-10, atol=1e-12)
        assert expected.any()


def extending(scope: Scope) -> None:
    rule = scope["Decayed"]
    net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
    x, y = 3 * torch.rand(6, 5, 4), torch.tensor([0, 1, 2, 1, 0])
    loss = sw.losses.PerStep(torch.nn.CrossEntropyLoss())
    whole, cut = (sw.certify(net, rule(chunk=chunk), x, y, loss) for chunk in (None, 4))
    assert {"Plain", "Escaping", "assert_rule", "assert_neuron"} <= scope.keys()
    decolle(scope["DECOLLE"]())
    assert whole.ok
    assert [row.relative_error for row in whole.rows] == pytest.approx(
        [row.relative_error for row in cut.rows], abs=1e-5
    )


CLAIMS: dict[str, Callable[[Scope], None]] = {
    "README.md": readme,
    "docs/training.md": training,
    "docs/continual.md": tasks,
    "docs/reasoning.md": reasoning,
    "docs/extending.md": extending,
}


@pytest.fixture(autouse=True)
def in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Blocks that leave a run leave it elsewhere."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.compile` traces as always and then runs what it found, instead of compiling it for half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


@pytest.mark.filterwarnings("ignore:.*(torch.jit|should not be instantiated):DeprecationWarning")  # from within torch
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
@pytest.mark.long
def test_the_blocks_of_a_page_run(page: Path) -> None:
    for package in NEEDS.get(page.relative_to(ROOT).as_posix(), ()):
        pytest.importorskip(package)
    scopes = run(page)
    claim = CLAIMS.get(page.relative_to(ROOT).as_posix())
    if claim:
        claim(scopes[0])


@pytest.mark.filterwarnings("ignore")  # of packages that are not this library's
@pytest.mark.parametrize(("page", "package"), OPTIONAL, ids=[f"{page.stem}-{package}" for page, package in OPTIONAL])
def test_the_blocks_that_need_a_package_run(page: Path, package: str) -> None:
    pytest.importorskip(package)
    assert run(page, package)
