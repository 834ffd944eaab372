"""Trains a network by a rule with a trainer of another library; run alone or by torchrun.

python -m tests.interop.trained LIBRARY RULES FOLDER [drift]
"""

import os
import sys
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import spikewright as sw
from spikewright.train.group import present_ranks

SAMPLES, BATCH, RATE = 24, 8, 0.05
WORLD = int(os.environ.get("WORLD_SIZE", "1"))
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
RULES: dict[str, Any] = {
    "OTTT-A": lambda: sw.rules.OTTT(),
    "OTTT-O": lambda: sw.rules.OTTT(online=True),
    "BPTT": lambda: sw.rules.BPTT(),
    "OPZO": lambda: sw.rules.OPZO(),
}
LOSS = sw.losses.PerStep(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]).double()))
"""With weights of classes, the mean over processes is not the loss of the whole batch."""


class Samples(Dataset[Any]):
    """Sequences `[T, features]` with labels, in double precision."""

    def __init__(self) -> None:
        source = torch.Generator().manual_seed(1)
        self.x = 2 * torch.rand(SAMPLES, 5, 8, generator=source, dtype=torch.float64)
        self.y = torch.randint(3, (SAMPLES,), generator=source)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


class Named(Samples):
    """The same as dictionaries."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:  # type: ignore[override]
        return {"x": self.x[index], "labels": self.y[index]}


def network() -> sw.Network:
    torch.manual_seed(0)
    linear = partial(nn.Linear, dtype=torch.float64)
    return sw.Network(nn.Sequential(linear(8, 12), sw.LIF(), linear(12, 6), sw.LIF(), linear(6, 3)))


def plain(rule: sw.rules.Rule) -> sw.Network:
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    for x, y in DataLoader(Samples(), BATCH):
        for _ in rule.updates(net, x, y, LOSS, batch_first=True):
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    return net


def lightning(rule: sw.rules.Rule) -> sw.Network:
    pl = import_module("lightning")

    class Model(sw.interop.LightningMixin, pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.rule, self.loss = network(), rule, LOSS
            self.batch_first, self.clip_norm = True, 0.5

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.net.parameters(), lr=RATE)

        def train_dataloader(self) -> Any:
            data = Samples()
            sampler = DistributedSampler(data, shuffle=False) if WORLD > 1 else None  # Lightning's own one shuffles
            return DataLoader(data, BATCH // WORLD, sampler=sampler)

    model = Model()
    several: dict[str, Any] = {"strategy": "ddp", "devices": WORLD} if WORLD > 1 else {"devices": 1}
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", precision="64-true", **several, **QUIET)
    trainer.fit(model)
    assert trainer.global_step == 3 * (5 if getattr(rule, "online", False) else 1)
    return model.net


def transformers(rule: sw.rules.Rule) -> sw.Network:
    library = import_module("transformers")

    class Trainer(sw.interop.TransformersMixin, library.Trainer): ...

    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    args = library.TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH // WORLD,
        num_train_epochs=1,
        max_grad_norm=0.5,
        train_sampling_strategy="sequential",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        ddp_backend="gloo" if WORLD > 1 else None,
    )
    steady = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    given: dict[str, Any] = {"rule": rule, "loss": LOSS, "batch_first": True, "optimizers": (optimizer, steady)}
    Trainer(model=net, args=args, train_dataset=Named(), **given).train()
    return net


def main(library: str, rules: str, out: str, drift: str = "") -> None:
    if drift:  # what happens when every process keeps its own gradients
        import_module("spikewright.interop.stepping").sum_gradients = lambda parameters, share: None
    for name in rules.split(","):
        rule = RULES[name]()
        net = {"lightning": lightning, "transformers": transformers}[library](rule)
        torch.save(learned(net, rule), Path(out) / f"{name} {present_ranks().rank}.pt")


def learned(net: sw.Network, rule: sw.rules.Rule) -> dict[str, Tensor]:
    """Return parameters of the network, and what the rule keeps."""
    state = {**dict(net.module.named_parameters()), **{f"rule.{k}": v for k, v in rule.state_dict().items()}}
    return {name: value.detach() for name, value in state.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
