"""`littlest-binder restore`: a backup into an installation, here or on another machine."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from ..build.identity import platform_of
from ..engine import Engine
from ..errors import EngineError
from ..operation import installed, restore, restored_images, restoring, units
from ..operation.backup_file import Backup, verify
from ..operation.installed import Installed
from . import FAILED
from ._operation import ask, shown
from ._service import as_json, console, print_json, runs_async

_ACTIONS = {
    "new": "nothing is there: restored",
    "same": "is there already, the same",
    "beside": "other files are there and stay: restored beside them",
    "there": "this backup was laid there before",
}
_IMAGES = {
    "there": "in Docker already",
    "load": "loaded from the backup",
    "build": "built again when somebody needs them",
    "nowhere": "cannot be had again",
}


@click.command(name="restore", short_help="Bring back what a backup holds, here or on another machine.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Check the whole file and say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--rebuild", is_flag=True, help="Have missing images built at the next start, not when needed.")
@click.option(
    "--to-state",
    type=click.Path(file_okay=False, path_type=Path),
    help="State folder to restore into. Default: the one of this installation.",
)
@as_json
@runs_async
async def command(
    file: Path, dry_run: bool, yes: bool, rebuild: bool, to_state: Path | None, as_json: bool
) -> None:
    """Check FILE from its beginning to its end, say what would be done, ask, and bring back what it holds.

    The hub and its service must not run. What is replaced stays as `….before-restore-TIME`. People's files
    are never replaced: where others are, those of the backup are laid beside them. It can be interrupted and
    run again.
    """
    here = installed.find(to_state)
    backup = _verified(file)
    engine = Engine(here.instance or "none", timeout_s=here.settings.docker.timeout_s)
    try:
        present, problem = await _present(engine)
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        plan = restore.decide(backup, here, present, now)
        if not as_json:
            _show(plan, problem)
        if dry_run:
            if as_json:
                print_json(_as_json(plan))
            return
        if present is not None:
            await restoring.check_no_servers(here, engine)
        ask("Restore?", yes or as_json)
        stopped = _stop_our_service(here)
        done = await _carry_out(plan, engine, present is not None, rebuild)
        if stopped:
            units.run("start", units.SERVICE)
    finally:
        await engine.close()
    _tell(plan, done, stopped, as_json)
    if any(each["problem"] for each in done["images"]):
        raise click.exceptions.Exit(FAILED)


def _verified(file: Path) -> Backup:
    with shown("checking", file.stat().st_size) as progress:
        return verify(file, progress.advance)


async def _present(engine: Engine) -> tuple[frozenset[str] | None, str]:
    try:
        return frozenset(image.id for image in await engine.images()), ""
    except EngineError as error:
        return None, str(error)


def _stop_our_service(here: Installed) -> bool:
    """Our own unit; the hub's is for the administrator, who knows whom that disturbs."""
    if here.settings.platform == "desktop" or not units.is_active(units.SERVICE):
        return False
    if installed.hub_runs(here):
        return False  # it is refused in a moment, and then nothing is to be changed
    units.run("stop", units.SERVICE)
    return True


async def _carry_out(plan: restore.Plan, engine: Engine, docker: bool, rebuild: bool) -> dict[str, Any]:
    with shown("restoring", plan.backup.stored) as progress:
        report = await restoring.carry_out(plan, progress)
        if docker and plan.into.instance not in ("", plan.backup.header.instance):
            await restoring.let_go(engine)
        wanted = {each.view.image_id: each.view.title for each in plan.images if each.action == "load"}
        own = Engine(plan.backup.header.instance, timeout_s=plan.into.settings.docker.timeout_s)
        try:
            loaded = (
                await restored_images.load(plan.into.settings, own, plan.backup.file, wanted, progress)
                if docker
                else [restored_images.Loaded(each, wanted[each], "Docker is not there") for each in wanted]
            )
            missing = [each.view.image_id for each in plan.images if each.action == "build"]
            left = []
            if rebuild and docker and missing:
                platform = platform_of((await own.info()).architecture)
                left = await restored_images.queue(plan.into.settings, platform, missing)
        finally:
            await own.close()
    return {
        "files": [str(each) for each in report.files],
        "aside": [str(each) for each in report.aside],
        "projects": [
            {"owner": each.owner, "kind": each.kind, "action": each.action, "place": str(each.place)}
            for each in report.laid
        ],
        "images": [{"id": each.image_id, "title": each.title, "problem": each.problem} for each in loaded],
        "queued": len(missing) - len(left) if rebuild and docker else 0,
        "not_queued": left,
    }


def _as_json(plan: restore.Plan) -> dict[str, Any]:
    return {
        "header": plan.backup.header.model_dump(mode="json"),
        "files": [
            {"name": each.name, "target": str(each.target), "replaces": each.replaces} for each in plan.files
        ],
        "projects": [
            {"owner": t.view.owner, "kind": t.view.kind, "action": t.action, "target": str(t.target)}
            for t in plan.trees
        ],
        "images": [
            {
                "id": each.view.image_id,
                "title": each.view.title,
                "action": each.action,
                "reason": each.view.reason,
            }
            for each in plan.images
        ],
        "notes": list(plan.notes),
    }


def _show(plan: restore.Plan, docker_problem: str) -> None:
    out, header = console(), plan.backup.header
    out.print(
        f"A backup of {header.created}, version {header.version}, of the {header.platform} installation "
        f"{header.instance}; every checksum in it is right.",
        soft_wrap=True,
    )
    out.print(f"Into {plan.into.state_dir}:", soft_wrap=True)
    if plan.settings and plan.into.settings_file is not None:
        out.print(f"  {plan.into.settings_file}: the section `binder`", soft_wrap=True)
    for each in plan.files:
        stays = f" (what is there stays as `…{plan.aside}`)" if each.replaces else ""
        out.print(f"  {each.target}{stays}", soft_wrap=True)
    for action, text in _ACTIONS.items():
        found = [each for each in plan.trees if each.action == action]
        if found:
            out.print(f"People's files, {len(found)}: {text}")
        for tree in found if action == "beside" else ():
            out.print(f"  {tree.target}", soft_wrap=True)
    for action, text in _IMAGES.items():
        images = [each for each in plan.images if each.action == action]
        if images:
            out.print(f"Images, {len(images)}: {text}")
        for image in images if action == "nowhere" else ():
            out.print(f"  {image.view.title or image.view.name}: {image.view.reason}", soft_wrap=True)
    if docker_problem and plan.images:
        out.print(f"Images cannot be loaded: {docker_problem}", soft_wrap=True)
    for note in plan.notes:
        out.print(f"Note: {note}", soft_wrap=True)


def _tell(plan: restore.Plan, done: dict[str, Any], started: bool, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    out = console()
    for path in done["aside"]:
        out.print(f"put aside: {path}", soft_wrap=True)
    for image in done["images"]:
        if image["problem"]:
            out.print(f"not loaded: {image['title']}: {image['problem']}", soft_wrap=True)
    if done["queued"]:
        out.print(f"{done['queued']} images are built at the next start of the service.")
    how = {
        "desktop": "`littlest-binder up`",
        "tljh": "`sudo systemctl start jupyterhub`"
        + ("" if started else " and `sudo systemctl start tljh-binder`"),
    }.get(plan.into.settings.platform, "your hub and its service")
    out.print(f"Restored. Start {how}.")
