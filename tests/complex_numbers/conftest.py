import pytest


@pytest.fixture(autouse=True)
def in_float64(float64: None) -> None:
    """Equalities between gradients are asked to the last digits."""
