"""What the person's session knows of us: the menu entry and its icon, where the XDG specifications have them.

Both carry a mark; what does not is somebody else's and stays.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from shutil import which

from ..errors import SettingsError
from ..settings import Settings
from . import autostart

NAME = "littlest-binder"
_MARK = "org.littlest-binder"

# Desktop Entry Specification, of which Debian 12's validator knows 1.4; people search menus by `Keywords`.
_ENTRY = """\
[Desktop Entry]
Type=Application
Version=1.4
Name=The Littlest Binder
GenericName=Binder at home
Comment=Open repositories as Jupyter servers on this computer
Keywords=Binder;Jupyter;Notebook;Repository;
Exec={command} start --menu
TryExec={program}
Icon={name}
Terminal=false
StartupNotify=false
Categories=Development;
Actions=stop;
X-Littlest-Binder={mark}

[Desktop Action stop]
Name=Stop The Littlest Binder
Exec={command} stop
"""
# Characters of an unquoted argument; all others need quotes, see "The Exec key".
_PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./+:@,=")


def entry_path(settings: Settings) -> Path:
    """`applications/littlest-binder.desktop` beside the state folder, which lies in `$XDG_DATA_HOME`."""
    return settings.state_dir.parent / "applications" / f"{NAME}.desktop"


def icon_path(settings: Settings) -> Path:
    """In the theme that every icon theme falls back to; see the Icon Theme Specification."""
    return settings.state_dir.parent / "icons" / "hicolor" / "scalable" / "apps" / f"{NAME}.svg"


def entry(program: Path) -> str:
    """The entry that starts `program`. Raises `SettingsError` for a path that no entry can name."""
    text = str(program)
    # A `=` in the program's name and any control character are forbidden; `%` begins a field code.
    if not program.is_absolute() or "=" in text or any(ord(letter) < 32 for letter in text):
        raise SettingsError(
            f"A menu entry cannot start {text!r}.", "Move the installation to a folder with a plain name."
        )
    return _ENTRY.format(command=_quoted(text), program=_escaped(text), name=NAME, mark=_MARK)


def _quoted(argument: str) -> str:
    """An argument of `Exec`: quoted for it, then escaped as any value is."""
    argument = argument.replace("%", "%%")
    if set(argument) <= _PLAIN:
        return argument
    for letter in '\\"`$':
        argument = argument.replace(letter, f"\\{letter}")
    return _escaped(f'"{argument}"')


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\")


def ensure(settings: Settings, program: Path) -> list[Path]:
    """The entry and its icon are there; returns the files that changed. Raises `SettingsError`."""
    wanted = {
        icon_path(settings): f"<!-- {_MARK} -->\n{_icon()}",
        entry_path(settings): entry(program),
    }
    changed = []
    try:
        for path, text in wanted.items():
            if path.is_symlink() or (path.exists() and not _is_ours(path)):
                raise SettingsError(f"{path} is not ours.", "Move it away, then run the command again.")
            if path.exists() and path.read_text() == text:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            draft.write_text(text)
            draft.rename(path)
            changed.append(path)
    except OSError as error:
        raise SettingsError(
            f"Cannot write {error.filename}: {error.strerror}.", "Check the folder's owner and the free disk."
        ) from error
    if changed:
        _tell_menus(entry_path(settings).parent)
    return changed


def what_goes(settings: Settings) -> list[Path]:
    """What `remove` would take away."""
    unit = autostart.unit_path()
    menu = [path for path in (entry_path(settings), icon_path(settings)) if path.is_file() and _is_ours(path)]
    return [*([unit] if unit.exists() else []), *menu]


def remove(settings: Settings) -> list[Path]:
    """Take away all that the person's session knows of us, the autostart included; returns what was there.

    For the uninstaller: what the autostart runs is stopped by that. Raises nothing where no systemd runs.
    """
    unit = [autostart.unit_path()] if autostart.switch_off() else []
    return unit + remove_from_menu(settings)


def remove_from_menu(settings: Settings) -> list[Path]:
    """Take entry and icon away; returns the files that were there. Folders stay."""
    gone = []
    for path in (entry_path(settings), icon_path(settings)):
        if not path.is_symlink() and path.is_file() and _is_ours(path):
            path.unlink()
            gone.append(path)
    if gone:
        _tell_menus(entry_path(settings).parent)
    return gone


def present(settings: Settings) -> bool:
    """Whether the menu has our entry."""
    path = entry_path(settings)
    return path.is_file() and _is_ours(path)


def unwanted_mark(settings: Settings) -> Path:
    """While this file is there the installer adds no entry."""
    return settings.state_dir / "menu-off"


def _is_ours(path: Path) -> bool:
    with suppress(OSError, UnicodeDecodeError):
        return _MARK in path.read_text()
    return False


def _icon() -> str:
    return (files("tljh_plugin") / "web" / "static" / "logo.svg").read_text(encoding="utf-8")


def _tell_menus(folder: Path) -> None:
    """Most menus look at the folder by themselves; some read this cache."""
    program = which("update-desktop-database")
    if program and (folder / "mimeinfo.cache").exists():
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([program, str(folder)], capture_output=True, check=False, timeout=60)
