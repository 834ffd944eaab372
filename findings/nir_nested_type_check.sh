#!/bin/sh
# nir 1.0.8: `type_check=False` does not reach nested graphs.
#
# A graph with a grouped convolution is refused by nir.read, because the input of the convolution is declared with
# weight.shape[1] channels, those of one group. `type_check=False` is there for such cases, and reads the graph. The same
# graph as a node of another graph is refused all the same: graphs inside are built with the check on.
#
# Exits 0 while this is so, 1 if it changes, 2 if the package cannot be installed.
set -u
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nir==1.0.8 h5py numpy || exit 2
cd "$folder" && "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import nir
import numpy as np

weight, bias = np.ones((4, 2, 3, 3), np.float32), np.zeros(4, np.float32)
conv = nir.Conv2d(input_shape=(6, 6), weight=weight, stride=1, padding=1, dilation=1, groups=2, bias=bias)


def around(node):
    ends = {"input": nir.Input(np.array([4, 6, 6])), "output": nir.Output(np.array([4, 6, 6]))}
    return nir.NIRGraph({**ends, "node": node}, [("input", "node"), ("node", "output")], type_check=False)


found = {}
for name, graph in {"plain": around(conv), "nested": around(around(conv))}.items():
    nir.write("graph.nir", graph)
    try:
        found[name] = type(nir.read("graph.nir", type_check=False)).__name__
    except ValueError as error:
        found[name] = f"ValueError: {error}"
    print(f"nir {nir.version}, {name:6} type_check=False: {found[name]}")
sys.exit(0 if found["plain"] == "NIRGraph" and found["nested"].startswith("ValueError") else 1)
PYTHON
