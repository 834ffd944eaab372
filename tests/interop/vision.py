"""torchvision beside a build of torch that it was not made for, as far as timm needs it."""

import sys
from importlib import import_module
from typing import Any

import pytest
import torch


def timm() -> Any:
    """Return timm, or skip the test. A torchvision of another build lacks its operators: two are declared for it."""
    pytest.importorskip("safetensors")
    try:
        return import_module("timm")
    except ImportError as error:
        return pytest.skip(f"timm cannot be imported: {error}")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "timm")]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor a, Tensor b, float c) -> Tensor")
        return import_module("timm")
