#!/bin/sh
# nir 1.0.4 and 1.0.8: a file with neurons that the newer one writes cannot be read by the older one.
#
# nir 1.0.8 writes the field v_reset of LIF, IF and CubaLIF, also where nobody gave it, and nir 1.0.4 hands every field of
# the file to the constructor of the node: TypeError, unexpected keyword argument 'v_reset'.  The file holds a version,
# which is not looked at.  The other way round the file is read, with v_reset = 0.  It matters because sinabs 3.1.3 asks
# for nir <= 1.0.4, while SpikingJelly 2.0, snnTorch 1.0 and Norse 1.1 install the newest.
#
# Exits 0 while this is so, 1 if it changes, 2 if the packages cannot be installed.
set -u
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 1.0.4 1.0.8; do
    python3 -m venv "$folder/$version" || exit 2
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check nir==$version numpy h5py || exit 2
    "$folder/$version/bin/python" - "$folder/$version.nir" <<'PYTHON' || exit 1
import sys

import nir
import numpy as np

ones = np.ones(2)
nodes = {
    "input": nir.Input(np.array([2])),
    "lif": nir.LIF(tau=5 * ones, r=ones, v_leak=0 * ones, v_threshold=ones),
    "output": nir.Output(np.array([2])),
}
nir.write(sys.argv[1], nir.NIRGraph(nodes, [("input", "lif"), ("lif", "output")]))
PYTHON
done
cat > "$folder/read.py" <<'PYTHON'
import sys
from importlib.metadata import version

import h5py
import nir

with h5py.File(sys.argv[1]) as file:
    stored = file["version"][()].decode()
try:
    lif = nir.read(sys.argv[1]).nodes["lif"]
    found = f"read, tau {lif.tau.tolist()}, v_reset {getattr(lif, 'v_reset', 'absent')}"
except TypeError as error:
    found = f"TypeError: {error}"
print(f"nir {version('nir')} reads a file of version {stored}: {found}")
sys.exit(0 if found.startswith(sys.argv[2]) else 1)
PYTHON
"$folder/1.0.4/bin/python" "$folder/read.py" "$folder/1.0.4.nir" read || exit 1
"$folder/1.0.8/bin/python" "$folder/read.py" "$folder/1.0.4.nir" read || exit 1
"$folder/1.0.8/bin/python" "$folder/read.py" "$folder/1.0.8.nir" read || exit 1
"$folder/1.0.4/bin/python" "$folder/read.py" "$folder/1.0.8.nir" "TypeError: LIF.__init__() got an unexpected keyword" || exit 1
