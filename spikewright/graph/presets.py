"""Default hyper-parameters by graph, from the papers where they give any."""

from typing import Any

Tree = dict[str, dict[str, Any]]

_SMALL: Tree = {
    "model": {"scale": 0.3},
    "optimizer": {"lr": 0.005},
    "train": {"batch_size": 32, "negatives": 32, "temperature": 0.5},
}
_INDUCTIVE: Tree = {"optimizer": {"lr": 0.005}, "train": {"batch_size": 32, "negatives": 50}}
_CITATION: Tree = {
    "model": {"dependent": False, "symmetric": True},
    "train": {"batch_size": 32, "negatives": 1, "between": True},
}
PRESETS: dict[str, Tree] = {
    **dict.fromkeys(("nations", "umls", "kinships"), _SMALL),
    "family": {**_SMALL, "train": {**_SMALL["train"], "epochs": 5}},
    "fb15k-237": {
        "model": {"scale": 0.1},
        "train": {"batch_size": 5, "accumulate": 6, "negatives": 256, "temperature": 0.5, "between": True},
    },
    "wn18rr": {"train": {"batch_size": 8, "accumulate": 4, "negatives": 256, "temperature": 1.0}},
    **{f"fb237_v{k}": {**_INDUCTIVE, "train": {**_INDUCTIVE["train"], "temperature": 0.5}} for k in range(1, 5)},
    **{f"wn18rr_v{k}": {**_INDUCTIVE, "train": {**_INDUCTIVE["train"], "temperature": 1.0}} for k in range(1, 5)},
    **dict.fromkeys(("cora", "citeseer"), _CITATION),
}


def preset(name: str) -> Tree:
    """Return the default sections of a graph; empty if there are none."""
    return {section: dict(table) for section, table in PRESETS.get(name.lower(), {}).items()}
