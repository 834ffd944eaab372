"""Models of timm with spiking neurons for activations: one step of online training each, and where neurons are."""

import timm
import torch
from torch import nn

import spikewright as sw

MODELS = {
    "resnet18": 32,
    "resnet10t": 32,
    "vgg11_bn": 32,
    "regnetx_002": 32,
    "convnext_atto": 32,
    "vit_tiny_patch16_224": 32,
}
"""Names, and sizes of images."""


def neurons(*_: object, **__: object) -> sw.LIF:
    """Make a layer of neurons; timm passes `inplace`, and VGG does so by place."""
    return sw.LIF()


def train(name: str, size: int) -> tuple[int, int, float]:
    """Return the numbers of layers of neurons and of parameters that changed, and the loss."""
    torch.manual_seed(0)
    given = {"img_size": size} if name.startswith("vit") else {}
    net = sw.Network(timm.create_model(name, act_layer=neurons, num_classes=4, **given))
    rule, loss = sw.rules.OTTT(), sw.losses.PerStep(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x, y = torch.rand(2, 3, size, size).expand(3, -1, -1, -1, -1), torch.tensor([0, 3])  # a static image, 3 steps
    before = [p.detach().clone() for p in net.parameters()]
    (update,) = rule.updates(net, x, y, loss)
    optimizer.step()
    changed = sum(not torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    return len(update.rates), changed, update.loss.item()


def main() -> dict[str, tuple[int, int, float]]:
    found = {name: train(name, size) for name, size in MODELS.items()}
    for name, (layers, changed, loss) in found.items():
        print(f"{name}: {layers} layers of neurons, {changed} parameters learned, loss {loss:.3f}")
    return found


if __name__ == "__main__":
    main()
