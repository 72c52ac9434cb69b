"""`reference/requests.md`: what the handlers and models of the API say of themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from described import docstring_of, kind_of, link_to, meaning_of, shown
from pydantic import BaseModel

from tljh_plugin import wire
from tljh_plugin.launch.options import LaunchOptions
from tljh_plugin.service.api.launches import LaunchRequest
from tljh_plugin.service.app import API_ROUTES, OWN_API_ROUTES
from tljh_plugin.service.links import LinkView

METHODS = ("get", "post", "patch", "delete")
MODELS = {
    name: model
    for name, model in {**vars(wire), "LinkView": LinkView}.items()
    if inspect.isclass(model) and issubclass(model, BaseModel)
    if model not in (BaseModel, wire.Wire, wire.Person)
}


@dataclass(frozen=True)
class Request:
    """A method of an address; `query` is what may follow it, `body` what it reads."""

    method: str
    path: str
    query: str
    does: str
    body: type[BaseModel] | None

    @property
    def resource(self) -> str:
        """The first part of the address."""
        return self.path.partition("/")[0]


def requests_page() -> str:
    """`reference/requests.md`: every request of the API, what it takes and what it answers."""
    lines = [
        "# Requests and answers",
        "",
        "Every address below `/services/binder/api/v1/`; [API](api.md) says how to ask. `{…}` stands for an",
        "id or a name. Bodies are JSON objects, in which a key that is not here is refused, as one is that",
        "should be of another type. Answers are JSON objects, or lists of them; a reader ignores keys that",
        "it does not know.",
        "",
    ]
    asked = list(all_requests(API_ROUTES))
    for resource in dict.fromkeys(each.resource for each in asked):
        lines += [
            f"## {resource}",
            "",
            *request_lines(each for each in asked if each.resource == resource),
            "",
        ]
    own = list(all_requests(OWN_API_ROUTES))
    lines += ["## Of the hub alone", "", "On the service's own Unix socket.", "", *request_lines(own), ""]
    bodies = dict.fromkeys(each.body for each in [*asked, *own] if each.body is not None)
    lines += ["## Bodies", ""]
    for model in (*bodies, LaunchOptions, wire.Credential):
        lines += [f"### {model.__name__}", "", docstring_of(model), "", *body_lines(model), ""]
    lines += ["## Answers", ""]
    for model in MODELS.values():
        if model not in bodies and model not in (wire.Credential, wire.BuildRequest):
            lines += [f"### {model.__name__}", "", docstring_of(model), "", *answer_lines(model), ""]
    return "\n".join(lines)


def all_requests(routes: Sequence[tuple[str, type[Any]]]) -> Iterator[Request]:
    """Every method of every address; what it does is its docstring, which may begin with a query.

    Raises `ValueError` where there is none.
    """
    for route, handler in routes:
        for method in METHODS:
            if method not in vars(handler):
                continue
            answers = vars(handler)[method]
            said = re.fullmatch(r"(?:`(\?\S+)`: )?(.+)", " ".join((inspect.getdoc(answers) or "").split()))
            if said is None:
                raise ValueError(f"{handler.__name__}.{method} does not say what it does.")
            path = route
            for name in list(inspect.signature(answers).parameters)[1:]:
                path = path.replace("([^/]+)", f"{{{name.removesuffix('_id')}}}", 1)
            read = re.search(r"self\.body\((\w+)\)", inspect.getsource(answers))
            body = answers.__globals__[read[1]] if read else None
            yield Request(method.upper(), path, said[1] or "", said[2], body)


def request_lines(requests: Iterable[Request]) -> list[str]:
    """The table of some requests, the shortest address first."""
    lines = ["| method and path | does | body |", "| --- | --- | --- |"]
    for each in sorted(requests, key=lambda each: each.path.count("/")):
        asked = f"`{each.method} {each.path}`" + (f" `{each.query}`" if each.query else "")
        does = re.sub(r"`(\w+)`", _linked, each.does)
        lines.append(f"| {asked} | {does[0].upper()}{does[1:]} | {link_to(each.body) if each.body else ''} |")
    return lines


def _linked(name: re.Match[str]) -> str:
    return link_to(MODELS[name[1]]) if name[1] in MODELS else name[0]


def body_lines(model: type[BaseModel]) -> list[str]:
    """The keys of a body, and what holds where one is missing."""
    # The options of a launch have a table of their own.
    left_out = {"version", *LaunchOptions.model_fields} if model is LaunchRequest else {"version"}
    lines = ["| key | value | without it | meaning |", "| --- | --- | --- | --- |"]
    for key, field in model.model_fields.items():
        if key not in left_out:
            without = "(required)" if field.is_required() else shown(field.default)
            lines.append(f"| `{key}` | {kind_of(field.annotation)} | {without} | {meaning_of(model, key)} |")
    return lines


def answer_lines(model: type[BaseModel]) -> list[str]:
    """The keys of an answer."""
    lines = ["| key | value | meaning |", "| --- | --- | --- |"]
    lines += [
        f"| `{key}` | {kind_of(field.annotation)} | {meaning_of(model, key)} |"
        for key, field in model.model_fields.items()
        if key != "version"
    ]
    return lines
