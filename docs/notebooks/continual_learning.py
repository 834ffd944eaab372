# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Learning one task after another
#
# The ten digits in five tasks of two classes that share two outputs: 0 or 1, 2 or 3, and so on. A network that
# learns them one after another forgets the first ones. HLOP around the rule keeps later gradients out of the
# directions of old inputs.

# %%
import torch
from torch import nn

import spikewright as sw
from spikewright.continual import AccuracyMatrix, split
from spikewright.data import load
from spikewright.plots import accuracy_matrix

STEPS, EPOCHS = 6, 8
scenario = split(load("digits"), tasks=5, heads=False)


def as_current(images):
    """Show every image for some steps: [time, batch, pixels], normalised."""
    x = (images.flatten(1).float() / 255 - 0.3) / 0.38
    return x.expand(STEPS, *x.shape)


# %% [markdown]
# The loop over tasks is an ordinary training loop with three more lines: `freeze` holds still what cannot be
# protected, `check_optimizer` refuses what would leave the directions of gradients, and `next_task` says that a
# task is over.


# %%
def learn(rule):
    """Learn all tasks; return the accuracy on every task after every task."""
    torch.manual_seed(0)
    net = sw.Network(
        nn.Sequential(
            nn.Linear(64, 200, bias=False),
            sw.LIF(),
            nn.Linear(200, 200, bias=False),
            sw.LIF(),
            nn.Linear(200, 2, bias=False),
        )
    )
    loss, matrix = sw.losses.OnRate(nn.CrossEntropyLoss()), AccuracyMatrix()
    for task in range(len(scenario)):
        images, labels = scenario.task(task).train.images, scenario.task(task).train.labels
        net.train()
        rule.freeze(net)
        optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
        rule.check_optimizer(optimizer)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(images)).split(32):
                for _update in rule.updates(net, as_current(images[rows]), labels[rows], loss):
                    optimizer.step()
                    optimizer.zero_grad()
        rule.next_task(net, as_current(images), labels, loss)
        matrix.add([accuracy(net, scenario.task(old).test) for old in range(task + 1)])
    return matrix


def accuracy(net, test):
    """Return the share of test images that the mean output over time gets right."""
    net.eval()
    with torch.no_grad():
        output, _ = net.run(as_current(test.images))
    return (output.mean(0).argmax(1) == test.labels).float().mean().item()


# %%
matrices = {
    "naive": learn(sw.rules.Naive(sw.rules.BPTT())),
    "HLOP": learn(sw.rules.HLOP(sw.rules.BPTT(), rows=0.15)),
}
for name, matrix in matrices.items():
    print(f"{name.ljust(6)} accuracy {100 * matrix.acc:.1f} %, backward transfer {100 * matrix.bwt:+.1f} points")

# %% [markdown]
# Row k holds the accuracies after task k. Without protection the columns fade from top to bottom.

# %%
accuracy_matrix(matrices["naive"].rows)

# %%
accuracy_matrix(matrices["HLOP"].rows)
