"""A rule in the Trainer of transformers, to the weights of a plain loop; checkpoints are the trainer's."""

import tempfile
from typing import Any

import torch
import transformers
from torch import nn

import spikewright as sw

SAMPLES, BATCH, CLIP = 64, 16, 0.5


class RuleTrainer(sw.interop.TransformersMixin, transformers.Trainer): ...


def network() -> sw.Network:
    torch.manual_seed(0)
    return sw.Network(nn.Sequential(nn.Linear(20, 32), sw.LIF(), nn.Linear(32, 16), sw.LIF(), nn.Linear(16, 4)))


def data() -> list[dict[str, Any]]:
    source = torch.Generator().manual_seed(1)
    x = torch.rand(SAMPLES, 6, 20, generator=source)  # [T, features] each
    return [{"x": x[i], "labels": i % 4} for i in range(SAMPLES)]


def plain(net: sw.Network, rule: sw.rules.Rule, loss: sw.losses.Loss, optimizer: torch.optim.Optimizer) -> None:
    for at in range(0, SAMPLES, BATCH):
        part = data()[at : at + BATCH]
        x, y = torch.stack([each["x"] for each in part]), torch.tensor([each["labels"] for each in part])
        for _ in rule.updates(net, x, y, loss, batch_first=True):
            nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()


def main() -> dict[str, float]:
    found: dict[str, float] = {}
    rule, loss = sw.rules.OTTT(online=True), sw.losses.PerStep(nn.CrossEntropyLoss())
    for kind, rate in ((torch.optim.SGD, 0.1), (torch.optim.AdamW, 0.01)):
        net, other = network(), network()
        steady = torch.optim.lr_scheduler.ConstantLR(optimizer := kind(net.parameters(), lr=rate), 1.0)
        args = transformers.TrainingArguments(
            tempfile.mkdtemp(), per_device_train_batch_size=BATCH, num_train_epochs=1, max_grad_norm=CLIP,
            train_sampling_strategy="sequential", use_cpu=True, report_to=[], disable_tqdm=True,
        )  # fmt: skip
        trainer = RuleTrainer(
            model=net, args=args, train_dataset=data(), eval_dataset=data(), optimizers=(optimizer, steady),
            rule=rule, loss=loss, batch_first=True,
        )  # fmt: skip
        trainer.train()
        plain(other, rule, loss, kind(other.parameters(), lr=rate))
        pairs = zip(net.parameters(), other.parameters(), strict=True)
        found[kind.__name__] = max((a - b).abs().max().item() for a, b in pairs)
        print(f"{kind.__name__}: largest difference {found}; evaluation {trainer.evaluate()['eval_loss']:.3f}")
    return found


if __name__ == "__main__":
    main()
