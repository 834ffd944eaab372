#!/bin/sh
# nirtorch 2.6: the padding of SumPool2d is left out without a word.
#
# SumPool2d(kernel 2, stride 2, padding 1) over ones [1, 6, 6] gives [1, 4, 4], as the output type of the node says, with
# 1 in the corners, 2 at the edges and 4 inside. `nirtorch.nir_to_torch` with its own map of nodes returns a module that
# gives [1, 3, 3], all 4, and warns of nothing; AvgPool2d keeps its padding.
#
# Exits 0 while this is so, 1 if it changes, 2 if the packages cannot be installed.
set -u
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nir==1.0.8 nirtorch==2.6 torch==2.13.0 numpy || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import nir
import nirtorch
import numpy as np
import torch

sizes = {"kernel_size": np.array([2, 2]), "stride": np.array([2, 2]), "padding": np.array([1, 1])}
found, raised = {}, []
for kind in (nir.AvgPool2d, nir.SumPool2d):
    pool = kind(**sizes)
    ends = {"input": nir.Input(np.array([1, 6, 6])), "output": nir.Output(np.array([1, 4, 4]))}
    graph = nir.NIRGraph({**ends, "pool": pool}, [("input", "pool"), ("pool", "output")])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = nirtorch.nir_to_torch(graph, {})
    raised += [str(w.message) for w in caught if "pad" in str(w.message)]
    output = module(torch.ones(1, 1, 6, 6))
    output = output[0] if isinstance(output, tuple) else output
    found[kind.__name__] = list(output.shape[1:])
    print(f"nirtorch {version('nirtorch')}, {kind.__name__}: node {pool.output_type['output'].tolist()}, "
          f"module {found[kind.__name__]}, corner {output.flatten()[0].item():g}")
print("warnings:", raised)
expected = {"AvgPool2d": [1, 4, 4], "SumPool2d": [1, 3, 3]}
sys.exit(0 if found == expected and not raised else 1)
PYTHON
