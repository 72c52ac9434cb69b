"""`littlest-binder describe`: what is said of an image, its pin, who may use it, whether it is started."""

from __future__ import annotations

from typing import Any, get_args

import click

from ..errors import InvalidRequest
from ..wire import ImageChange, ImageView, Visibility
from ._images import find_image
from ._service import as_json, print_json, runs_async, service, when


@click.command(name="describe", short_help="Title, defaults, pin and retirement of an image.")
@click.argument("image")
@click.option("--title", metavar="TEXT", help="Its title; empty: the repository's name.")
@click.option("--description", metavar="TEXT", help="What people are told of it.")
@click.option("--icon", metavar="EMOJI", help="One emoji; empty: none.")
@click.option("--profile", metavar="ID", help="The profile of those who choose none; empty: their usual one.")
@click.option("--urlpath", metavar="PATH", help="What opens for those who ask for nothing else.")
@click.option("--visibility", type=click.Choice(get_args(Visibility)), help="Who may see and start it.")
@click.option(
    "--group", "groups", multiple=True, metavar="NAME", help="With `--visibility group`; repeatable."
)
@click.option("--pin/--unpin", "pinned", default=None, help="Whether it stays, whatever the disk needs.")
@click.option("--reason", "pin_reason", metavar="TEXT", help="Why it is pinned.")
@click.option("--pinned-until", metavar="DATE", help="The last day of the pin (UTC); empty: without end.")
@click.option("--retire/--unretire", "retired", default=None, help="Whether new servers may start from it.")
@as_json
@runs_async
async def command(image: str, groups: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Change what is said of IMAGE, and what holds for it; without options only show it.

    IMAGE is an image's id or the beginning of it, its name, or its title. Servers that run on a retired image
    go on.
    """
    if groups and given["visibility"] != "group":
        raise InvalidRequest("`--group` was given without `--visibility group`.", "Give both.")
    change = ImageChange(**given, groups=groups or None)
    async with service() as (_, client):
        found = find_image(await client.images(), image)
        if change.model_dump(exclude_none=True):
            found = await client.change_image(found.id, change)
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(_lines(found)))


def _lines(image: ImageView) -> list[str]:
    facts = {
        "image": f"{image.icon} {image.title}".strip(),
        "name": image.name,
        "description": image.description,
        "for": ", ".join(image.groups) or image.visibility,
        "profile": image.profile or "the person's usual one",
        "opens": image.urlpath or "lab",
        "pinned": _pin(image),
        "retired": "yes, no new starts" if image.retired else "no",
    }
    return [f"{name:<12}{value}" for name, value in facts.items() if value]


def _pin(image: ImageView) -> str:
    if not image.pinned:
        return "no"
    end = f"until {when(image.pinned_until)}" if image.pinned_until else "without end"
    return f"{end}: {image.pin_reason}" if image.pin_reason else end
