"""All that can be said of a file of settings before a hub works with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from . import machine, mistakes, tljh, together
from .file import SettingsFile
from .finding import LEVELS, Finding, Remark


def check(file: SettingsFile) -> list[Finding]:
    """Everything that is wrong, doubtful or worth knowing, worst first, then in the order of the file."""
    found = list(_of_document(file))
    if file.document is None or isinstance(file.document, Mapping):
        settings, wrong = mistakes.validated(file)
        found += wrong
        if settings is not None:
            found += _placed(file, together.remarks(settings))
            found += _placed(file, machine.remarks(settings))
            if file.platform == "tljh":
                found += _placed(file, tljh.remarks(file, settings))
    if file.platform == "tljh":
        found += tljh.later_files(file)
    return sorted(
        dict.fromkeys(found), key=lambda each: (LEVELS.index(each.level), each.file, each.line or 0)
    )


def _of_document(file: SettingsFile) -> Iterator[Finding]:
    """What is wrong with the file as a whole."""
    if not file.there:
        yield Finding("note", "", str(file.path), None, "There is no such file: the defaults hold.")
        return
    if file.document is not None and not isinstance(file.document, Mapping):
        yield Finding(
            "mistake", "", str(file.path), 1, f"The file must hold sections, found {file.document!r:.80}.",
            "Indent the keys under `binder:`.",
        )  # fmt: skip
        return
    if file.platform == "tljh":
        yield from _placed(file, tljh.sections(file))
        return
    for name in file.document or {}:
        if name != "binder":
            yield Finding(
                "mistake", f":{name}", str(file.path), file.line(str(name)),
                f"The file must hold one section `binder:`, found `{name}`.",
                "Indent the keys under `binder:`.",
            )  # fmt: skip


def _placed(file: SettingsFile, remarks: Iterable[Remark]) -> Iterator[Finding]:
    """Remarks with the line of what they speak of."""
    for each in remarks:
        parts = (each.key.removeprefix(":") if each.key.startswith(":") else f"binder.{each.key}").split(".")
        keys = [int(part) if part.isdigit() else part for part in parts if part]
        said = file.places.line(keys) is not None
        line = file.line(*keys) if said or len(keys) > 2 else None
        yield Finding(each.level, each.key, str(file.path), line, each.message, each.next)
