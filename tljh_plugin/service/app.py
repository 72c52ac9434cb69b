"""The service's two listeners over one set of parts.

The public listener is where JupyterHub's proxy sends people; the Unix socket is for the hub, the command
line and nobody else. Both serve the same API; pages are public only, `prepare` and `release` private only.

The route tables below name every address, relative to `/services/binder/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application

from .. import __version__
from ..client import API
from ..installation import ensure_state, secret
from ..settings import Settings
from ..source.providers import shown
from ..time_limit import within
from .api.accounting import AccountingReport
from .api.audit import AuditEntries
from .api.binderhub import BinderHubStream
from .api.builds import BuildEvents, BuildLogLines, Builds, OneBuild, Resolve, RetryBuild
from .api.disk import DiskHistory, DiskState, StoredMirrors
from .api.doctor import DoctorReport
from .api.health import HealthState, Versions
from .api.images import Images, OneImage
from .api.launches import LaunchEvents, LaunchList, Link
from .api.metrics import Metrics
from .api.mounts import MountList
from .api.moves import Adoptable, AdoptImage, LookForNewer, RebuildImage, RescanImages
from .api.prepare import Prepare, Release
from .api.profiles import ProfileList
from .api.projects import AdoptStorage, OneProject, ProjectList, StorageState, UndeleteProject
from .api.runs import OneRun, RunRetention, Runs
from .api.transfers import ExportImage, ImportImage
from .auth import Door, HubDoor, SocketDoor
from .context import Context, open_context
from .environment import from_environment
from .events import StreamHandler
from .handler import MAX_BODY_BYTES, NoSuchApi
from .in_work import InWork
from .pages.accounting import AccountingPage
from .pages.audit import AuditPage
from .pages.builds import BuildPage, BuildsPage, CancelBuild
from .pages.confirm import Confirm
from .pages.deletion import PlanDeletion, RunPage, StopRun
from .pages.disk import DiskPage, RemoveMirrors
from .pages.doctor import DoctorPage
from .pages.folders import FoldersPage, LetGoOfFolder, PickFolder
from .pages.front import FrontPage, Go
from .pages.image import EditImage, OneImagePage
from .pages.images import ImagesPage, NewImage, ShareImage
from .pages.launch import LaunchPage, RemoveServer, StartServer, StopServer
from .pages.moves import (
    AdoptPage,
    NewerImagePage,
    NewerPage,
    RebuildImagePage,
    RescanPage,
    RetryBuildPage,
)
from .pages.old_links import Badge, OldRepoLink
from .pages.page import NoSuchPage, Static
from .pages.projects import DeleteProject, ProjectsPage, RenameProject, UndeleteProjectPage
from .pages.retention import RetentionPage
from .pages.signed_in import SignedIn
from .sockets import Sockets
from .templates import STATIC, static_version

log = logging.getLogger("littlest_binder.service")

Routes = Sequence[tuple[str, type[Any]]]

API_ROUTES: Routes = [
    (r"health", HealthState),
    (r"metrics", Metrics),
    (r"link", Link),
    (r"resolve", Resolve),
    (r"builds", Builds),
    (r"builds/([^/]+)", OneBuild),
    (r"builds/([^/]+)/retry", RetryBuild),
    (r"builds/([^/]+)/log", BuildLogLines),
    (r"builds/([^/]+)/events", BuildEvents),
    (r"images", Images),
    (r"images/rescan", RescanImages),
    (r"images/adoptable", Adoptable),
    (r"images/adopt", AdoptImage),
    (r"images/newer", LookForNewer),
    (r"images/import", ImportImage),
    (r"images/([^/]+)", OneImage),
    (r"images/([^/]+)/rebuild", RebuildImage),
    (r"images/([^/]+)/export", ExportImage),
    (r"projects", ProjectList),
    (r"projects/([^/]+)", OneProject),
    (r"projects/([^/]+)/undelete", UndeleteProject),
    (r"retention", RunRetention),
    (r"runs", Runs),
    (r"runs/([^/]+)", OneRun),
    (r"audit", AuditEntries),
    (r"accounting", AccountingReport),
    (r"disk", DiskState),
    (r"disk/history", DiskHistory),
    (r"mirrors", StoredMirrors),
    (r"doctor", DoctorReport),
    (r"storage", StorageState),
    (r"storage/adopt", AdoptStorage),
    (r"mounts", MountList),
    (r"profiles", ProfileList),
    (r"launches", LaunchList),
    (r"launches/([^/]+)/events", LaunchEvents),
]
# Behind our own socket only.
OWN_API_ROUTES: Routes = [(r"prepare", Prepare), (r"release", Release)]
PAGE_ROUTES: Routes = [
    (r"", FrontPage),
    (r"go", Go),
    (r"v2/(.+)", Confirm),
    (r"launch/([^/]+)", LaunchPage),
    (r"launch/([^/]+)/start", StartServer),
    (r"launch/([^/]+)/stop", StopServer),
    (r"launch/([^/]+)/remove", RemoveServer),
    (r"builds", BuildsPage),
    (r"builds/([^/]+)", BuildPage),
    (r"builds/([^/]+)/cancel", CancelBuild),
    (r"builds/([^/]+)/retry", RetryBuildPage),
    (r"images", ImagesPage),
    (r"images/rescan", RescanPage),
    (r"images/adopt", AdoptPage),
    (r"images/newer", NewerPage),
    (r"images/new", NewImage),
    (r"images/plan", PlanDeletion),
    (r"images/([^/]+)", OneImagePage),
    (r"images/([^/]+)/edit", EditImage),
    (r"images/([^/]+)/share", ShareImage),
    (r"images/([^/]+)/rebuild", RebuildImagePage),
    (r"images/([^/]+)/newer", NewerImagePage),
    (r"runs/([^/]+)", RunPage),
    (r"runs/([^/]+)/stop", StopRun),
    (r"retention", RetentionPage),
    (r"disk", DiskPage),
    (r"disk/mirrors", RemoveMirrors),
    (r"doctor", DoctorPage),
    (r"audit", AuditPage),
    (r"accounting", AccountingPage),
    (r"folders", FoldersPage),
    (r"folders/pick", PickFolder),
    (r"folders/([^/]+)/forget", LetGoOfFolder),
    (r"projects", ProjectsPage),
    (r"projects/([^/]+)/rename", RenameProject),
    (r"projects/([^/]+)/delete", DeleteProject),
    (r"projects/([^/]+)/undelete", UndeleteProjectPage),
    (r"oauth_callback", SignedIn),
    (r"repo/([^/]+)/([^/]+)/?", OldRepoLink),
    (r"build/(.+)", BinderHubStream),
    (r"versions", Versions),
]

# How often is looked whether the hub has handed over other settings.
_LOOK_S = 2.0
# How long requests may take that are in work when the service ends or begins anew.
_LAST_ANSWERS_S = 5.0
# A request's body, and a connection without one or with half a head of it.
_SLOW_BODY_S, _IDLE_S = 30.0, 120.0


async def serve(settings: Settings, sockets: Sockets, others: Callable[[], bool]) -> bool:
    """Run the service until SIGTERM or SIGINT, or until `others`, asked every few seconds, says that there
    are other settings now. Whether it was the latter: then it is to be run with those, on the same `sockets`.

    Raises `SettingsError` if it cannot start.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request to the hub
    environment = from_environment()
    ensure_state(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_context(settings, environment) as context, listening(context, sockets):
        log.info(
            "The Littlest Binder %s serves %s and %s; state in %s, logs of builds in %s",
            __version__,
            environment.url,
            settings.service_socket,
            settings.state_dir,
            settings.log_dir,
        )
        while not await _is_told(stop):
            if await asyncio.to_thread(others):
                log.info("The hub has other settings now: beginning anew with them (builds go on after that)")
                return True
        log.info("Told to stop")
        return False


async def _is_told(stop: asyncio.Event) -> bool:
    """Whether it is, within `_LOOK_S`."""
    with contextlib.suppress(asyncio.TimeoutError):
        await within(_LOOK_S, stop.wait())
    return stop.is_set()


@contextlib.asynccontextmanager
async def listening(context: Context, sockets: Sockets) -> AsyncIterator[None]:
    """Both listeners, closed again with their connections once what came in is answered.

    Raises `SettingsError` if an address is taken.
    """
    in_work = InWork()
    servers = [_listen_publicly(context, sockets, in_work)]
    try:
        servers.append(_listen_privately(context, sockets, in_work))
        yield
    finally:
        for server in servers:
            server.stop()
        if not await in_work.finish(_LAST_ANSWERS_S):
            log.warning("Requests that took longer than %g s were cut off", _LAST_ANSWERS_S)
        for server in servers:
            await server.close_all_connections()


def application(context: Context, door: Door, in_work: InWork) -> Application:
    """The handlers behind one door."""
    prefix = "/" if door.own else context.environment.prefix
    routes: list[tuple[Any, ...]] = [(API + path, handler) for path, handler in API_ROUTES]
    if door.own:
        routes += [(API + path, handler) for path, handler in OWN_API_ROUTES]
        routes.append((r".*", NoSuchApi))
    else:
        routes.append((API + r".*", NoSuchApi))
        routes += PAGE_ROUTES
        routes.append((rf"static/{static_version()}/(.+)", Static, {"path": str(STATIC)}))
        routes.append((r"()badge\.svg", Badge, {"path": str(STATIC)}))
    return Application(
        [(re.escape(prefix) + route[0], *route[1:]) for route in routes],
        default_handler_class=NoSuchApi if door.own else NoSuchPage,
        cookie_secret=cookie_secret(context.settings),
        context=context,
        door=door,
        in_work=in_work,
        streams=Counter(),
        hub_auth=context.environment.hub_auth(),
        log_function=_log_request,
    )


def cookie_secret(settings: Settings) -> bytes:
    """What signs our cookies; another key than the one that signs labels."""
    return hmac.digest(secret(settings), b"cookies", "sha256")


def _listen_publicly(context: Context, sockets: Sockets, in_work: InWork) -> HTTPServer:
    server = HTTPServer(
        application(context, HubDoor(), in_work),
        max_body_size=MAX_BODY_BYTES,
        body_timeout=_SLOW_BODY_S,
        idle_connection_timeout=_IDLE_S,
    )
    server.add_sockets(sockets.public(*context.environment.address))
    return server


def _listen_privately(context: Context, sockets: Sockets, in_work: InWork) -> HTTPServer:
    server = HTTPServer(
        application(context, SocketDoor(), in_work), max_body_size=MAX_BODY_BYTES, body_timeout=_SLOW_BODY_S
    )
    server.add_sockets(sockets.private(context.settings.service_socket))
    return server


def _is_routine(handler: Any) -> bool:
    """What machines ask every few seconds, and what comes with each page."""
    return isinstance(handler, (Static, Badge, HealthState, Metrics)) and handler.get_status() < 400


def _log_request(handler: Any) -> None:
    status = handler.get_status()
    level = logging.WARNING if status >= 500 else logging.DEBUG if _is_routine(handler) else logging.INFO
    seconds = handler.request.request_time()
    if not isinstance(handler, StreamHandler):
        handler.settings["context"].metrics.answered(handler.settings["door"].own, status, seconds)
    log.log(
        level,
        "%s %s %s %.0f ms",
        status,
        handler.request.method,
        shown(handler.request.path, 300),
        1000 * seconds,
    )
