"""What was asked for, as values: `RepoSpec` (a repository at a ref) and `LaunchLink` (and what to open).

The grammar is BinderHub's, so that a mybinder.org link works after its host was changed:
`gh/owner/repo/ref`, `gl/<escaped namespace>/ref`, `git/<escaped url>/ref`; and our own
`local/<escaped path>[/ref]` and `image/<name>`. Refs may contain `/`. Pure: no network, no files.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from ..errors import InvalidSpec
from .providers import (
    escape_path,
    identity_url,
    normal_git_url,
    page_url,
    printable,
    recognise_page,
    shown,
)

__all__ = ["LaunchLink", "RepoSpec", "open_file", "parse_link", "parse_typed", "shown", "valid_ref"]

Provider = Literal["gh", "gl", "git", "local", "image"]
Storage = Literal["", "project", "ephemeral"]

_PROVIDERS: tuple[str, ...] = get_args(Provider)
_LATER = ("gist", "zenodo", "figshare", "dataverse", "hydroshare", "ckan")
_SUPPORTED = (
    "Supported are gh/owner/repo/ref, gl/<escaped namespace>/ref, git/<escaped url>/ref, local/<escaped path>"
)

MAX_LINK = 2000  # characters, as in `launch.options.LaunchOptions`

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_GITHUB = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,99})/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
_GITLAB = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,254}(?:/[A-Za-z0-9_.][A-Za-z0-9_.-]{0,254}){1,20}")
_IMAGE = re.compile(
    r"[a-z0-9]+(?:[._:/-]+[a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_SERVER = re.compile(r"[a-z](?:-?[a-z0-9])*")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.-]{0,79}")
_PROFILE = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class RepoSpec:
    """A repository and what of it was asked for; validated and brought into one spelling when made.

    `repository` is `owner/repo` (gh), the namespace (gl), a URL (git), an absolute path (local) or a name
    (image), unescaped. `ref` is a branch, tag, commit or `refs/…`; empty means the default branch. `subdir`
    is the folder that is built, relative; empty means all. Raises `InvalidSpec`.
    """

    provider: Provider
    repository: str
    ref: str = ""
    subdir: str = ""

    def __post_init__(self) -> None:
        if self.provider not in _PROVIDERS:
            raise _unknown_provider(self.provider)
        object.__setattr__(self, "repository", _repository(self.provider, self.repository))
        object.__setattr__(self, "ref", _ref(self.ref))
        object.__setattr__(self, "subdir", _subdir(self.subdir))
        if self.provider == "image" and (self.ref or self.subdir):
            raise InvalidSpec(
                f"Image `{shown(self.repository)}` was given a ref or a subfolder.",
                "An image has neither: remove it.",
            )
        if len(self.path) > MAX_LINK:
            raise InvalidSpec(
                f"`{shown(self.path, 60)}` has {len(self.path)} characters.",
                f"A link has at most {MAX_LINK}.",
            )

    @property
    def path(self) -> str:
        """The text after `/v2/` of a link to this, escaped; `parse_link` gives the same spec again.

        With a `subdir` it ends in `?subdir=…`.
        """
        ref = quote(self.ref or "HEAD", safe="/")
        match self.provider:
            case "gh":
                text = f"gh/{self.repository}/{ref}"
            case "gl" | "git":
                text = f"{self.provider}/{quote(self.repository, safe='')}/{ref}"
            case "local":
                text = f"local/{quote(self.repository, safe='')}" + (f"/{ref}" if self.ref else "")
            case "image":
                text = f"image/{quote(self.repository, safe='/:@')}"
        return text + (f"?subdir={quote(self.subdir, safe='/')}" if self.subdir else "")

    @property
    def clone_url(self) -> str:
        """What git is given: a URL without credentials, or the path of a local folder.

        Raises `InvalidSpec` for an image, which is no repository.
        """
        match self.provider:
            case "gh":
                return f"https://github.com/{self.repository}"
            case "gl":
                return f"https://gitlab.com/{self.repository}.git"
            case "git" | "local":
                return self.repository
        raise InvalidSpec(f"`{shown(self.path)}` is an image, not a repository.", "It is not cloned.")

    @property
    def normal_url(self) -> str:
        """One spelling for all addresses of the same repository; the URL of an image's identity."""
        if self.provider == "local":
            return "file://" + quote(self.repository, safe="/")
        if self.provider == "image":
            return self.path
        return identity_url(self.clone_url)

    @property
    def display(self) -> str:
        """For people: `github.com/owner/repo`, without the ref."""
        if self.provider in ("local", "image"):
            return printable(self.repository, 200)
        parts = urlsplit(self.clone_url)
        host = parts.netloc.rpartition("@")[2]
        return printable(host + unquote(parts.path).removesuffix(".git"), 200)

    @property
    def page_url(self) -> str:
        """Where a person can look at it in a browser; empty for local folders, images and ssh."""
        if self.provider in ("local", "image"):
            return ""
        return page_url(self.clone_url, self.ref, self.subdir)

    def with_ref(self, ref: str) -> RepoSpec:
        """The same repository at another ref; raises `InvalidSpec`."""
        return replace(self, ref=ref)

    def at(self, commit: str) -> RepoSpec:
        """The same at a commit; an image is one thing only. Raises `InvalidSpec`."""
        return self if self.provider == "image" else self.with_ref(commit)

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class LaunchLink:
    """A launch link: a repository, and what to do with it.

    `open_path` is a path on the person's own server such as `lab/tree/a%20b.ipynb`, escaped, without a
    leading slash; `storage` is empty where nothing was said. Raises `InvalidSpec`.
    """

    spec: RepoSpec
    open_path: str = ""
    storage: Storage = ""
    server: str = ""
    project: str = ""
    profile: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "open_path", own_path(self.open_path))
        if self.storage not in get_args(Storage):
            raise InvalidSpec(
                f"`storage={shown(self.storage, 40)}` is unknown.", "Use `project` or `ephemeral`."
            )
        if self.server and not (len(self.server) <= 30 and _SERVER.fullmatch(self.server)):
            raise InvalidSpec(
                f"`{shown(self.server, 40)}` is not a name for a server.",
                "Use 1 to 30 lower-case letters, digits and single hyphens, beginning with a letter.",
            )
        if self.project and not _PROJECT.fullmatch(self.project):
            raise InvalidSpec(
                f"`{shown(self.project, 40)}` is not the id of a project.", "Use the id, or `new`."
            )

        if self.profile and not _PROFILE.fullmatch(self.profile):
            raise InvalidSpec(
                f"`{shown(self.profile, 40)}` is not the id of a profile.", "Correct or leave out `profile=`."
            )

    @classmethod
    def from_request(cls, path: str, query: Mapping[str, list[str]]) -> LaunchLink:
        """From the escaped path after `/v2/` and the decoded query; raises `InvalidSpec`.

        `labpath` wins over `filepath` over `urlpath`; unknown keys are ignored, as BinderHub does.
        """

        def first(key: str) -> str:
            values = query.get(key) or [""]
            return values[0]

        spec = parse_link(path.partition("?")[0])
        inner = parse_qs(path.partition("?")[2])
        subdir = first("subdir") or inner.get("subdir", [""])[0]
        if first("labpath").strip("/"):
            open_path = open_file(first("labpath"))
        elif first("filepath").strip("/"):
            open_path = "tree/" + _escape_file(first("filepath"))
        else:
            open_path = first("urlpath")
        return cls(
            replace(spec, subdir=subdir) if subdir else spec,
            open_path,
            cast(Storage, first("storage")),
            first("server"),
            first("project"),
            first("profile"),
        )

    def to_url(self, base: str) -> str:
        """The link itself: `<base>/v2/<path>?…`."""
        path, _, _ = self.spec.path.partition("?")
        query = {
            "subdir": self.spec.subdir,
            "urlpath": self.open_path,
            "storage": self.storage,
            "server": self.server,
            "project": self.project,
            "profile": self.profile,
        }
        given = {key: value for key, value in query.items() if value}
        tail = "?" + urlencode(given, quote_via=quote, safe="/") if given else ""
        return f"{base.rstrip('/')}/v2/{path}{tail}"


