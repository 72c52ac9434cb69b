"""Who asks: signed in by the hub at the public listener, named by the header on our own socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from jupyterhub.services.auth import HubOAuthenticated
from pydantic import ValidationError
from tornado.web import HTTPError, RequestHandler

from ..access import OWN_NAMES, is_admin
from ..client import PERSON_HEADER
from ..errors import Forbidden, HubUnavailable
from ..wire import Person

# Lets a token, also a service's, read metrics and the whole health.
METRICS_SCOPE = "custom:binder:metrics"
# What an administrator has, and a token of theirs only if they did not ask for less.
FULL_SCOPE = "admin:users"


def _acts_fully(handler: HubOAuthenticated, scopes: frozenset[str]) -> bool:
    """Whether somebody acts with all their rights: signed in at a browser, or by a token without limits.

    JupyterHub says `admin` of the owner of any token, however few scopes it was given. A session says nothing
    either: each token has one that a person's browser gave to any service. JupyterHub marks a request for
    which a token of its own vouches, not our cookie.
    """
    return not getattr(handler, "_token_authenticated", False) or FULL_SCOPE in scopes


def _not_ours(person: Person) -> Person:
    """The person; raises `Forbidden` where the name would make them the owner of what is the service's own.

    Administrators own that as it is, and one may be the only person of a desktop.
    """
    if person.name in OWN_NAMES and not is_admin(person):
        raise Forbidden(
            f"The name '{person.name}' is the service's own: only an administrator may have it.",
            "Ask the administrator for an account with another name.",
        )
    return person


async def _model_of(handler: HubOAuthenticated) -> Mapping[str, Any] | None:
    """What JupyterHub says of who asks, or None."""
    try:
        found: Mapping[str, Any] | None = await handler.hub_auth.get_user(handler, sync=False)
    except HTTPError as error:
        raise HubUnavailable(
            f"JupyterHub did not say who you are: {error.log_message or error.status_code}",
            "Try again in a moment; if it stays so, ask the administrator whether the hub runs.",
        ) from None
    return found


class Door(Protocol):
    """One of the two listeners: knows who came through it, and with which hub token."""

    own: bool  # whether only our own processes can come through

    async def person(self, handler: HubOAuthenticated) -> Person | None: ...
    async def monitors(self, handler: HubOAuthenticated) -> bool: ...
    def token(self, handler: HubOAuthenticated) -> str: ...


class HubDoor:
    """The public listener: the hub says who it is, by cookie or token.

    JupyterHub's own check refuses a cookie on anything but a page visit unless the XSRF token comes with
    it (`HubOAuth._get_user_cookie`), so nothing is added or overridden here.
    """

    own = False

    async def person(self, handler: HubOAuthenticated) -> Person | None:
        """The signed-in person, or None; raises `Forbidden` for those who may not use the service."""
        model = await _model_of(handler)
        if not model:
            return None
        if model.get("kind", "user") != "user":
            raise Forbidden(
                f"The token belongs to the service {model.get('name')!r}, not to a person.",
                "Use a token of a person's account.",
            )
        scopes = frozenset(model.get("scopes", ()))
        if not handler.hub_auth.check_scopes(handler.hub_auth.access_scopes, {**model, "scopes": scopes}):
            raise Forbidden(
                f"{model['name']} may not use The Littlest Binder on this hub.",
                "Ask the administrator for the scope `access:services!service=binder`.",
            )
        return _not_ours(
            Person(
                name=model["name"],
                admin=bool(model.get("admin")) and _acts_fully(handler, scopes),
                groups=tuple(sorted(model.get("groups") or ())),
                scopes=tuple(sorted(scopes)),
            )
        )

    async def monitors(self, handler: HubOAuthenticated) -> bool:
        """Whether who asks may read metrics: an administrator, or the owner of a token with the scope for
        it, which may be a service.
        """
        model = await _model_of(handler)
        if not model:
            return False
        scopes = frozenset(model.get("scopes", ()))
        admin = bool(model.get("admin")) and _acts_fully(handler, scopes)
        person = model.get("kind", "user") == "user"
        return METRICS_SCOPE in scopes or (
            person and is_admin(Person(name=model["name"], admin=admin, scopes=tuple(scopes)))
        )

    def token(self, handler: HubOAuthenticated) -> str:
        """The person's own hub token, used at the click and never stored."""
        return handler.hub_auth.get_token(handler) or ""


class SocketDoor:
    """Our own socket, which only root (on a desktop: the person) can open: the header is believed."""

    own = True

    async def person(self, handler: RequestHandler) -> Person | None:
        """The person of the header; raises `Forbidden` if it is not one."""
        header = handler.request.headers.get(PERSON_HEADER)
        if not header:
            return None
        try:
            person = Person.model_validate_json(header)
        except ValidationError:
            raise Forbidden(
                f"The header {PERSON_HEADER} does not name a person: {header[:80]!r}.",
                'Send JSON such as {"name": "ada"}.',
            ) from None
        return _not_ours(person)

    async def monitors(self, handler: RequestHandler) -> bool:
        """Whether the person of the header is an administrator."""
        person = await self.person(handler)
        return person is not None and is_admin(person)

    def token(self, handler: RequestHandler) -> str:
        """The hub token that came along, or nothing."""
        kind, _, value = handler.request.headers.get("Authorization", "").partition(" ")
        return value.strip() if kind.lower() in ("token", "bearer") else ""
