"""`help()` of every public class and function stands alone: arguments with range, shape, choices and default."""

import ast
import doctest
import inspect
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import torch
from torch import Tensor

import spikewright
from spikewright import neurons, rules

PACKAGES = (
    "rules spatial solvers losses neurons surrogate layers reports metrics data events models sound continual graph "
    "train plots testing errors interop interop.nir"
).split()
SHOWN = [spikewright.Network, spikewright.certify, spikewright.plan, spikewright.energy]
"""What has an example beside every rule and every neuron."""
RANGE = re.compile(
    r"[<>≤≥]|\bat least\b|\bat most\b|\bin [\[(]|\bfrom \S+ to\b|\bbetween\b|\bany (finite |real |whole )?"
    r"(number|integer|value)|\b(not negative|non-negative|positive)\b",
    re.IGNORECASE,
)
SHAPE = re.compile(r"`\[[^`]*\]`|\bscalar\b|\bany shape\b")
ELSEWHERE = re.compile(r"\b[Ss]ee `|See there|: Of the |^\s*\w+: Of ", re.MULTILINE)


def public_names(module: types.ModuleType) -> list[str]:
    """Return `__all__`, or what a package exports as `X as X`, or what a module without such exports defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    tree = ast.parse(inspect.getsource(module))
    imported = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    exported = [alias.name for alias in imported if alias.asname == alias.name]
    defined = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return exported or [name for name in defined if not name.startswith("_")]


def public() -> dict[str, Any]:
    """Return every public class and function once, under the shortest of its names."""
    found: dict[int, tuple[str, Any]] = {}
    for package in ("", *PACKAGES):
        module = import_module(f"spikewright.{package}".rstrip("."))
        for name in public_names(module):
            item = getattr(module, name)
            if inspect.isclass(item) or inspect.isfunction(item):
                found.setdefault(id(item), (f"{package}.{name}".lstrip("."), item))
    return dict(sorted(found.values()))


PUBLIC = public()
every = pytest.mark.parametrize("name", PUBLIC)


def docstring(item: Any) -> str:
    """Return the docstring that an object has itself, cleaned; that of a base class does not count."""
    own = vars(item).get("__doc__") if inspect.isclass(item) else item.__doc__
    return inspect.cleandoc(own or "")


def entries(text: str, *sections: str) -> dict[str, str]:
    """Return what some sections of a docstring say of each name, in one line each."""
    found: dict[str, str] = {}
    inside, name = False, ""
    for line in text.splitlines():
        if line and not line.startswith(" "):
            inside = line in sections
        elif inside and (match := re.match(r" {4}(\*{0,2}\w+): (.*)", line)):
            name, found[match[1]] = match[1], match[2]
        elif inside and line.startswith(" " * 5) and name:
            found[name] += " " + line.strip()
    return found


def parameters(item: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function, or of the constructor of a class, by the name of their entry."""
    if inspect.isclass(item):
        initial = getattr(item, "__init__", None)
        if getattr(item, "_is_protocol", False) or not (inspect.isfunction(initial) or issubclass(item, tuple)):
            return {}  # nothing is constructed, or by a constructor that takes anything, as for errors
    signature = inspect.signature(item)
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return {stars.get(p.kind, "") + p.name: p for p in signature.parameters.values() if not p.name.startswith("_")}