def open_file(path: str) -> str:
    """The `open_path` that shows a file or folder of the repository in JupyterLab."""
    return "lab/tree/" + _escape_file(path)


def parse_link(path: str) -> RepoSpec:
    """The repository of a launch link, from the percent-escaped path after `/v2/`; raises `InvalidSpec`.

    A `?subdir=…` as `RepoSpec.path` writes it is understood; without a ref the default branch is meant.
    """
    if len(path) > MAX_LINK:
        raise InvalidSpec(
            f"`{shown(path, 60)}` has {len(path)} characters.", f"A link has at most {MAX_LINK}."
        )
    text, _, query = path.partition("?")
    subdir = parse_qs(query).get("subdir", [""])[0]
    provider, _, rest = text.strip("/").partition("/")
    if provider not in _PROVIDERS:
        raise _unknown_provider(provider, text)
    if not rest:
        raise InvalidSpec(f"`{shown(path)}` ends after the provider.", f"{_SUPPORTED}.")
    if provider == "image":
        return RepoSpec("image", _unescape(rest, path))
    if provider == "gh":
        owner, _, more = rest.partition("/")
        name, _, ref = more.partition("/")
        return RepoSpec("gh", _unescape(f"{owner}/{name}", path), _unescape(ref, path), subdir)
    repository, _, ref = rest.partition("/")
    if provider == "git" and not re.search(r"%3A|:", repository, re.IGNORECASE):
        raise InvalidSpec(
            f"`{shown(path)}`: the repository's URL is not escaped.",
            "Write `:` as %3A and `/` as %2F in it: git/https%3A%2F%2Fgit.example.org%2Frepo/main.",
        )
    if provider == "gl" and "%2f" not in repository.lower():
        raise InvalidSpec(
            f"`{shown(path)}`: the namespace is not escaped.",
            "Write `/` as %2F in it: gl/group%2Fproject/main.",
        )
    return RepoSpec(cast(Provider, provider), _unescape(repository, path), _unescape(ref, path), subdir)


