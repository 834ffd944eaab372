import pytest


@pytest.fixture(autouse=True)
def with_nir() -> None:
    """These tests read and write files of NIR."""
    pytest.importorskip("nir")
    pytest.importorskip("h5py")
