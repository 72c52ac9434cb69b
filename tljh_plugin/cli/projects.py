"""`littlest-binder projects`: what a person keeps; deleting, bringing back and renaming it."""

from __future__ import annotations

import click

from ..client import ServiceClient
from ..errors import NotFound
from ..wire import ProjectView
from ._service import as_json, console, print_json, repository, runs_async, service, size, table, when


@click.group(
    name="projects",
    invoke_without_command=True,
    short_help="List your kept files; delete projects, bring them back.",
)
@as_json
@click.pass_context
@runs_async
async def command(context: click.Context, as_json: bool) -> None:
    """List your projects with size and last use, and the deleted ones that can be brought back."""
    if context.invoked_subcommand is not None:
        return
    async with service() as (_, client):
        projects, deleted = await client.projects(), await client.deleted_projects()
        storage = await client.storage()
    if as_json:
        print_json([*projects, *deleted])
        return
    rows = table("project", "title", "repository", "commit", "size", "last used", "state")
    for each in [*projects, *deleted]:
        rows.add_row(
            each.id,
            each.title,
            repository(each.spec),
            each.commit[:10],
            "" if each.size_bytes is None else ("" if each.size_whole else "≥ ") + size(each.size_bytes),
            when(each.last_used or each.created),
            _state(each),
        )
    console().print(rows if projects or deleted else "No projects yet.")
    limit = f" of {size(storage.limit_bytes)}" if storage.limit_bytes else ""
    console().print(f"You keep {size(storage.used_bytes)}{limit}.")
    if storage.problem:
        console().print(f"{storage.problem.message} {storage.problem.next}", style="red")


@command.command(name="delete", short_help="Delete a project.")
@click.argument("project")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@runs_async
async def delete(project: str, yes: bool, as_json: bool) -> None:
    """Put PROJECT (an id or a title) away; it can be brought back for `storage.keep_deleted_days` days.

    A project that was deleted already is removed for good.
    """
    async with service() as (_, client):
        found = await _find(client, project)
        if not yes and not as_json:
            how = "Remove {} for good" if found.archived else "Delete {}"
            click.confirm(f"{how.format(found.id)}?", abort=True, err=True)
        if found.archived:
            await client.remove_project(found.id)
            gone = found
        else:
            gone = await client.delete_project(found.id)
    if as_json:
        print_json(gone)
    elif found.archived:
        click.echo(f"{found.id} is being removed.")
    else:
        click.echo(f"Deleted. To bring it back: littlest-binder projects undelete {gone.id}")


@command.command(name="undelete", short_help="Bring a deleted project back.")
@click.argument("project")
@as_json
@runs_async
async def undelete(project: str, as_json: bool) -> None:
    """Bring PROJECT (an id of a deleted one, or of the project that it was) back with all its files."""
    async with service() as (_, client):
        back = await client.undelete_project((await _find(client, project, deleted=True)).id)
    if as_json:
        print_json(back)
    else:
        click.echo(f"{back.id} is back.")


@command.command(name="rename", short_help="Give a project a title.")
@click.argument("project")
@click.argument("title")
@as_json
@runs_async
async def rename(project: str, title: str, as_json: bool) -> None:
    """Call PROJECT otherwise: TITLE is shown on pages; an empty one takes it away. Its id stays."""
    async with service() as (_, client):
        named = await client.rename_project((await _find(client, project)).id, title)
    if as_json:
        print_json(named)
    else:
        click.echo(f"{named.id} is called {named.title or 'after its repository'}.")


async def _find(client: ServiceClient, text: str, *, deleted: bool = False) -> ProjectView:
    """The project of that id, else the only one of that title, else the one deleted last of that id."""
    live = [] if deleted else await client.projects()
    gone = await client.deleted_projects()
    fitting = [each for each in [*live, *gone] if each.id == text]
    fitting += [each for each in live if each.title == text]
    fitting += [each for each in gone if each.id.partition(".")[0] == text and (deleted or not fitting)]
    if not fitting:
        kind = "deleted project" if deleted else "project"
        raise NotFound(f"You have no {kind} {text!r:.110}.", "`littlest-binder projects` lists them.")
    return fitting[0]


def _state(project: ProjectView) -> str:
    if project.archived:
        return f"deleted, kept until {when(project.kept_until)}"
    return f"used by {', '.join(project.servers)}" if project.servers else ""