def parse_typed(text: str) -> LaunchLink:
    """What a person meant who typed or pasted `text`; raises `InvalidSpec`.

    Understands launch links and badges of any BinderHub or of ours, addresses of pages of the known git
    hosts, addresses of repositories, `git@host:path`, `owner/repo`, and absolute paths of folders.
    """
    if len(text) > 10 * MAX_LINK:
        raise InvalidSpec(
            f"`{shown(text, 60)}` has {len(text)} characters.", "Give the address of a repository."
        )
    typed = text.strip()
    if " " in typed or "](" in typed or "<" in typed or "\n" in typed:
        found = _LINK_IN_TEXT.search(typed)
        if found:  # a badge in Markdown, reStructuredText or HTML
            typed = found.group()
    typed = typed.strip("<>\"'`")
    if not typed:
        raise InvalidSpec(
            "No repository was given.", "Give an address, such as https://github.com/owner/repo."
        )
    if _CONTROL.search(typed) or "\\" in typed or typed.startswith("-"):
        raise InvalidSpec(
            f"`{shown(typed)}` is not a repository: it begins with a dash or contains control characters or "
            "backslashes.",
            "Give an address, such as https://github.com/owner/repo.",
        )
    if typed.startswith("/") and not typed.startswith("/v2/"):
        return LaunchLink(RepoSpec("local", typed))
    link = _LAUNCH_LINK.fullmatch(typed) or _LINK_PATH.fullmatch(typed)
    if link:
        return LaunchLink.from_request(link["path"], parse_qs(link["query"] or ""))
    if re.match(r"(?i)(doi:\s*)?10\.\d{4,9}/", typed):
        raise InvalidSpec(f"`{shown(typed)}`: DOIs are not supported yet.", "Use a git repository.")
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9._-]+", typed):
        return LaunchLink(RepoSpec("gh", typed))
    return _from_address(typed)


_KINDS = "|".join((*_PROVIDERS, *_LATER))
_LINK_TAIL = r"(?:\?(?P<query>[^#]*))?(?:#.*)?"
_LAUNCH_LINK = re.compile(
    rf"(?:(?:https?://)?[^/?#\s@]+)?(?:/[^?#\s]*?)??/?v2/(?P<path>(?:{_KINDS})/[^?#]+){_LINK_TAIL}"
)
# Without /v2/ only what cannot be meant as `owner/repo`.
_LINK_PATH = re.compile(
    rf"(?P<path>gh/[^/?#]+/[^?#]+|gl/[^/?#]+%2[fF][^?#]+|git/[^/?#]+(?:%3[aA]|:)[^?#]+"
    rf"|(?:local|image|{'|'.join(_LATER)})/[^?#]+){_LINK_TAIL}"
)
_LINK_IN_TEXT = re.compile(rf"https?://[^\s\"'<>()\[\]]+/v2/(?:{_KINDS})/[^\s\"'<>()\[\]]+")


def _from_address(typed: str) -> LaunchLink:
    if re.match(r"(?i)https?://", typed):
        page = recognise_page(typed)
    elif re.match(
        r"(?i)(www\.)?(github\.com|gitlab\.com|bitbucket\.org|codeberg\.org|gist\.github\.com)/", typed
    ):
        page = recognise_page("https://" + typed)
    else:
        url = normal_git_url(typed)
        host = urlsplit(url).hostname
        if url.startswith("ssh://") and host in ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org"):
            # Public repositories of these hosts are read without a key by https.
            page = recognise_page(f"https://{host}{urlsplit(url).path}")
        else:
            return LaunchLink(RepoSpec("git", url))
    spec = RepoSpec(cast(Provider, page.provider), page.repository, page.ref)
    return LaunchLink(spec, open_file(page.path) if page.path else "")


