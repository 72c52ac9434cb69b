"""What a page holds, for tests that read it as a browser would."""

from __future__ import annotations

from html.parser import HTMLParser


class Forms(HTMLParser):
    """The forms, addresses and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.targets: list[str] = []
        self.labels: set[str] = set()
        self.fields: dict[str, str] = {}
        self.radios: list[tuple[str, bool]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        if tag == "label":
            self.labels.add(given.get("for", ""))
        if tag in ("a", "link", "script", "img", "form"):
            self.targets.append(given.get("href") or given.get("src") or given.get("action") or "")
        if tag == "input" and given.get("type") == "radio":
            self.radios.append((given["value"], "checked" in given))
        elif tag == "input" and "name" in given:
            self.fields[given["name"]] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
