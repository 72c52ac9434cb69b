"""Installs and starts The Littlest Binder; the standard library of Python 3.10 or later is all it needs.

    sudo python3 installer/bootstrap.py desktop
    sudo python3 installer/bootstrap.py tljh --admin NAME

`binder_at_home.py` and `binder_on_tljh.py` are what it does. This file must be understood by older Pythons,
too, which are told so.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 10)


def parser() -> argparse.ArgumentParser:
    commands = argparse.ArgumentParser(
        prog="bootstrap.py", description="Installs and starts The Littlest Binder on this machine."
    )
    kinds = commands.add_subparsers(dest="kind", metavar="KIND", required=True)
    desktop = kinds.add_parser(
        "desktop",
        help="Binder at home: one person, this computer only",
        description="Installs what is missing, then runs Binder at home in the foreground and prints a "
        "sign-in link. Ctrl-C stops what was started. It can be run again at any time: what is there is "
        "used as it is, and while it is running a second run only prints a new link.",
        epilog="Everything but Debian packages, the buildx plugin and the link in /usr/local/bin lies in "
        "the person's folder ~/.local/share/littlest-binder (XDG_DATA_HOME).",
    )
    desktop.add_argument("--no-browser", action="store_true", help="print the sign-in link, open no browser")
    desktop.add_argument("--no-start", action="store_true", help="install only")
    desktop.add_argument("--no-menu", action="store_true", help="add no entry to the desktop's menu")
    desktop.add_argument("--port", type=port, help="port on 127.0.0.1; kept in the settings (first: 8888)")
    desktop.add_argument(
        "--release",
        choices=("bookworm", "trixie"),
        help="Debian release in which repositories are built; kept in the settings (first: bookworm)",
    )
    desktop.add_argument(
        "--mirror",
        type=mirror,
        metavar="URL",
        help="Debian mirror; kept in the settings (first: this machine's)",
    )
    desktop.add_argument("--verbose", action="store_true", help="show every line of every command")
    add_tljh(kinds)
    return commands


def add_tljh(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    server = kinds.add_parser(
        "tljh",
        help="a server for several people, with The Littlest JupyterHub",
        description="Installs The Littlest JupyterHub by its own bootstrap, with The Littlest Binder as its "
        "plugin. Where TLJH is there already, it says what will change, asks, and only adds. It can be run "
        "again at any time: what is there is used as it is.",
        epilog="The log is /var/log/littlest-binder/install.log.",
    )
    server.add_argument(
        "--admin",
        type=account,
        metavar="NAME[:PASSWORD]",
        help="the first administrator of a new TLJH; other users of this machine can read a password here",
    )
    server.add_argument(
        "--password-file", type=Path, metavar="FILE", help="the administrator's password is its first line"
    )
    server.add_argument("--yes", action="store_true", help="do not ask on a TLJH that is there already")
    server.add_argument(
        "--offline",
        type=folder,
        metavar="FOLDER",
        help="take what the internet would supply from FOLDER, see docs/how-to/install-offline.md",
    )
    server.add_argument(
        "--plugin-source",
        default="",
        metavar="SPEC",
        help="what pip installs instead of this checkout: a version (the-littlest-binder==1.0), a file, "
        "a folder",
    )
    server.add_argument(
        "--release",
        choices=("bookworm", "trixie"),
        help="Debian release whose root filesystem is made now (bookworm)",
    )
    server.add_argument("--mirror", type=mirror, metavar="URL", help="Debian mirror for it (this machine's)")
    # TLJH's own `--plugin` installed us: what is left to do, see `tljh_plugin/hooks.py`.
    server.add_argument("--installed", action="store_true", help=argparse.SUPPRESS)
    server.add_argument("--verbose", action="store_true", help="show every line of every command")


def account(text: str) -> str:
    name, _, password = text.partition(":")
    fits = 1 <= len(name) <= 200 and not any(c.isspace() or c in "/," for c in text)
    if not fits or name.startswith("-") or (":" in text and not password):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME or NAME:PASSWORD")
    return text


def folder(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return path


def port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def mirror(text: str) -> str:
    if not text.startswith(("http://", "https://")) or any(c.isspace() for c in text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a mirror: give its http or https address")
    return text.rstrip("/")


def main(arguments: list[str]) -> int:
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        print(f"Python 3.10 or later is needed, {sys.executable} is {found}.", file=sys.stderr)
        print("Use Debian 12 or later, or Ubuntu 22.04 or later.", file=sys.stderr)
        return 2
    options = parser().parse_args(arguments)
    # A stricter mask of the person's would make what everybody needs (/usr/local) unreadable.
    os.umask(0o022)
    sys.dont_write_bytecode = True
    if options.kind == "tljh":
        options.admin = options.admin or ""
        import binder_on_tljh

        return binder_on_tljh.OnTljh(options, Path(__file__).resolve().parent.parent).run()
    import binder_at_home

    return binder_at_home.Desktop(options, Path(__file__).resolve().parent.parent).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
