"""Without a GPU the kernels are interpreted, on the CPU.  Triton decides on its import which of the two it does."""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

collect_ignore = ["compiled.py"]  # a program, which imports Triton
