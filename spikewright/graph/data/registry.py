"""Graph data sets by name."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from spikewright._util.arguments import shown
from spikewright.errors import ConfigError, nearest
from spikewright.graph.data.citation import citation
from spikewright.graph.data.dataset import GraphData
from spikewright.graph.data.family import family
from spikewright.graph.data.inductive import SPLITS, inductive
from spikewright.graph.data.overlap import warn_of_overlap
from spikewright.graph.data.transductive import bundled, folder, published
from spikewright.train.arguments import check_type, hints

_LOADERS: dict[str, Callable[..., GraphData]] = {
    **{name: partial(bundled, name) for name in ("nations", "umls", "kinships")},
    **{name: partial(published, name) for name in ("wn18rr", "fb15k-237")},
    **{name: partial(inductive, name) for name in SPLITS},
    **{name: partial(citation, name) for name in ("cora", "citeseer")},
    "family": family,
    "folder": folder,
    "inductive": inductive,
}
_OWN_FILES = ("folder", "inductive")


def graph_names() -> list[str]:
    """Return the sorted names of all graph data sets.

    >>> from spikewright.graph import graph_names
    >>> "family" in graph_names()
    True
    """
    return sorted(_LOADERS)


def graph_loader(name: str) -> Callable[..., GraphData]:
    """Return the function that loads a graph; its signature shows the options.

    Args:
        name: One of `graph_names()`, in upper or lower case.

    Raises:
        ConfigError: The graph is unknown.
    """
    known = {spelling.lower(): loader for spelling, loader in _LOADERS.items()}
    if not isinstance(name, str) or name.lower() not in known:
        raise ConfigError(f"The graph {shown(name)} is unknown. {nearest(name, _LOADERS)}")
    return known[name.lower()]


def load_graph(name: str, data_dir: Path | str | None = None, **options: Any) -> GraphData:
    """Load a graph data set by name. Nothing is downloaded.

    Own files ("folder", "inductive") whose queries are also facts, or about entities or relations without facts, get a
    `UserWarning` with their number and an example.

    Args:
        name: One of `graph_names()`: "nations", "umls", "kinships" (files of the package pykeen), "wn18rr",
            "fb15k-237", "fb237_v1" to "fb237_v4" and "WN18RR_v1" to "WN18RR_v4" (inductive), "cora", "citeseer"
            (homogeneous), "family" (generated), "folder" and "inductive" (own files).
        data_dir: Folder with the files. Default: None, allowed for graphs without files and for those of pykeen.
        **options: Further arguments of `graph_loader(name)`.

    Raises:
        ConfigError: The graph or an option is unknown, an option has the wrong type, or a required one is missing.
        DatasetMissing: The files are not there.
        DatasetCorrupt: A file is damaged, or is not the published one.

    >>> from spikewright.graph import load_graph
    >>> len(load_graph("family", trees=2).relations)
    17
    """
    function = graph_loader(name)
    known = inspect.signature(function).parameters
    choices = known.keys() - {"data_dir"}
    unknown = sorted(options.keys() - choices)
    if unknown:
        advice = nearest(unknown[0], choices) if choices else "It has none."
        raise ConfigError(f"The graph '{name}' has no option '{unknown[0]}'. {advice}")
    missing = sorted(option for option in choices - options.keys() if known[option].default is inspect.Parameter.empty)
    if missing:
        raise ConfigError(
            f"The graph '{name}' was asked for without the option '{missing[0]}', which has no default. "
            f"Give {missing[0]}=...; see help(graph_loader('{name}'))."
        )
    types: dict[str, Any] = hints(function.func if isinstance(function, partial) else function)
    for option, value in options.items():
        check_type(option, f"the graph '{name}'", value, types)
    if "data_dir" in known:
        options["data_dir"] = data_dir
    data = function(**options)
    if name.lower() in _OWN_FILES:
        warn_of_overlap(data)
    return data
