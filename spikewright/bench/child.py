"""The process that `apart` starts: it reads a trial from standard input and prints what it used as its last line."""

import json
import pickle
import sys
from dataclasses import asdict

import torch

from spikewright.bench.apart import measure_here


def main() -> None:
    """Do the one trial."""
    trial, threads = pickle.load(sys.stdin.buffer)
    torch.set_num_threads(threads)
    try:
        use = measure_here(trial)
    except ImportError as error:
        sys.exit(str(error))
    print(json.dumps(asdict(use)))


if __name__ == "__main__":
    main()
