"""A rule in Lightning's Trainer: online updates, clipping and a scheduler, to the weights of a plain loop."""

from collections.abc import Iterable
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import spikewright as sw

CLIP = 0.5


class Model(sw.interop.LightningMixin, lightning.LightningModule):
    def __init__(self, online: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = sw.Network(nn.Sequential(nn.Linear(20, 32), sw.LIF(), nn.Linear(32, 16), sw.LIF(), nn.Linear(16, 4)))
        self.rule = sw.rules.OTTT(online=online)
        self.loss = sw.losses.PerStep(nn.CrossEntropyLoss())
        self.batch_first, self.clip_norm = True, CLIP

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def data() -> DataLoader[Any]:
    source = torch.Generator().manual_seed(1)
    x, y = torch.rand(64, 6, 20, generator=source), torch.arange(64) % 4  # [N, T, features]
    return DataLoader(TensorDataset(x, y), 16)


def plain(model: Model, loader: Iterable[tuple[Tensor, Tensor]], epochs: int) -> None:
    (optimizer,), (schedule,) = model.configure_optimizers()
    for _ in range(epochs):
        for x, y in loader:
            for _ in model.rule.updates(model.net, x, y, model.loss, batch_first=True):
                nn.utils.clip_grad_norm_(model.net.parameters(), CLIP)
                optimizer.step()
                optimizer.zero_grad()
        schedule.step()


def main() -> dict[str, float]:
    found: dict[str, float] = {}
    for online in (False, True):
        model, other = Model(online), Model(online)
        quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", enable_model_summary=False, **quiet)
        trainer.fit(model, data())
        plain(other, data(), epochs=2)
        pairs = zip(model.net.parameters(), other.net.parameters(), strict=True)
        found["online" if online else "once"] = max((a - b).abs().max().item() for a, b in pairs)
        print(f"{model.rule}: {trainer.global_step} steps, largest difference to the plain loop {found}")
    return found


if __name__ == "__main__":
    main()
