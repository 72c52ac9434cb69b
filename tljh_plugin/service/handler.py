"""The base of every handler: who asks, strict bodies, safe headers, and errors as answers."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from jupyterhub.services.auth import HubOAuthenticated
from jupyterhub.utils import get_browser_protocol
from pydantic import BaseModel, ValidationError
from tornado.web import Finish, HTTPError, RequestHandler

from .. import request_ids
from ..access import is_admin
from ..errors import BinderError, Forbidden, InvalidRequest, NotFound, NotSignedIn, UnexpectedFailure
from ..source.providers import shown
from ..tables import as_csv
from ..wire import Person, Wire

if TYPE_CHECKING:
    from .auth import Door
    from .context import Context
    from .in_work import InWork

log = logging.getLogger("littlest_binder.service")

_SECRET = re.compile("credential|password|passwd|token|secret|username", re.IGNORECASE)

MAX_BODY_BYTES = 64 * 1024

_Model = TypeVar("_Model", bound=BaseModel)


class Handler(HubOAuthenticated, RequestHandler):  # type: ignore[misc]
    """A handler behind one of the two doors; `self.person` is who asks.

    `open_to_all` handlers answer people who are not signed in; then `self.signed_in` may be None.
    """

    open_to_all = False
    # Whether the service waits for the answer before it ends.
    is_waited_for = True
    signed_in: Person | None = None

    def initialize(self) -> None:
        self.hub_auth = self.settings["hub_auth"]
        if self.is_waited_for:
            self.in_work.begin(self)
        # The request's own task is made after this, and takes it over.
        request_ids.begin(self.request_id)

    def on_finish(self) -> None:
        self.in_work.end(self)

    @property
    def in_work(self) -> InWork:
        """The requests that are being answered."""
        found: InWork = self.settings["in_work"]
        return found

    @cached_property
    def request_id(self) -> str:
        """By which the logs know this request: the sender's, where it is one, else ours."""
        return request_ids.valid(self.request.headers.get(request_ids.HEADER)) or request_ids.new()

    @property
    def context(self) -> Context:
        """The service's parts."""
        context: Context = self.settings["context"]
        return context

    @property
    def door(self) -> Door:
        """Through which listener the request came."""
        door: Door = self.settings["door"]
        return door

    @property
    def person(self) -> Person:
        """Who asks."""
        if self.signed_in is None:
            raise NotSignedIn("You are not signed in.", "Sign in and try again.")
        return self.signed_in

    @property
    def hub_address(self) -> str:
        """The address below which the hub's own pages are, as the browser knows it; ends with `/`."""
        environment = self.context.environment
        own = f"{get_browser_protocol(self.request)}://{self.request.host}"
        return (environment.hub_host or own) + environment.hub_prefix.removesuffix("hub/")

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        if self.in_work.last:
            self.set_header("Connection", "close")
        self.set_header(request_ids.HEADER, self.request_id)
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

    async def prepare(self) -> None:
        self.signed_in = await self.door.person(self)
        if self.signed_in is None and not self.open_to_all:
            self.ask_to_sign_in()

    def ask_to_sign_in(self) -> None:
        """Answer somebody who is not signed in; pages send people to the hub."""
        raise NotSignedIn(
            "You are not signed in, or the request came without its XSRF token.",
            "Send a JupyterHub token (`Authorization: token …`), or sign in and send `X-XSRFToken`.",
        )

    def only_administrators(self) -> None:
        """Raises `Forbidden` for everybody else."""
        if not is_admin(self.person):
            raise Forbidden(
                f"{self.person.name} is not an administrator.", "Ask an administrator of this hub to do it."
            )

    def get_current_user(self) -> Any:
        # JupyterHub's own would block the event loop; `prepare` has asked already.
        return self.signed_in

    def log_exception(self, *_: Any) -> None:
        """Said once, in `explain`, with the id that the person sees."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = explain(
            kwargs.get("exc_info", (None, None, None))[1], f"{self.request.method} {shown(self.request.path)}"
        )
        self.set_status(error.http_status)
        self.answer_error(error)

    def answer_table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a table as CSV, to be saved as `name`."""
        self.answer_file(f"{name}.csv", "text/csv", as_csv(header, rows))

    def answer_file(self, name: str, kind: str, content: str) -> None:
        """Write a file to be saved as `name`."""
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.finish(content)

    def wants_table(self) -> bool:
        """Whether `format=csv` was asked for; raises `InvalidRequest` for another than that and `json`."""
        text = self.get_query_argument("format", "json")
        if text not in ("json", "csv"):
            raise InvalidRequest(f"The query has `format={text:.40}`.", "Send `format=csv` or `format=json`.")
        return text == "csv"

    def answer_error(self, error: BinderError) -> None:
        """Write the error; its status is set already."""
        raise NotImplementedError


