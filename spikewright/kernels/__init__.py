"""Compiled kernels of neurons, traces and rates, with the same in plain PyTorch beside them."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
