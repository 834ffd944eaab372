"""The process that `apart` starts: reads a pickled step from standard input, and prints its memory as the last line."""

import json
import pickle
import sys
from dataclasses import asdict

import torch

from spikewright._util.allocator import return_freed_memory
from spikewright.bench.apart import measure_here


def main() -> None:
    """Measure the step."""
    isolated, threads = pickle.load(sys.stdin.buffer)
    torch.set_num_threads(threads)
    return_freed_memory()
    try:
        use = measure_here(isolated)
    except ImportError as error:
        sys.exit(str(error))
    print(json.dumps(asdict(use)))


if __name__ == "__main__":
    main()