class ApiHandler(Handler):
    """A handler of the JSON API."""

    def answer(self, value: Wire | list[Any], status: int = 200) -> None:
        """Write a view, or a list of views, as JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        if isinstance(value, Wire):
            self.finish(value.model_dump_json())
        else:
            self.finish("[" + ",".join(item.model_dump_json() for item in value) + "]")

    def answer_error(self, error: BinderError) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(error.to_dict()))

    def body(self, model: type[_Model]) -> _Model:
        """The request's JSON as `model`; raises `InvalidRequest` naming the first bad key and its value."""
        return parse_body(self.request.body, self.request.headers.get("Content-Type", ""), model)

    def flag(self, name: str) -> bool:
        """Whether the query has `name=1` (or `true`); any other value but `0` or `false` is refused."""
        value = self.get_query_argument(name, "0").lower()
        if value not in ("0", "1", "true", "false"):
            raise InvalidRequest(f"The query has `{name}={value:.40}`.", f"Send `{name}=1` or leave it out.")
        return value in ("1", "true")


def parse_body(content: bytes, content_type: str, model: type[_Model]) -> _Model:
    """Strict JSON: one object, its type declared, no key twice, none unknown, no value of another type."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequest(
            f"The body has the type {content_type or 'of nothing'!r:.80}.",
            "Send `Content-Type: application/json`.",
        )
    try:
        value = json.loads(content, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"The body is not valid JSON: {error}.", "Correct it and send it again."
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"The body must be a JSON object, got {value!r:.80}.", "Send {…}.")
    unknown = sorted(set(value) - set(model.model_fields))
    if unknown:
        raise InvalidRequest(
            f"Unknown key `{unknown[0]:.80}` (value {_shown(unknown[0], value[unknown[0]])}).",
            f"Known keys: {', '.join(model.model_fields)}.",
        )
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the body"
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(
            f"`{key}` has the value {_shown(key, first['input'])}: {reason}.", "Correct it and send it again."
        ) from None


def _shown(key: str, value: Any) -> str:
    """A value as a message shows it; one that may be a secret is not shown."""
    return "…" if _SECRET.search(key) else f"{value!r:.80}"


def _no_key_twice(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has the same key twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def explain(error: BaseException | None, request: str) -> BinderError:
    """What a person is told about an exception; an unexpected one gets an id that is also in the log."""
    if isinstance(error, BinderError):
        if error.http_status >= 500:
            log.warning("%s: %s (%s)", request, error, error.code)
        return error
    if isinstance(error, Finish):
        raise error
    if isinstance(error, HTTPError):
        return _of_status(error.status_code, request, error.log_message or "")
    number = request_ids.current() or request_ids.new()
    log.error("%s failed unexpectedly, id %s", request, number, exc_info=error)
    return UnexpectedFailure(
        f"Something went wrong that we did not foresee (id {number}).",
        f"Tell the administrator the id: the service's log says more under {number}.",
    )


def _of_status(status: int, request: str, detail: str) -> BinderError:
    if status == 404:
        return NotFound(f"There is nothing at {request.partition(' ')[2]}.", "Go back to the front page.")
    if status == 405:
        return InvalidRequest(f"{request} is not possible.", "Use another method.", code="method-not-allowed")
    if status == 403:
        return Forbidden(detail or "That is not allowed.", "Reload the page and try again.")
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = str(status)
    return InvalidRequest(detail or f"{phrase}.", "Correct the request and send it again.")


class NoSuchApi(ApiHandler):
    """Whatever is not in the route table, below the API."""

    def prepare(self) -> None:  # type: ignore[override]
        raise HTTPError(404)
