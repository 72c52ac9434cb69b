"""What the code says of itself, as the reference pages show it."""

from __future__ import annotations

import functools
import inspect
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from sphinx.pycode import ModuleAnalyzer

_KINDS = {
    str: "text",
    SecretStr: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Any: "value",
}


def shown(value: Any) -> str:
    """A default as it stands in YAML."""
    if value is None or value in ("", (), {}):
        return "(none)"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{value}`"


def docstring_of(model: type) -> str:
    """Its own, on one line. Raises `ValueError` where it has none."""
    if not model.__doc__ or model.__doc__ == BaseModel.__doc__:
        raise ValueError(f"{model.__name__} does not say what it is.")
    return " ".join(inspect.cleandoc(model.__doc__).split())


def kind_of(annotation: Any) -> str:
    """A type as JSON has it; a model as a link to its keys on the same page."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in inner)
    if origin in (Union, UnionType):
        return " or ".join("null" if each is NoneType else kind_of(each) for each in inner)
    if origin is tuple:
        return f"list of {kind_of(inner[0])}"
    if origin is dict:
        return f"object of {kind_of(inner[1])}"
    if annotation in _KINDS:
        return _KINDS[annotation]
    return link_to(annotation)


def link_to(model: type) -> str:
    """To the keys of a model on the same page."""
    return f"[`{model.__name__}`](#{model.__name__.lower()})"


def meaning_of(model: type[BaseModel], key: str) -> str:
    """What the comment `#:` at a key says. Raises `KeyError` where there is none."""
    for each in model.__mro__:
        if each is not BaseModel and (each.__name__, key) in _comments(each.__module__):
            return " ".join(" ".join(_comments(each.__module__)[each.__name__, key]).split())
    raise KeyError(f"{model.__name__}.{key} has no comment `#:`")


def constants_of(module: str) -> dict[str, str]:
    """What the comments `#:` at the constants of a module say, in their order."""
    said = {name: words for (of, name), words in _comments(module).items() if not of}
    return {name: " ".join(" ".join(words).split()) for name, words in said.items()}


@functools.cache
def _comments(module: str) -> dict[tuple[str, str], list[str]]:
    """By class and attribute what its comment says, as Sphinx reads it."""
    if module == "builtins":
        return {}
    return ModuleAnalyzer.for_module(module).find_attr_docs()
