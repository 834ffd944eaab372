# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # The memory of a long sequence
#
# Backpropagation through time keeps what every step computed until the backward pass. How much that is, and which
# rules do without, is measured here on a network of three layers, without training it.

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

import spikewright as sw

torch.manual_seed(0)
net = sw.Network(
    nn.Sequential(nn.Linear(64, 128), sw.LIF(tau=2.0), nn.Linear(128, 128), sw.LIF(tau=2.0), nn.Linear(128, 10))
)
rules = {
    "BPTT": sw.rules.BPTT(),
    "BPTT, checkpoint": sw.rules.BPTT(checkpoint=True),
    "SLTT": sw.rules.SLTT(),
    "OTTT": sw.rules.OTTT(),
}

# %% [markdown]
# ## Activation memory by length
#
# `plan` runs a training step and counts the bytes that autograd keeps, for a few lengths; where they lie on a line,
# the rest is read off it. `report` names the lengths.

# %%
lengths = (16, 64, 256, 1024)
kept = {}
for name, rule in rules.items():
    rows = sw.plan(net, rule, (16, 8, 64), report=lengths).rows
    kept[name] = {row.steps: row.saved_bytes for row in rows if row.steps in lengths}
    print(name.ljust(18), {steps: f"{size / 1024:.0f} KiB" for steps, size in kept[name].items()})

# %%
_, axes = plt.subplots(figsize=(5, 3), layout="constrained")
for name, sizes in kept.items():
    axes.plot(sizes.keys(), [size / 1024 for size in sizes.values()], marker="o", label=name)
axes.set(xscale="log", yscale="log", xlabel="time steps", ylabel="saved for backward, KiB")
axes.legend()
plt.gcf()

# %% [markdown]
# BPTT grows with T, with checkpoints with its square root, and the rules that learn step by step do not grow.
#
# ## What a shorter memory costs
#
# SLTT and OTTT pay with a gradient that is not that of BPTT. How far off it is depends on how much membranes
# retain: it is least with a time constant of 1.1 steps, and most of the gradient with 4.


# %%
def distance(rule, tau):
    """Return the largest relative error of a gradient, of all parameters."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(64, 128), sw.LIF(tau), nn.Linear(128, 128), sw.LIF(tau), nn.Linear(128, 10))
    for parameter in module.parameters():
        parameter.data *= 3
    x, y = torch.rand(20, 8, 64), torch.randint(10, (8,))
    check = sw.certify(sw.Network(module), rule, x, y, sw.losses.PerStep(nn.CrossEntropyLoss()))
    return max(row.relative_error for row in check.rows)


errors = {name: [distance(rules[name], tau) for tau in (1.1, 2.0, 4.0)] for name in ("SLTT", "OTTT")}
for name, values in errors.items():
    print(name, [f"{value:.2f}" for value in values])
