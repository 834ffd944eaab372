"""Layers with weights: their linear operations, and the autograd function that gives them other weight gradients."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
