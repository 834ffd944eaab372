"""Optimizers that cannot step, or step the wrong way, are refused before training; Muon and AdamW work as one."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import StepLR

from spikewright.errors import ConfigError
from spikewright.train import MuonAdamW, build, configure, train_experiment
from spikewright.train.components import OPTIMIZERS, construct
from spikewright.train.schedule import SCHEDULES
from tests.train.support import TINY, same, tiny, weights

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
FLAGS = ("foreach", "fused", "capturable", "differentiable", "maximize")


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 3))


def made(name: str, **arguments: Any) -> Optimizer:
    return construct("optimizer", OPTIMIZERS, {"name": name, **arguments}, net().parameters())


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"muon"}))
def test_every_optimizer_steps_with_its_defaults(name: str) -> None:
    assert same(made(name).state_dict(), OPTIMIZERS[name](net().parameters()).state_dict()), "the trial left a trace"


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"muon", "muon_adamw"}))
@pytest.mark.parametrize("flag", FLAGS)
def test_an_option_works_or_is_refused_before_training(name: str, flag: str) -> None:
    """The other program: a step on the parameters themselves, from 0 and with gradients of 1."""
    if flag not in OPTIMIZERS[name].__init__.__code__.co_varnames:  # type: ignore[misc]
        return
    parameters = [nn.Parameter(torch.zeros_like(p)) for p in net().parameters()]
    try:
        optimizer = OPTIMIZERS[name](parameters, **{flag: True})
        for p in parameters:
            p.grad = torch.ones_like(p)
        optimizer.step()
        works = all(bool((p < 0).all()) for p in parameters)
    except (RuntimeError, AssertionError, ValueError):
        works = False
    if works:
        made(name, **{flag: True})
    else:
        with pytest.raises(ConfigError, match=f"optimizer = {name} .*{flag}"):
            made(name, **{flag: True})


def test_what_would_train_without_learning_is_refused() -> None:
    for name, arguments, message in (
        ("sgd", {"lr": float("nan")}, r"optimizer.lr = nan: .* Give finite numbers"),
        ("adam", {"betas": [0.9, float("nan")]}, r"optimizer.betas = .*Give finite numbers"),
        ("sgd", {"weight_decay": float("inf")}, r"optimizer.weight_decay = inf"),
        ("sgd", {"lr": 0.0}, r"moves no parameter.*learning rate above 0"),
        ("adam", {"maximize": True}, r"does not go down the gradient.*leave out maximize"),
    ):
        with pytest.raises(ConfigError, match=message):
            made(name, **arguments)
    with pytest.raises(ConfigError, match=r"schedule.gamma = nan: .* Give finite numbers"):
        construct("schedule", SCHEDULES, {"name": "exponentiallr", "gamma": float("nan")}, made("sgd"), 1, 1)


@pytest.mark.parametrize(
    "options", [{"warmup": float("nan")}, {"warmup": float("inf")}, {"floor": -1.0}, {"warmup": -1}]
)
def test_a_cosine_that_is_none_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"cosine\({next(iter(options))}="):
        build(tiny(schedule={"name": "cosine", **options}))


@needs_muon
def test_muon_alone_says_what_takes_the_rest() -> None:
    with pytest.raises(ConfigError, match=r"Muon only supports 2D parameters.*name it muon_adamw"):
        made("muon")


def stepped(optimizer: Optimizer, parameters: list[nn.Parameter], steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    for _ in range(steps):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


@needs_muon
def test_matrices_are_those_of_muon_and_the_rest_those_of_adamw() -> None:
    """The other program: two optimizers of torch, each on its own parameters."""
    ours, theirs = net(), net()
    together = MuonAdamW(ours.parameters(), lr=0.03, weight_decay=0.2)
    matrices = [p for p in theirs.parameters() if p.dim() == 2]
    rest = [p for p in theirs.parameters() if p.dim() != 2]
    assert len(matrices) == 2 and len(rest) == 6
    apart = [
        torch.optim.Muon(matrices, lr=0.03, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
        AdamW(rest, lr=0.03, weight_decay=0.2),
    ]
    plan, plans = StepLR(together, 2, 0.5), [StepLR(one, 2, 0.5) for one in apart]
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        together.step()
        plan.step()
        for one, its in zip(apart, plans):
            one.step()
            its.step()
    assert same([*ours.state_dict().values()], [*theirs.state_dict().values()])
    assert not torch.equal(ours[0].weight, net()[0].weight)
    assert [group["lr"] for group in together.param_groups] == [0.03 * 0.5**2] * 2


@needs_muon
@pytest.mark.parametrize("way", ["state_dict", "deepcopy"])
def test_a_run_of_both_is_taken_up_again(way: str) -> None:
    first, again = net(), net()
    optimizer = MuonAdamW(first.parameters())
    stepped(optimizer, [*first.parameters()], 3)
    if way == "deepcopy":
        again, other = copy.deepcopy((first, optimizer))
    else:
        again.load_state_dict(first.state_dict())
        other = MuonAdamW(again.parameters(), lr=1.0)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for module, one in ((first, optimizer), (again, other)):
        stepped(one, [*module.parameters()], 2)
    assert same(first.state_dict(), again.state_dict())
    assert same(optimizer.state_dict()["state"], other.state_dict()["state"])


@needs_muon
def test_groups_keep_what_they_were_given() -> None:
    module = net()
    groups = [{"params": [*module[0].parameters()], "lr": 0.5}, {"params": [*module[2].parameters()]}]
    optimizer = MuonAdamW(groups, lr=0.1)
    assert [(g["kind"], g["lr"], len(g["params"])) for g in optimizer.param_groups] == [
        ("adamw", 0.5, 2),
        ("muon", 0.1, 1),
        ("adamw", 0.1, 1),
    ]


def test_what_is_no_parameter_is_refused() -> None:
    for params in ([], [{"params": []}], [("weight", torch.zeros(2, 2))], [3]):
        with pytest.raises(ConfigError, match="a group of parameters that is empty, or holds something else"):
            MuonAdamW(params)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"MuonAdamW\(betas=0.9\)"):
        MuonAdamW([nn.Parameter(torch.zeros(2, 2))], betas=0.9)  # type: ignore[arg-type]


def test_a_torch_without_muon_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ConfigError, match=r"has no torch.optim.Muon. Update torch, or use AdamW"):
        MuonAdamW([nn.Parameter(torch.zeros(2, 2))])


@needs_muon
@pytest.mark.long
def test_a_run_with_both_resumes_to_the_same_weights(tmp_path: Path) -> None:
    config = configure(TINY, ["optimizer.name=muon_adamw", "optimizer.lr=0.02", "train.epochs=2"])
    train_experiment(build(config), tmp_path / "whole")

    class Stop(Exception):
        pass

    experiment, steps = build(config), 0

    def counted(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 6:
            raise Stop

    experiment.optimizer.register_step_pre_hook(counted)
    with pytest.raises(Stop):
        train_experiment(experiment, tmp_path / "half")
    train_experiment(build(config), tmp_path / "half", resume=True)
    found: list[dict[str, Tensor]] = [weights(tmp_path / name) for name in ("whole", "half")]
    assert same(*found)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("sgd", {"momentum": 1.5}, r"SGD\(momentum=1.5\): .* in \[0, 1\)"),
        ("sgd", {"momentum": 0.9, "dampening": 2.0}, r"SGD\(dampening=2.0\): .* in \[0, 1\]"),
        ("rmsprop", {"momentum": 2.0}, r"RMSprop\(momentum=2.0\)"),
        ("asgd", {"lambd": -1.0}, r"ASGD\(lambd=-1.0\): .* at least 0"),
        ("asgd", {"alpha": -0.5}, r"ASGD\(alpha=-0.5\)"),
        ("rprop", {"step_sizes": [-1.0, 50.0]}, r"Rprop\(step_sizes=-1.0\)"),
        ("adafactor", {"eps": [-1.0, 0.001]}, r"Adafactor|epsilon|eps"),
    ],
)
def test_numbers_that_torch_takes_but_nothing_can_learn_from_are_refused(
    name: str, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        made(name, **given)
