#!/bin/sh
# torch 2.13.0: the gradient of a maximum over messages, taken without the initial value.
#
# Message passing takes the largest message per node with index_reduce or scatter_reduce, reduce "amax" and
# include_self=False, into a tensor of zeros. A node with a single message then has that message as its maximum, and
# one expects the gradient 1. Where the message is exactly 0, as messages of silent spiking neurons are, it is 0.5: the
# excluded initial value counts as a tie in the backward pass. Into a tensor of -inf it is 1.
#
# Exits 0 while this is so, 1 if it changes, 2 if the package cannot be installed.
set -u
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5 || exit 2
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch

print("torch", torch.__version__)
node, found = torch.tensor([0]), {}
for reduce in ("index_reduce", "scatter_reduce"):
    for initial in (0.0, -torch.inf):
        for value in (0.0, 1.0, -1.0):
            message = torch.tensor([value], requires_grad=True)
            start = torch.full((1,), initial)
            largest = getattr(start, reduce)(0, node, message, "amax", include_self=False)
            largest.sum().backward()
            found[reduce, initial, value] = largest.item(), message.grad.item()
            print(f"{reduce:14} into {initial:4}: message {value:4} maximum {largest.item():4} "
                  f"gradient {message.grad.item()}")
expected = {
    key: (key[2], 0.5 if key[1:] == (0.0, 0.0) else 1.0) for key in found
}
sys.exit(0 if found == expected else 1)
PYTHON