def _unknown_provider(provider: str, text: str = "") -> InvalidSpec:
    if provider in _LATER:
        return InvalidSpec(f"Repositories from `{provider}` are not supported yet.", f"{_SUPPORTED}.")
    value = shown(text or provider)
    return InvalidSpec(f"`{value}` does not begin with a known provider.", f"{_SUPPORTED}.")


def _unescape(text: str, whole: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidSpec(
            f"`{shown(whole)}` has escapes that are not UTF-8.", "Escape the UTF-8 bytes of the name."
        ) from None


def _repository(provider: str, text: str) -> str:
    match provider:
        case "gh":
            name = text.removesuffix(".git")
            if not _GITHUB.fullmatch(name):
                raise InvalidSpec(
                    f"`{shown(text)}` is not a GitHub repository.",
                    "Give it as owner/repository: letters, digits, `-`, `_` and `.`.",
                )
            return name
        case "gl":
            name = text.strip("/").removesuffix(".git")
            if not _GITLAB.fullmatch(name) or {".", ".."} & set(name.split("/")):
                raise InvalidSpec(
                    f"`{shown(text)}` is not a GitLab project.",
                    "Give it as group/project: letters, digits, `-`, `_` and `.`.",
                )
            return name
        case "git":
            return normal_git_url(text)
        case "local":
            return _folder(text)
    if not _IMAGE.fullmatch(text) or len(text) > 255:
        raise InvalidSpec(f"`{shown(text)}` is not the name of an image.", "Give name:tag or name@sha256:….")
    return text


def _folder(text: str) -> str:
    if not text.startswith("/") or _CONTROL.search(text) or not _is_unicode(text):
        raise InvalidSpec(
            f"`{shown(text)}` is not an absolute path.", "Give the folder's whole path, from `/`."
        )
    if ".." in text.split("/"):
        raise InvalidSpec(f"`{shown(text)}` contains `..`.", "Give the folder's direct path.")
    return "/" + posixpath.normpath(text).lstrip("/")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def valid_ref(name: str) -> bool:
    """The rules of git-check-ref-format(1), and no leading dash, which git could take for an option."""
    return (
        0 < len(name) <= 500
        and not name.startswith("-")
        and not re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//", name)
        and name != "@"
        and not name.endswith((".", "/"))
        and not name.startswith("/")
        and not any(part.startswith(".") or part.endswith(".lock") for part in name.split("/"))
        and _is_unicode(name)
    )


def _ref(text: str) -> str:
    ref = text.strip("/")
    if ref in ("", "HEAD"):
        return ""
    if not valid_ref(ref):
        raise InvalidSpec(
            f"`{shown(text)}` cannot be the name of a branch, tag or commit.",
            "Correct the ref, or leave it out.",
        )
    return ref


def _subdir(text: str) -> str:
    if text in ("", "."):
        return ""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts or _CONTROL.search(text) or "\\" in text or not _is_unicode(text) or len(text) > 1000:
        raise InvalidSpec(
            f"`{shown(text)}` is not a folder of the repository.",
            "Give a relative path such as `course/week1`, without `..`.",
        )
    if ".git" in (part.lower() for part in parts):
        raise InvalidSpec(f"`{shown(text)}` leads into `.git`.", "Give a folder of the repository's files.")
    return "/".join(parts)


def _escape_file(path: str) -> str:
    if not _is_unicode(path):
        raise InvalidSpec(f"`{shown(path)}` is not valid Unicode.", "Correct the path.")
    return quote(path.strip("/"), safe="/")


def own_path(text: str) -> str:
    """A path on the person's own server, escaped and without a leading slash; raises `InvalidSpec`.

    Nothing may lead to another site or person, however often it is escaped: somebody on the way may unescape
    once more than we do.
    """
    path = text[: MAX_LINK + 1].lstrip("/")
    place = re.split(r"[?#]", path, maxsplit=1)[0]
    plain = _unescaped(place)
    bad = (
        len(text) > MAX_LINK
        or _CONTROL.search(text)
        or _CONTROL.search(plain)
        or "\\" in plain
        or re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]*:", plain)
        or text.startswith("//")
        or plain.startswith("/")
        or any(part in (".", "..") for part in plain.split("/"))
        or not _is_unicode(text)
    )
    if bad:
        raise InvalidSpec(
            f"`{shown(text)}` is not a path on your own server.",
            "Give a relative path such as `lab/tree/index.ipynb`.",
        )
    tail = path[len(place) :]
    return escape_path(place) + re.sub(r"[^\x21-\x7e]|[\"<>`]", lambda m: quote(m.group(), safe=""), tail)


def _unescaped(text: str) -> str:
    """Without any escapes, also those of escapes."""
    for _ in range(20):
        plain = unquote(text)
        if plain == text:
            break
        text = plain
    return text
