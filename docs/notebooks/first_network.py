# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A first network, and another rule
#
# A spiking network learns the 8 x 8 digits of scikit-learn with backpropagation through time. Then the rule is
# swapped, in one line, and the gradients of the two are compared.

# %%
import torch
from torch import nn

import spikewright as sw
from spikewright.data import load
from spikewright.plots import raster

torch.manual_seed(0)
digits = load("digits")


def as_current(images, steps=6):
    """Show every image for some steps: [time, batch, pixels], from 0 to 1."""
    x = images.flatten(1).float() / 255
    return x.expand(steps, *x.shape)


x_train, y_train = digits.train.images, digits.train.labels
x_test, y_test = as_current(digits.test.images), digits.test.labels
print(tuple(x_train.shape), "->", tuple(as_current(x_train).shape))

# %% [markdown]
# The network is an ordinary torch module with `sw.LIF` where activations would be. It has no time axis:
# `sw.Network` runs it over the sequence and keeps the membrane potentials.


# %%
def build():
    """Return the network, always with the same first weights."""
    torch.manual_seed(1)
    return sw.Network(nn.Sequential(nn.Linear(64, 128), sw.LIF(tau=2.0), nn.Linear(128, 10)))


def train(net, rule, epochs=5):
    """Train, and return the accuracy on the test images."""
    loss = sw.losses.PerStep(nn.CrossEntropyLoss())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x_train)).split(64):
            for _update in rule.updates(net, as_current(x_train[rows]), y_train[rows], loss):
                optimizer.step()
                optimizer.zero_grad()
    net.eval()
    with torch.no_grad():
        output, _ = net.run(x_test)
    return (output.mean(0).argmax(1) == y_test).float().mean().item()


# %% [markdown]
# ## Swap the rule
#
# BPTT keeps the graph of all steps. SLTT and OTTT keep that of one step. The network, the loss and the optimizer
# stay as they are.

# %%
rules = {"BPTT": sw.rules.BPTT(), "SLTT": sw.rules.SLTT(), "OTTT": sw.rules.OTTT()}
nets = {name: build() for name in rules}
accuracy = {name: train(nets[name], rule) for name, rule in rules.items()}
for name, value in accuracy.items():
    print(f"{name}  {100 * value:.1f} %")

# %% [markdown]
# ## How far is a rule from BPTT?
#
# `certify` compares the gradients on the same batch, parameter by parameter. With one layer of neurons OTTT equals
# BPTT; SLTT drops what the membrane carries from step to step.

# %%
loss = sw.losses.PerStep(nn.CrossEntropyLoss())
batch = as_current(x_train[:64]), y_train[:64]
for name in ("SLTT", "OTTT"):
    print(sw.certify(build(), rules[name], *batch, loss).table(), "\n")

# %% [markdown]
# ## What the neurons do
#
# The spikes of the trained network for one image, shown for 30 steps. An observer sees the current and the spikes
# of every layer of neurons.


# %%
class Spikes:
    """Keeps the spikes of every layer of neurons."""

    def __init__(self):
        self.chunks = {}

    def neuron(self, site, current, spikes):
        self.chunks.setdefault(site, []).append(spikes)

    def synapse(self, site, operation, x, weight, current):
        """Nothing is kept of layers with weights."""


spikes = Spikes()
with torch.no_grad():
    nets["OTTT"].run(as_current(digits.test.images[:1], steps=30), observers=(spikes,))
raster({site: torch.cat(chunks) for site, chunks in spikes.chunks.items()})
