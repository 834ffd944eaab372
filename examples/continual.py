"""Learn three permutations of the digits one after another, by OTTT alone and with HLOP around it."""

import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright import data

STEPS, TASKS, EPOCHS = 4, 3, 2
Task = tuple[Tensor, Tensor, Tensor, Tensor]


def permuted(digits: data.Dataset, task: int) -> Task:
    """Return training and test data whose pixels are in another order for each task."""
    order = torch.randperm(64, generator=torch.Generator().manual_seed(task))
    parts = []
    for split in (digits.train, digits.test):
        x = (split.images.flatten(1)[:, order] / 255 - digits.mean[0]) / digits.std[0]
        parts += [x.expand(STEPS, *x.shape), split.labels]
    return parts[0], parts[1], parts[2], parts[3]


def build() -> sw.Network:
    torch.manual_seed(0)
    return sw.Network(nn.Sequential(nn.Linear(64, 200, bias=False), sw.LIF(), nn.Linear(200, 10, bias=False)))


def learn(rule: sw.rules.ContinualRule, tasks: list[Task]) -> list[float]:
    """Return the test accuracy of every task after the last."""
    net, loss = build(), sw.losses.PerStep(nn.CrossEntropyLoss())
    order = torch.Generator().manual_seed(0)
    for x, y, _, _ in tasks:
        net.train()
        rule.freeze(net)
        optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
        for batch in [b for _ in range(EPOCHS) for b in torch.randperm(len(y), generator=order).split(32)]:
            for _ in rule.updates(net, x[:, batch], y[batch], loss):
                optimizer.step()
                optimizer.zero_grad()
        rule.next_task(net, x[:, :64], y[:64], loss)
    with torch.no_grad():
        return [(net.run(x)[0].mean(0).argmax(1) == y).float().mean().item() for _, _, x, y in tasks]


def main() -> dict[str, list[float]]:
    torch.set_num_threads(1)
    digits = data.load("digits")
    tasks = [permuted(digits, task) for task in range(TASKS)]
    rules = {"OTTT": sw.rules.Naive(sw.rules.OTTT()), "HLOP of OTTT": sw.rules.HLOP(sw.rules.OTTT(), rows=0.3)}
    found = {name: learn(rule, tasks) for name, rule in rules.items()}
    for name, values in found.items():
        print(f"{name:12}  accuracy after the last task: {', '.join(f'{value:.1%}' for value in values)}")
    return found


if __name__ == "__main__":
    main()