def kinds(item: Any, parameter: inspect.Parameter) -> Iterator[Any]:
    """Yield the types of a parameter, the members of unions one by one."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        owner = getattr(item, "__init__", item) if inspect.isclass(item) else item
        try:
            annotation = eval(annotation, {**vars(typing), **getattr(owner, "__globals__", {})})
        except NameError:  # for type checkers only
            return
    todo = [annotation]
    while todo:
        kind = todo.pop()
        if get_origin(kind) in (Union, types.UnionType):
            todo.extend(get_args(kind))
        else:
            yield kind


def flaws(item: Any) -> list[str]:
    """Return what is missing in a docstring about its parameters."""
    text, expected = docstring(item), parameters(item)
    documented = entries(text, "Args:", *(["Attributes:"] if is_dataclass(item) else []))
    found = [f"{name} is no argument" for name in entries(text, "Args:") if name not in expected]
    for name, parameter in expected.items():
        if name not in documented:
            found.append(f"{name} has no entry under Args")
            continue
        entry = documented[name]
        if parameter.default is not inspect.Parameter.empty and not states(entry, parameter.default):
            found.append(f"{name} does not say 'Default: {parameter.default!r}'")
        for kind in kinds(item, parameter):
            if kind in (int, float) and not RANGE.search(entry):
                found.append(f"{name} is a number without a range ('> 0', 'at least 1', 'in (0, 1]', 'any integer')")
            if kind is Tensor and not SHAPE.search(entry):
                found.append(f"{name} is a tensor without a shape (`[time, batch, *feature]`)")
            if get_origin(kind) is Literal:
                unsaid = [choice for choice in get_args(kind) if not re.search(rf"[\"'`]{choice}[\"'`]", entry)]
                found.extend(f"{name} does not name its choice {choice!r}" for choice in unsaid)
    return found


def states(entry: str, default: Any) -> bool:
    """Whether an entry gives a default; if that is a plain value, whether it is this one."""
    match = re.search(r"\bDefault: (.+)", entry)
    if match is None:
        return False
    if not isinstance(default, bool | int | float | str | None):
        return True
    value = re.match(r"`?(\"[^\"]*\"|'[^']*'|[-+.\w]+)", match[1])
    try:
        said = ast.literal_eval(value[1].rstrip(".") if value else "")
    except (SyntaxError, ValueError):
        return False
    return bool(said == default) and isinstance(said, bool) == isinstance(default, bool)


@every
def test_every_argument_says_its_meaning_range_and_default(name: str) -> None:
    item = PUBLIC[name]
    assert docstring(item), f"{name} has no docstring of its own"
    found = flaws(item)
    assert not found, f"help(spikewright.{name}) is not enough: " + "; ".join(found)


@every
def test_no_docstring_sends_the_reader_elsewhere(name: str) -> None:
    item = PUBLIC[name]
    texts = {name: docstring(item)}
    for key, member in vars(item).items() if inspect.isclass(item) else ():
        if not key.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            texts[f"{name}.{key}"] = inspect.cleandoc(member.__doc__ or "")
    found = {key: match[0].strip() for key, text in texts.items() if (match := ELSEWHERE.search(text))}
    assert not found, f"these docstrings refer to another place instead of saying it: {found}"


def shown() -> list[Any]:
    """Return what has to have an example."""
    named = [
        item for item in PUBLIC.values() if inspect.isclass(item) and issubclass(item, rules.Rule | neurons.Neuron)
    ]
    return [*SHOWN, *(item for item in named if not item.__name__.endswith(("Rule", "Neuron")))]


@pytest.mark.parametrize("item", shown(), ids=lambda item: item.__name__)
def test_examples_are_shown_and_checked(item: Any) -> None:
    examples = doctest.DocTestParser().get_examples(docstring(item))
    assert any(example.want for example in examples), f"help of {item.__name__} has no example with a result"


def test_the_names_are_those_that_users_import() -> None:
    some = "Network LIF certify rules.OTTT spatial.DKP losses.PerStep errors.ShapeError models.VGG fit plots.curves"
    assert set(some.split()) <= PUBLIC.keys()
    assert {rules.OTTT, rules.SPIDE, rules.Naive, neurons.LIF} <= set(shown())


@every
def test_examples_run_as_they_stand(name: str) -> None:
    """Pasted into an empty interpreter, they import what they use."""
    examples = doctest.DocTestParser().get_examples(docstring(PUBLIC[name]))
    shown: list[str] = []
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # that of an empty interpreter
    try:
        test = doctest.DocTest(examples, {}, name, None, None, None)
        doctest.DocTestRunner(verbose=False).run(test, out=shown.append)
    finally:
        torch.set_default_dtype(usual)
    assert not shown, "".join(shown)
