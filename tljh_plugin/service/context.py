"""The parts that handlers work with, opened in order and closed in the opposite one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from ..build.queue import Queue
from ..cache.adoption import Adoption
from ..cache.build_cache import BuildCache
from ..cache.candidates import Candidates
from ..cache.describing import Describing
from ..cache.disk import Disk
from ..cache.dossier import Dossiers
from ..cache.inventory import Inventory
from ..cache.layers import Layers
from ..cache.leases import Leases
from ..cache.lost import Lost
from ..cache.mirrors import Mirrors
from ..cache.moves import Moves
from ..cache.rescan import Rescan
from ..cache.retention import Retention
from ..cache.sharing import Sharing
from ..cache.sweep import Sweep
from ..engine import Engine
from ..hub_api import HubApi
from ..installation import instance_id
from ..launch.profiles import profile_ids
from ..projects import DeletedProjects, Projects, Upkeep
from ..settings import Settings, fresh
from ..source.checkout import Checkouts
from ..source.credentials import Credentials
from ..source.resolve import Resolver
from ..store import AuditLog, Store
from .accounting import Accounting
from .again import Again
from .changed_settings import ChangedSettings
from .engine_health import EngineHealth
from .environment import HubEnvironment
from .examination import Examination
from .folders import Folders
from .health import Health, looks_at
from .kept_files import KeptFiles
from .launches import Launches
from .lookups import Lookups
from .metrics import ServiceMetrics
from .newer import Newer
from .offers import Offers
from .preparations import Preparations
from .recorder import Recorder
from .room import Room
from .tidying import Tidying


@dataclass(frozen=True)
class Context:
    """Everything a handler may use."""

    settings: Settings
    environment: HubEnvironment
    engine_health: EngineHealth
    inventory: Inventory
    dossiers: Dossiers
    sweep: Sweep
    retention: Retention
    sharing: Sharing
    describing: Describing
    audit: AuditLog
    accounting: Accounting
    queue: Queue
    again: Again
    rescan: Rescan
    adoption: Adoption
    moves: Moves
    newer: Newer
    projects: Projects
    kept_files: KeptFiles
    lookups: Lookups
    launches: Launches
    preparations: Preparations
    offers: Offers
    room: Room
    folders: Folders
    disk: Disk
    mirrors: Mirrors
    health: Health
    examination: Examination
    metrics: ServiceMetrics = field(default_factory=ServiceMetrics)


@contextlib.asynccontextmanager
async def open_context(settings: Settings, environment: HubEnvironment) -> AsyncIterator[Context]:
    """Open the stages, start what runs in the background, and end all of it again.

    Raises `StoreError` if another service has the store. A Docker that does not answer is no error.
    """
    async with contextlib.AsyncExitStack() as stack:
        store = await Store.open(settings.store_path)
        stack.push_async_callback(store.close)
        metrics = ServiceMetrics()
        engine = Engine(
            instance_id(settings),
            timeout_s=settings.docker.timeout_s,
            removal_timeout_s=settings.docker.removal_timeout_s,
            heard=metrics.docker.heard,
        )
        stack.push_async_callback(engine.close)
        hub = await stack.enter_async_context(HubApi(environment.api_url, environment.api_token))
        inventory = Inventory(store, engine)
        leases = Leases(store)
        resolver = Resolver(settings)
        credentials = Credentials(settings)
        checkouts = Checkouts(settings)
        queue = Queue(settings, store, engine, resolver, checkouts, inventory, credentials=credentials)
        queue.asked, queue.ended = metrics.image_asked, metrics.build_ended
        projects = Projects(settings, store, engine)
        upkeep = Upkeep(settings, store, engine, projects.root, projects.sizes, projects.locks)
        deleted = DeletedProjects(settings, store, engine, projects.locks, upkeep.wake)
        lookups = Lookups(settings, resolver, queue, projects, credentials, inventory)
        offers = Offers(settings, inventory, queue, lookups)
        sharing = Sharing(store, inventory)
        layers = Layers(store, engine)
        build_cache = BuildCache(store, engine, layers)
        candidates = Candidates(settings, store, engine, inventory, layers)
        sweep = Sweep(settings, store, engine, inventory, leases, candidates, build_cache)
        inventory.noticed, inventory.own_bytes = layers.notice, lambda: layers.own_bytes
        inventory.sizes = lambda: layers.sizes
        inventory.title_of = offers.title_of_image
        await inventory.start()
        stack.push_async_callback(inventory.stop)
        await layers.start()
        stack.push_async_callback(layers.stop)
        await build_cache.start()
        stack.push_async_callback(build_cache.stop)
        sweep.done = metrics.images_deleted
        await sweep.recover()
        stack.push_async_callback(sweep.close)
        moves = Moves(settings, store, engine, inventory, leases)
        rescan = Rescan(settings, store, engine, inventory, hub.names)
        await rescan.start()
        stack.push_async_callback(rescan.stop)
        await queue.start()
        stack.push_async_callback(queue.stop)
        newer = Newer(settings, store, inventory, queue, resolver, credentials)
        newer.start()
        stack.push_async_callback(newer.stop)
        offers.start()
        stack.push_async_callback(offers.stop)
        upkeep.start()
        stack.push_async_callback(upkeep.stop)
        changed_settings = ChangedSettings(settings, store)
        changed_settings.start()
        stack.push_async_callback(changed_settings.stop)
        recorder = Recorder(store, engine)
        recorder.start()
        stack.push_async_callback(recorder.stop)
        mirrors = Mirrors(settings, store.images, store.audit)
        lost = Lost(store, engine, inventory)
        tidying = Tidying(settings, store, engine, hub, queue, projects, leases, moves, mirrors, lost)
        tidying.start()
        stack.push_async_callback(tidying.stop)
        disk = Disk(settings, store, engine, inventory, layers, build_cache)
        disk.start()
        stack.push_async_callback(disk.stop)
        retention = Retention(settings, store, inventory, candidates, sweep, disk.docker_usage)
        inventory.keeps, sweep.after = retention.keeps, disk.wake
        inventory.verdicts = retention.verdicts
        retention.start()
        stack.push_async_callback(retention.stop)
        launches = Launches(environment, hub, lookups, queue)
        launches.heard = metrics.launched
        preparations = Preparations(settings, environment, store, engine, leases, projects, inventory.wake)
        preparations.ended = metrics.server_started
        engine_health = EngineHealth(engine)
        yield Context(
            settings=settings,
            environment=environment,
            engine_health=engine_health,
            inventory=inventory,
            dossiers=Dossiers(store, inventory, layers),
            sweep=sweep,
            retention=retention,
            sharing=sharing,
            audit=store.audit_log,
            accounting=Accounting(store, hub),
            describing=Describing(store, inventory, sharing, lambda: profile_ids(fresh(settings))),
            queue=queue,
            again=Again(lookups, queue, inventory),
            rescan=rescan,
            adoption=Adoption(settings, store, engine, inventory),
            moves=moves,
            newer=newer,
            projects=projects,
            kept_files=KeptFiles(settings, store, projects, deleted, projects.sizes),
            lookups=lookups,
            launches=launches,
            preparations=preparations,
            offers=offers,
            room=Room(settings, engine),
            folders=Folders(settings, engine, store.audit),
            disk=disk,
            mirrors=mirrors,
            health=Health(looks_at(settings, store, engine, engine_health, hub, queue)),
            metrics=metrics,
            examination=Examination(settings),
        )
