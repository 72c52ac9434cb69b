"""`BinderSpawner`: the only orchestrator of a start, as JupyterHub sees it.

`start` obtains the image from the service (built if it has to be), has the person's files prepared, starts
the container, and waits until it answers. Docker is asked through `engine`, whose isolation rules hold for
every server; what a person hands over are `LaunchOptions` and nothing else. Of DockerSpawner's own settings
those about environment, arguments and time-outs work; those about images, volumes, networks and Docker's
options have no effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import Any, ClassVar

from dockerspawner import DockerSpawner
from jupyterhub import orm
from jupyterhub.scopes import get_scopes_for
from sqlalchemy.orm import object_session
from traitlets import default

from .. import log_lines, request_ids
from ..accounts import Identity
from ..client import ServiceClient
from ..engine import ContainerSpec, Limits, Mount, Network
from ..engine.threads import in_thread
from ..errors import (
    BinderError,
    EngineError,
    EngineUnavailable,
    ImageNotFound,
    InvalidOptions,
    MountError,
    UnexpectedFailure,
)
from ..labels import REQUEST_LABEL
from ..settings import Settings
from ..wire import ImageView, Person, Prepared, PrepareRequest, ProfilesView
from . import accounts, endings, ephemeral, form, isolation, kernel_mounts, lifetime, links, server_logs
from .activity import Activity, activity_of
from .failure import spawn_error
from .host_folders import look
from .kernel_mounts import Asked
from .mounts import MY_FILES, MY_FILES_TARGET
from .mounts import choose as choose_mounts
from .obtain import Source, default_profile, obtain
from .options import LaunchOptions, normalise, parse
from .pad import LaunchPad
from .profiles import Profile, choose, meant_for
from .progress import BUILT, PREPARED, STARTED, WAITING, Progress
from .readiness import not_ready, wait_until_ready
from .resolving import Chosen, offered
from .room import read_machine, refuse_if_too_much
from .running import Running, Span, of_labels
from .unasked import Seen, why
from .watch import Watch

# Queueing, building and filling have their own limits, which say what took too long; this is only the last.
_START_TIMEOUT_S = 24 * 3600
_FORM_S = 5.0
_LOG_LINES = 2000
_DEFAULT_PATH = "lab"
# The kernel's own doing where there is too little memory, of which not every engine hears.
_KILLED = 137
_SCOPE_PREFIX = "custom:binder:"
# A token with which the hub asks a server for its activity.
_LOOK_S = 60


class Confirm(Exception):
    """Options came in an address: the form is shown with them, and nothing is started.

    JupyterHub shows the form when `options_from_query` fails, with this message above it if there is one.
    """

    jupyterhub_message = ""


def spawner_class(settings: Settings) -> type[BinderSpawner]:
    """`BinderSpawner` for one hub, under the same name, so that `c.BinderSpawner` configures it."""
    return type("BinderSpawner", (BinderSpawner,), {"pad": LaunchPad(settings)})


class BinderSpawner(DockerSpawner):  # type: ignore[misc]  # dockerspawner is untyped
    """Starts servers from repositories and images of The Littlest Binder."""

    pad: ClassVar[LaunchPad]

    def __init__(self, **kwargs: Any) -> None:
        self._progress = Progress()
        self._accepted: dict[str, Any] = {}
        self._source: Source | None = None
        self._wanted: LaunchOptions | None = None
        self._refused: BinderError | None = None
        self._shown: Callable[[], tuple[form.Choice, str]] | None = None
        self._ended_as = ""
        self._seen: Seen = "nothing"
        self._stopping: asyncio.Task[None] | None = None
        self._watch: Watch | None = None
        self._request_id = ""
        super().__init__(**kwargs)

    @default("start_timeout")  # type: ignore[untyped-decorator]
    def _default_start_timeout(self) -> int:
        return _START_TIMEOUT_S

    @default("http_timeout")  # type: ignore[untyped-decorator]
    def _default_http_timeout(self) -> int:
        # JupyterHub asks once more after we have had an answer: a machine that was slow then is slow now.
        return round(self.pad.settings.servers.start_timeout_s)

    @default("remove")  # type: ignore[untyped-decorator]
    def _default_remove(self) -> bool:
        return True

    # -- what a person asks for -----------------------------------------------------------------------

    @default("apply_user_options")  # type: ignore[untyped-decorator]
    def _default_apply_user_options(self) -> Callable[[BinderSpawner, Mapping[str, Any]], None]:
        return lambda spawner, options: spawner.validate_options(options)

    def validate_options(self, options: Mapping[str, Any]) -> None:
        """Where options are applied, whichever door they came through; none given means those of before.

        Refused ones are told by `start` at once (raised from here it would be a traceback in the hub's log).
        """
        self._belong()
        self._wanted, self._refused = None, None
        try:
            if normalise(options):
                wanted = parse(options)
                settings, person = self.pad.settings, self._person()
                choose(settings, person, wanted.profile)
                if wanted.mounts:
                    choose_mounts(wanted.mounts, offered(settings, person))
                self._wanted = wanted
                return
            if not self._accepted:
                raise InvalidOptions(
                    f"The server {self.name or 'without a name'} was never started: there is no repository "
                    "and no image to start it from.",
                    "Choose one on the front page, or send the option `repository` or `image`.",
                )
            self._wanted = parse(self._accepted)
        except BinderError as error:
            self._refused = error

    def _belong(self) -> None:
        """From here to the ready server all belongs to the request that asked the hub: its id is taken over,
        or there is none yet, as after a click on the hub's own form.
        """
        log_lines.join(self.log)
        request = getattr(self.handler, "request", None)
        given = request.headers.get(request_ids.HEADER) if request is not None else None
        self._request_id = request_ids.begin(given)
        if request is not None:
            self.handler.set_header(request_ids.HEADER, self._request_id)

    def _store_accepted(self) -> None:
        """Let the hub keep the options that were accepted last."""
        self.user_options = dict(self._accepted)
        self.orm_spawner.user_options = dict(self._accepted)
        session = object_session(self.orm_spawner)
        if session is not None:
            session.commit()

    def _accept(self, options: LaunchOptions, source: Source) -> None:
        """From now on a start without options means these, at this commit: the same files, no network."""
        if options.repository:
            options = options.model_copy(update={"commit": source.commit})
        self._wanted, self._accepted, self._source = options, options.model_dump(), source
        self._store_accepted()

    async def get_options_form(self) -> str:
        """The form, filled in with what was typed, asked for in an address, or accepted before."""
        choice, notice = self._shown() if self._shown else (self._choice_of_before(), "")
        self._shown = None
        images: Sequence[ImageView] = ()
        profiles: ProfilesView | None = None
        problem = ""
        try:
            async with self.pad.client(self._person(), timeout_s=_FORM_S) as client:
                images = await client.images()
        except BinderError as error:
            problem = form.problem_of(error)
        try:
            profiles = await self.pad.profiles(self.pad.settings, self._person())
        except BinderError as error:
            problem = str(error)
        mounts = await self.pad.mounts(self.pad.settings, self._person())
        return form.render(choice, images, profiles=profiles, mounts=mounts, notice=notice, problem=problem)

    def run_options_from_form(self, form_data: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The options that a sent form means; what is wrong is shown above the form again."""
        try:
            return form.read(form_data)
        except BinderError as error:
            # After an error JupyterHub shows the form of the person's server without a name.
            default_storage = self.pad.settings.storage.default
            self.user.spawner._shown = lambda: (form.from_typed(form_data, default_storage), "")
            raise spawn_error(error) from None

    def options_from_query(self, query_data: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Never starts anything: any page on the web can send a browser to such an address."""
        self._shown = lambda: self._proposal(query_data)
        raise Confirm

    def _proposal(self, query: Mapping[str, Sequence[str]]) -> tuple[form.Choice, str]:
        try:
            choice = form.from_options(parse(query))
        except BinderError as error:
            typed = form.from_typed(query, self.pad.settings.storage.default)
            return form.without_ticks(typed), str(error)
        return form.without_ticks(
            choice
        ), "A link asks for this. Start it if you trust where the link came from."

    def _choice_of_before(self) -> form.Choice:
        with suppress(BinderError):
            return form.from_options(parse(self._accepted or self.user_options))
        return form.from_options(None, self.pad.settings.storage.default)

    # -- what JupyterHub keeps of it ------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Also the last accepted options, which outlive the server."""
        state: dict[str, Any] = super().get_state()
        if self._accepted:
            source = asdict(self._source) if self._source else None
            state["binder"] = {"options": self._accepted, "source": source}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Read what `get_state` gave."""
        super().load_state(state)
        kept = state.get("binder") or {}
        self._accepted = dict(kept.get("options") or {})
        self._source = Source(**kept["source"]) if kept.get("source") else None

    # -- starting -------------------------------------------------------------------------------------

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """Build and start in one bar; see `launch.progress`."""
        async for event in self._progress.events():
            yield event

    async def start(self) -> str:
        """The address of a server that answers. Raises what `failure.spawn_error` makes of our errors."""
        before = self._accepted, self._source
        if not request_ids.current():  # somebody has set another `apply_user_options`
            self._belong()
        try:
            return await self._start()
        except BinderError as error:
            self.log.info("%s did not start: %s", self._log_name, error.code)
            self.pad.metrics.failed(error.http_status)
            if isinstance(error, MountError) and before[0]:
                # Found out only when the image was there, or somebody changed a folder meanwhile.
                self._accepted, self._source = before
            # JupyterHub has stored what was asked for: what cannot be replaces nothing.
            if self._accepted or self._refused:
                self._store_accepted()
            self._progress.fail(error)
            raise spawn_error(error) from error
        except asyncio.CancelledError:
            self.pad.metrics.cancelled()
            raise
        except Exception as error:
            self.pad.metrics.failed(UnexpectedFailure.http_status)
            self._progress.fail(
                UnexpectedFailure(f"The start failed: {type(error).__name__}.", "See the hub's log.")
            )
            raise
        finally:
            self._progress.end()
            await asyncio.sleep(0)  # readers of the progress get their last event before the start is over

    async def _start(self) -> str:
        if self._refused is not None:
            raise self._refused
        options = self._wanted
        if options is None:
            raise InvalidOptions("The server has no launch options.", "Start it from the front page.")
        self.log.info("%s is to start from %s", self._log_name, options.repository or options.image)
        settings, person = self.pad.settings, self._person()
        profile = choose(settings, person, options.profile, await self._profile_of_image(options))
        who = await self.pad.identity(settings, person)
        if who.withheld:
            withheld = ", ".join(who.withheld)
            self.log.info("%s runs as %s without its groups %s", self._log_name, who.account, withheld)
        await self.pad.folders(
            settings, person, options
        )  # what cannot be had is told before anything is built
        limits = self._limits(self.pad.limits(settings, profile, who))
        place = self._place(profile, limits)
        async with self.pad.reservations.hold(
            place, lambda others: refuse_if_too_much(place, others, person, settings, read_machine())
        ):
            return await self._start_in(place, limits, who, options)

    async def _profile_of_image(self, options: LaunchOptions) -> str:
        """The image's profile, for a person who chose none and has more than one; else empty."""
        person = self._person()
        if options.profile or len(meant_for(self.pad.settings, person)) < 2:
            return ""
        self._progress.say(0, "Looking for the image")
        async with self.pad.client(person) as client:
            return await default_profile(client, options)

    async def _start_in(self, place: Running, limits: Limits, who: Identity, options: LaunchOptions) -> str:
        """Start in a place that was found free."""
        self._ended_as = ""
        endings.forget(self.pad.settings.state_dir, self.user.name, self.name)
        hub = self._hub_origin()
        # It is needed only when the image is there, and costs a few calls to Docker.
        network = self.pad.behind(self.pad.ready_network(hub, self.hub.base_url))
        self._seen = "start"
        lease, ok = "", False
        async with self.pad.client(self._person()) as client:
            try:
                prepared = await self._prepare(client, options)
                lease = prepared.lease
                url = await self._run(prepared, place, limits, who, *await asyncio.shield(network))
                ok, self._seen = True, "running"
                self.log.info("%s is ready: %s", self._log_name, self._progress.laps())
                self.pad.metrics.started(self._progress.parts())
            finally:
                network.cancel()
                if lease:
                    # The container holds the image by now, or there is none: nobody needs to wait.
                    self.pad.behind(self._release(lease, ok))
        return url

    async def _release(self, lease: str, ok: bool) -> None:
        with suppress(BinderError):  # it expires
            async with self.pad.client(self._person()) as client:
                await client.release(lease, ok)

    async def _prepare(self, client: ServiceClient, options: LaunchOptions) -> Prepared:
        """The image and the person's files; an image that is evicted in between is built once more."""
        known = self._source if self._accepted.get("image") == options.image else None
        for attempt in ("first", "last"):
            obtained = await obtain(
                client, options, known, self._progress, lambda source: self._accept(options, source)
            )
            self._progress.say(BUILT, "Preparing your files")
            request = PrepareRequest(
                server=self.name,
                image_id=obtained.image_id,
                repository=obtained.repository,
                spec=obtained.source.spec,
                commit=obtained.source.commit,
                storage=options.storage,
                project=options.project,
                my_files=options.my_files,
            )
            try:
                prepared = await client.prepare(request)
            except ImageNotFound:
                if attempt == "last":
                    raise
                continue
            break
        if options.project == "new" and prepared.project:
            # The next start is to find these files, not to make another copy.
            self._accept(options.model_copy(update={"project": prepared.project}), obtained.source)
        self._progress.say(PREPARED, "Your files are ready")
        return prepared

    async def _run(
        self,
        prepared: Prepared,
        place: Running,
        limits: Limits,
        who: Identity,
        network: Network,
        hub_url: str,
    ) -> str:
        """Container, isolation, first answer; whatever fails, no container is left, but its log is."""
        self.hub_connect_url = hub_url
        self.image = prepared.image_name or prepared.image_id
        chosen: tuple[Chosen, ...] = ()
        if self._wanted is not None:  # the last look before Docker's own
            chosen = await self.pad.folders(
                self.pad.settings, self._person(), self._wanted, prepared.home, prepared.workdir
            )
        asked = await in_thread(lambda: _asked(prepared, chosen))
        spec = self._container(prepared, place, limits, who, network.name, chosen)
        self.object_name = spec.name
        self._progress.say(STARTED, "Starting the server")
        starting = self.pad.behind(self.pad.engine.start(spec))
        try:
            self.object_id = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # It removes what it has begun once Docker answers, which may be later than JupyterHub waits.
            starting.cancel()
            raise
        try:
            found = await self._inspect_running()
            isolation.check(
                found, limits, image_id=prepared.image_id, mounts=spec.mounts, network=network.name
            )
            must_see = bool(chosen or prepared.my_files_path)
            if not await kernel_mounts.check(found, asked, must_see=must_see):
                self.log.info("The kernel shows no mounts of %s: what Docker says must do", self._log_name)
            await isolation.check_kernel(found, limits)
            host = isolation.address(found, network.name)
            self._progress.say(WAITING, "Waiting for its first answer")
            await wait_until_ready(
                host,
                self.port,
                f"{self.server.base_url}api",
                timeout_s=self.pad.settings.servers.start_timeout_s,
                ended=self._how_it_ended,
                log=self._log,
            )
        except asyncio.CancelledError:
            # JupyterHub gives a cancelled start one second, then stops the server, which awaits the removal.
            self.pad.behind(self._take_away(keep_log=True))
            raise
        except BaseException:
            await self.pad.finish(self._take_away(keep_log=True))
            raise
        linked = _linked(prepared, chosen)
        if linked:
            self.pad.behind(self._tell_links(self.object_id, prepared.home, linked))
        return f"http://{host}:{self.port}"

    async def _tell_links(self, container: str, home: str, linked: Sequence[tuple[str, str]]) -> None:
        """Where the person finds what is mounted under another name than was said: on the front page."""
        found = links.told(await self.pad.engine.logs(container), home, linked)
        if found and self.object_id == container:
            state = self.pad.settings.state_dir
            endings.note(state, self.user.name, self.name, " ".join(found), "links")

    def _container(
        self,
        prepared: Prepared,
        place: Running,
        limits: Limits,
        who: Identity,
        network: str,
        chosen: Sequence[Chosen],
    ) -> ContainerSpec:
        asked = self._wanted.path if self._wanted else ""
        path = asked or prepared.urlpath or _DEFAULT_PATH
        environment = {
            **{str(name): str(value) for name, value in self.get_env().items() if value is not None},
            **prepared.environment,
            **ephemeral.environment(prepared),
            **accounts.environment(who),
            "HOME": prepared.home,
            # As JupyterHub tells them, whose own limits may be larger than those that hold.
            "MEM_LIMIT": str(limits.memory_bytes),
            "CPU_LIMIT": str(limits.cpus),
            # Not by `default_url`, which JupyterHub formats: a person's braces would be read.
            "JUPYTERHUB_DEFAULT_URL": f"/{path}",
        }
        mounts = [Mount(prepared.project_path, prepared.home)] if prepared.project_path else []
        if prepared.my_files_path:
            mounts.append(Mount(prepared.my_files_path, MY_FILES_TARGET))
        mounts += [each.mount for each in chosen]
        return ContainerSpec(
            image=prepared.image_id,
            command=links.linking(
                (*prepared.command, *self.get_args()), prepared.home, _linked(prepared, chosen)
            ),
            limits=limits,
            kind="server",
            environment=environment,
            mounts=tuple(mounts),
            network=network,
            labels={
                **replace(place, started=datetime.now(timezone.utc)).labels(),
                REQUEST_LABEL: self._request_id,
            },
            name=server_logs.container_name(self.user.name, self.name),
            files={**ephemeral.notice(prepared), **accounts.files(who, prepared)},
            account=who.account,
            owned=accounts.owned(who, prepared),
            owned_bytes=self.pad.settings.storage.max_fill_bytes,
        )

    def _limits(self, limits: Limits) -> Limits:
        """Ours; JupyterHub's own `mem_limit` and `cpu_limit` can only lower them."""
        if self.mem_limit:
            limits = replace(limits, memory_bytes=min(limits.memory_bytes, int(self.mem_limit)))
        if self.cpu_limit:
            limits = replace(limits, cpus=min(limits.cpus, float(self.cpu_limit)))
        return limits

    def _place(self, profile: Profile, limits: Limits) -> Running:
        """What the server will hold."""
        span = Span(profile.lifetime_s, profile.idle_s)
        groups = tuple(sorted(group.name for group in self.user.groups))
        return Running(
            self.user.name, self.name, limits.memory_bytes, limits.cpus, profile.id, span, groups=groups
        )

    def _person(self) -> Person:
        scopes = get_scopes_for(self.user.orm_user)
        return Person(
            name=self.user.name,
            admin=bool(self.user.admin),
            groups=tuple(sorted(group.name for group in self.user.groups)),
            scopes=tuple(sorted(scope for scope in scopes if scope.startswith(_SCOPE_PREFIX))),
        )

    def _hub_origin(self) -> str:
        """Where the hub listens on this machine."""
        if self.hub.ip in ("", "0.0.0.0", "::"):  # noqa: S104  # compared, not bound
            return f"http://127.0.0.1:{self.hub.port}"
        return str(self.hub.host)

    # -- running and stopping -------------------------------------------------------------------------

    def start_polling(self) -> None:
        """As JupyterHub does, also when the time of day is set back."""
        self.stop_polling()
        if self.poll_interval > 0:
            self._watch = Watch(self.poll_and_notify, self.poll_interval, self.poll_jitter)
            self._watch.start()

    def stop_polling(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    async def poll(self) -> str | int | None:
        """None while it runs, else how it ended; a container that ended by itself leaves its log."""
        if not self.object_id:
            return self._ended_as or 0
        self.pad.reopen_gateway(self._hub_origin(), self.hub.base_url)
        try:
            found = await self.pad.engine.inspect(self.object_id)
            if found is not None and found["State"]["Running"]:
                self._saw("running")
                return await self._end_if_due(found) or None
        except EngineError as error:
            if isinstance(error, EngineUnavailable):
                self._saw("no-docker")
            self.log.warning("Cannot look after %s: %s", self._log_name, error)
            return None  # what cannot be seen is not taken for gone
        if not self._ended_as:
            self._ended_as = _ending(found)
            self._tell_end()
        how = self._ended_as
        if not self._start_pending:
            await self.pad.finish(self._take_away(keep_log=True))
        return how

    def _saw(self, seen: Seen) -> None:
        if self._seen != "start":
            self._seen = seen

    def _tell_end(self) -> None:
        """Let the person know at their next visit that it ended without having been stopped."""
        told = why(self._ended_as, self._seen)
        ending = self._stopping is not None and not self._stopping.done()  # which tells its own reason
        if told and not ending:
            self.log.warning("%s is not running any more. %s", self._log_name, told)
            endings.note(self.pad.settings.state_dir, self.user.name, self.name, told)

    async def _end_if_due(self, inspect: Mapping[str, Any]) -> str:
        """Stop a server whose time is over; why, or nothing. Its files are kept as with any stop."""
        told = of_labels(inspect["Config"].get("Labels") or {})
        if told is None or self.pending:
            return ""
        kept = self.orm_spawner
        started = told.started.astimezone(timezone.utc).replace(tzinfo=None) if told.started else kept.started
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        verdict = await lifetime.judge(told.span, started, kept.last_activity, now, self._look)
        if verdict.last_activity is not None:
            kept.last_activity = verdict.last_activity
            self.db.commit()
        if not verdict.why or self.pending:
            return ""
        if self._stopping is None or self._stopping.done():
            self.log.info("%s is stopped. %s", self._log_name, verdict.why)
            self._stopping = self.pad.behind(self._end(self.object_id, verdict.why))
        await asyncio.shield(self._stopping)
        return verdict.why

    async def _end(self, container: str, why: str) -> None:
        await self.pad.engine.stop(container, self.pad.settings.servers.stop_timeout_s)
        self._ended_as = why
        endings.note(self.pad.settings.state_dir, self.user.name, self.name, why)
        await self._take_away(keep_log=False)

    async def _look(self) -> Activity | None:
        """What the server says of its own activity."""
        token = self.user.orm_user.new_api_token(
            note="The Littlest Binder: is the server idle?",
            expires_in=_LOOK_S,
            scopes=[f"access:servers!server={self.user.name}/{self.name}"],
        )
        try:
            return await activity_of(str(self.server.url), token)
        finally:
            found = orm.APIToken.find(self.db, token)
            if found is not None:
                self.db.delete(found)
                self.db.commit()

    async def stop(self, now: bool = False) -> None:
        """Let the server end by itself within `binder.servers.stop_timeout_s` seconds, then remove it."""
        if self.object_id:
            self._ended_as = self._ended_as or "it was stopped"
            if not now:
                with suppress(EngineError):
                    await self.pad.engine.stop(self.object_id, self.pad.settings.servers.stop_timeout_s)
            await self._take_away(keep_log=False)
        self.clear_state()

    async def _take_away(self, *, keep_log: bool) -> None:
        """Remove the container, whatever its state; a second call finds nothing to do."""
        container = self.object_id
        if not container:
            return
        if keep_log:
            place = server_logs.keep(
                self.pad.settings.log_dir, self.user.name, self.name, await self._log(_LOG_LINES)
            )
            self.log.warning("The log of %s is kept in %s", self._log_name, place)
        await self.pad.engine.remove(container)
        if self.object_id == container:  # else a new start has its own by now
            self.object_id = ""

    async def _inspect_running(self) -> dict[str, Any]:
        found = await self.pad.engine.inspect(self.object_id)
        if found is None or not found["State"]["Running"]:
            raise await not_ready(f"The server ended at once ({_ending(found)}).", self._log)
        return found

    async def _how_it_ended(self) -> str:
        found = await self.pad.engine.inspect(self.object_id)
        return "" if found is not None and found["State"]["Running"] else _ending(found)

    async def _log(self, lines: int = 200) -> str:
        try:
            return await self.pad.engine.logs(self.object_id, lines)
        except EngineError as error:
            return f"(its log cannot be had: {error})"


def _linked(prepared: Prepared, chosen: Sequence[Chosen]) -> list[tuple[str, str]]:
    """Names of links in the home, and to what they lead."""
    own = [(MY_FILES, MY_FILES_TARGET)] if prepared.my_files_path else []
    return own + [(each.link, each.offer.target) for each in chosen]


def _asked(prepared: Prepared, chosen: Sequence[Chosen]) -> list[Asked]:
    """What the kernel is to show. Looks at the disk."""
    own = ((prepared.project_path, prepared.home), (prepared.my_files_path, MY_FILES_TARGET))
    found = [Asked(look(path), target, read_only=False) for path, target in own if path]
    return found + [Asked(each.folder, each.offer.target, each.offer.read_only) for each in chosen]


def _ending(inspect: Mapping[str, Any] | None) -> str:
    """How a container ended, for people."""
    if inspect is None:
        return "its container was removed"
    state = inspect["State"]
    if state.get("OOMKilled") and state.get("ExitCode"):  # else it was a program in it, some time before
        return "it needed more memory than a server gets"
    said = str(state.get("Error") or "")
    if state.get("ExitCode") == _KILLED and not said:
        said = "as when the kernel ends it for its memory"
    return f"exit code {state.get('ExitCode')}" + (f", {said}" if said else "")
