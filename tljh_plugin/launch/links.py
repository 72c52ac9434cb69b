"""Links in the home to what is mounted beside it, so that Lab's file browser shows it.

They are made by the server itself, as its first step and under its own user: nobody works on a person's files
as root, and it is the same for a home that is kept and for one in the container. What is there stays: a link
then gets another name or there is none. The server's log says so, and `told` reads it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_OTHERS = ("-mount", "-mount-2", "-mount-3")

# Arguments: the home, then name and target of each link, `--`, and the command. A failure stops no start.
_SCRIPT = """\
home=$1
shift
while [ "$1" != -- ]; do
  name=$1 target=$2 made=
  shift 2
  for place in "$home/$name" "$home/$name-mount" "$home/$name-mount-2" "$home/$name-mount-3"; do
    if [ -L "$place" ]; then
      [ "$(readlink "$place")" = "$target" ] || continue
      made=$place
    elif [ ! -e "$place" ]; then
      ln -s "$target" "$place" || continue
      made=$place
    fi
    [ -n "$made" ] && break
  done
  if [ -z "$made" ]; then
    echo "[binder] $target has no link in $home: files of those names are there" >&2
  elif [ "$made" != "$home/$name" ]; then
    echo "[binder] $target is linked as $made, since $home/$name is yours" >&2
  fi
done
shift
exec "$@"
"""


def linking(command: tuple[str, ...], home: str, links: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """`command`, after links of these names to these targets were made in `home`."""
    words = tuple(word for link in links for word in link)
    return ("/bin/sh", "-c", _SCRIPT, "links", home, *words, "--", *command) if words else command


def told(log: str, home: str, links: Sequence[tuple[str, str]]) -> list[str]:
    """What a server's log says of these links, for its person: which has another name, and which is missing.

    Other programs write to the log as well, so that only what can be true of these links is taken from it.
    """
    lines = set(log.splitlines())
    found = []
    for name, target in links:
        for other in _OTHERS:
            if f"[binder] {target} is linked as {home}/{name}{other}, since {home}/{name} is yours" in lines:
                found.append(f"~/{name} is yours already, so that {target} is linked as ~/{name}{other}.")
                break
        else:
            if f"[binder] {target} has no link in {home}: files of those names are there" in lines:
                found.append(f"{target} has no link: ~/{name} and the like are yours already.")
    return found
