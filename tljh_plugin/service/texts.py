"""Where the texts of the pages would be translated; so far they are as they were written."""

from __future__ import annotations

from gettext import NullTranslations

TRANSLATIONS = NullTranslations()


def _(text: str) -> str:
    """The text in the reader's language; fill it with `.format(…)`."""
    return TRANSLATIONS.gettext(text)
