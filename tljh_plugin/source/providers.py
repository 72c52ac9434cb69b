"""Where repositories live: addresses of the known git hosts, and what their pages' addresses mean.

Pure text work: no network, no files. `normal_git_url` is the only way in which an address becomes part of
a `RepoSpec`, so an address in there never carries credentials, escapes its path or names a transport that
runs programs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from ..errors import InvalidSpec

NOT_IN_ADDRESSES = (
    "Give the address without user name, password and token; if the repository is private you are asked for "
    "them. Consider what stood in the address as known to others."
)

DEFAULT_PORTS = {"https": 443, "http": 80, "ssh": 22}
# Hosts where letters' case and a `.git` at the end do not make another repository.
_FOLDING_HOSTS = {"github.com", "gitlab.com", "bitbucket.org", "codeberg.org"}
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_PATH_SAFE = "/:@!$&'()*+,;=~"
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")
_SCP = re.compile(
    r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<path>(?!//).*)"
)
_SECRET_PARAMETER = re.compile(r"((?:token|secret|password|passwd|api_?key)=)[^&\s]*", re.IGNORECASE)
_TOKENS = re.compile(
    r"\b(gh[pousr]_|github_pat_|gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat|ffct)-)[A-Za-z0-9_-]{16,}"
)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_WELL_KNOWN_REF = re.compile(
    r"main|master|HEAD|develop|development|dev|devel|trunk|stable|latest|gh-pages|v?\d+(\.\d+)*|[0-9a-f]{40}"
)


def shown(text: str, limit: int = 120) -> str:
    """`text` fit for a message: no credentials, no control characters, at most `limit` characters."""
    for _ in range(3):  # a link's text is escaped once, an address in it once more
        if "%" not in text or not re.search(r"%(25)*(40|3[aA])", text):
            break
        text = unquote(text)
    text = _without_credentials(text)
    text = _SECRET_PARAMETER.sub(r"\1…", text)
    text = _TOKENS.sub(r"\1…", text)
    return printable(text, limit)


def printable(text: str, limit: int) -> str:
    """`text` without control characters, at most `limit` characters."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "…"


def _without_credentials(text: str) -> str:
    """All up to the last @ goes, since an unescaped slash or space in a password ends the authority early."""
    before, at, after = text.rpartition("@")
    scheme, separator, _ = before.partition("://")
    if at and separator:
        return f"{scheme}://…@{after}"
    return f"…@{after}" if at and ":" in before else text


def without_user(text: str) -> str:
    """An address without user name and password; other text stays as it is."""
    before, at, after = text.rpartition("@")
    lines, newline, line = before.rpartition("\n")
    scheme, separator, _ = line.partition("://")
    return f"{lines}{newline}{scheme}://{after}" if at and separator else text


def escape_path(path: str) -> str:
    """Percent-escape what may not stand in a URL's path, by RFC 3986; escapes that are there stay."""

    def tidy(found: re.Match[str]) -> str:
        escape = found.group()
        character = chr(int(escape[1:], 16))
        return character if _UNRESERVED.fullmatch(character) else escape.upper()

    parts = re.split(r"(%[0-9A-Fa-f]{2})", path)
    return "".join(
        re.sub(r"%..", tidy, part) if index % 2 else quote(part, safe=_PATH_SAFE)
        for index, part in enumerate(parts)
    )


def normal_git_url(text: str) -> str:
    """The address of a git repository in one spelling; raises `InvalidSpec`.

    Understands `https://`, `http://`, `ssh://` and `user@host:path`. Scheme and host become lower case, a
    default port goes, the path's escapes are those of RFC 3986.
    """
    _refuse_odd(text)
    if "://" not in text:
        scp = _SCP.fullmatch(text)
        if scp is None or re.match(r"[A-Za-z0-9+.-]+::", text):
            raise InvalidSpec(
                f"`{shown(text)}` is not the address of a git repository.",
                "Give one that begins with https://, for example https://github.com/owner/repository.",
            )
        if "@" in scp["path"].partition("/")[0]:
            raise InvalidSpec(f"`{shown(text)}` contains a user name or a password.", NOT_IN_ADDRESSES)
        user = f"{scp['user']}@" if scp["user"] else ""
        text = f"ssh://{user}{scp['host']}/{scp['path'].lstrip('/')}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidSpec(
            f"`{shown(text)}` is not a valid address.", "Correct its host name or port."
        ) from None
    scheme = parts.scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise InvalidSpec(
            f"`{shown(text)}`: repositories are never cloned with the protocol `{shown(scheme, 20)}`.",
            "Use https://. A folder of this machine is given by its absolute path, where that is allowed.",
        )
    user = _user(text, parts.netloc, scheme)
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise InvalidSpec(
            f"`{shown(text)}` has a query (?…) or a fragment (#…), which no address of a git repository has.",
            "Remove it; write %3F and %23 where these characters belong to a name.",
        )
    host = _host(text, parts.hostname or "")
    if port == 0:
        raise InvalidSpec(f"`{shown(text)}`: 0 is not a port.", "Correct the port.")
    port_part = "" if port in (None, DEFAULT_PORTS[scheme]) else f":{port}"
    try:
        path = re.sub(r"/{2,}", "/", escape_path(parts.path)).rstrip("/")
    except UnicodeEncodeError:
        raise InvalidSpec(f"`{shown(text)}` is not valid Unicode.", "Copy the address again.") from None
    if not path:
        raise InvalidSpec(
            f"`{shown(text)}` names a host but no repository.", "Add the path of the repository."
        )
    if {".", ".."} & set(path.split("/")):
        raise InvalidSpec(f"`{shown(text)}`: the path contains `.` or `..`.", "Give the direct address.")
    return f"{scheme}://{user}{host}{port_part}{path}"


def _refuse_odd(text: str) -> None:
    if len(text) > 2000:
        raise InvalidSpec(
            f"`{shown(text, 60)}` has {len(text)} characters.", "An address has at most 2000 characters."
        )
    if re.search(r"[\x00-\x1f\x7f\\]", text) or text != text.strip() or text.startswith("-"):
        raise InvalidSpec(
            f"`{shown(text)}` is not the address of a git repository: it begins with a dash or contains "
            "backslashes, control characters or spaces around it.",
            "Give an address such as https://github.com/owner/repository.",
        )


def _user(text: str, netloc: str, scheme: str) -> str:
    if "@" not in netloc:
        return ""
    user = netloc.rpartition("@")[0]
    if scheme == "ssh" and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", user) and not _TOKENS.match(user):
        return user + "@"
    raise InvalidSpec(f"`{shown(text)}` contains a user name or a password.", NOT_IN_ADDRESSES)


def _host(text: str, host: str) -> str:
    host = host.lower().removesuffix(".")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            host = ""
    if ":" in host:
        host = f"[{host}]"
    if not _HOST.fullmatch(host) or ".." in host:
        raise InvalidSpec(f"`{shown(text)}` has no valid host name.", "Correct the host name.")
    return host


def identity_url(url: str) -> str:
    """The spelling of a normal address that is equal for the same repository of a known host."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.netloc in _FOLDING_HOSTS:
        return f"https://{parts.netloc}{parts.path.lower().removesuffix('.git')}"
    return url


def page_url(url: str, ref: str, subdir: str = "") -> str:
    """Where a person can look at the repository in a browser; empty if it has no such page."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http"):
        return ""
    base = url.removesuffix(".git")
    below = "/" + quote(subdir) if subdir else ""
    if not ref and not below:
        return base
    escaped = quote(ref or "HEAD", safe="/")
    if parts.hostname == "github.com":
        return f"{base}/tree/{escaped}{below}"
    if parts.hostname == "gitlab.com":
        return f"{base}/-/tree/{escaped}{below}"
    if parts.hostname == "bitbucket.org":
        return f"{base}/src/{escaped}{below}"
    return base


@dataclass(frozen=True)
class Page:
    """What the address of a page means: a repository, maybe a ref, maybe a file or folder in it."""

    provider: str
    repository: str
    ref: str = ""
    path: str = ""


def recognise_page(text: str) -> Page:
    """What an http(s) address that a person copied from a browser means; raises `InvalidSpec`.

    Where a ref with slashes and a path follow each other the boundary cannot be known from the text: the
    well-known names, versions and commits are taken as refs; for others all is the ref of a folder's page,
    and the first part is the ref of a file's page.
    """
    _refuse_odd(text)
    bare = re.split(r"[?#]", text, maxsplit=1)[0]
    url = normal_git_url(bare)
    parts = urlsplit(url)
    host = parts.netloc.removeprefix("www.")
    segments = [unquote(part) for part in parts.path.strip("/").split("/")]
    if host == "gist.github.com":
        raise InvalidSpec(f"`{shown(text)}`: gists are not supported yet.", "Use a git repository.")
    if host in ("doi.org", "zenodo.org", "figshare.com"):
        raise InvalidSpec(
            f"`{shown(text)}`: DOIs and archives are not supported yet.", "Use a git repository."
        )
    if host == "raw.githubusercontent.com" and len(segments) >= 4:
        ref, path = _ref_and_path(segments[2:], file=True)
        return Page("gh", "/".join(segments[:2]), ref, path)
    if host == "github.com":
        if len(segments) < 2:
            raise InvalidSpec(
                f"`{shown(text)}` names an owner but no repository.", "Add the repository's name."
            )
        return Page("gh", "/".join(segments[:2]), *_github_like(segments[2:]))
    if "-" in segments[2:]:
        cut = segments.index("-", 2)
        return _gitlab(url, host, segments[:cut], segments[cut + 1 :])
    if host == "gitlab.com":
        return _gitlab(url, host, segments, [])
    origin = url[: len(url) - len(parts.path)]
    raw = parts.path.strip("/").split("/")
    if len(segments) >= 4 and segments[2] in ("tree", "blob", "src", "commit", "pull", "pulls"):
        return Page("git", f"{origin}/{'/'.join(raw[:2])}", *_github_like(segments[2:]))
    if bare == text:
        return Page("git", url)
    if "?" not in text:
        return Page("git", url)
    normal_git_url(text)  # raises: an unknown host's query may mean anything
    raise InvalidSpec(f"`{shown(text)}` is not the address of a git repository.", "Remove the query (?…).")


def _github_like(rest: Sequence[str]) -> tuple[str, str]:
    """Ref and path of a page of GitHub, Gitea, Forgejo or Bitbucket, from what follows owner and name."""
    match list(rest):
        case ["src", "branch" | "tag" | "commit", *more] if more:
            return more[0], "/".join(more[1:])
        case ["tree" | "src", *more] if more:
            return _ref_and_path(more, file=False)
        case ["blob" | "raw" | "edit" | "blame", *more] if more:
            return _ref_and_path(more, file=True)
        case ["pull" | "pulls", number, *more] if number.isdecimal():
            if len(more) > 1 and more[0] == "commits" and _COMMIT.fullmatch(more[1]):
                return more[1], ""
            return f"refs/pull/{number}/head", ""
        case ["commit", commit, *_]:
            return commit, ""
        case ["commits", *more] if more:
            return _ref_and_path(more, file=False)
        case ["releases", "tag", *more] if more:
            return "refs/tags/" + "/".join(more), ""
    return "", ""


def _gitlab(url: str, host: str, namespace: Sequence[str], rest: Sequence[str]) -> Page:
    ref, path = "", ""
    match list(rest):
        case ["tree", *more] if more:
            ref, path = _ref_and_path(more, file=False)
        case ["blob" | "raw" | "edit" | "blame", *more] if more:
            ref, path = _ref_and_path(more, file=True)
        case ["merge_requests", number, *_] if number.isdecimal():
            ref = f"refs/merge-requests/{number}/head"
        case ["commit", commit, *_]:
            ref = commit
        case ["commits", *more] if more:
            ref, path = _ref_and_path(more, file=False)
        case ["tags", *more] if more:
            ref = "refs/tags/" + "/".join(more)
    if host == "gitlab.com":
        return Page("gl", "/".join(namespace), ref, path)
    origin = url[: url.index("/", url.index("://") + 3)]
    repository = "/".join(quote(part, safe=_PATH_SAFE) for part in namespace)
    return Page("git", f"{origin}/{repository.removesuffix('.git')}.git", ref, path)


def _ref_and_path(parts: Sequence[str], *, file: bool) -> tuple[str, str]:
    if len(parts) > 2 and parts[0] == "refs" and parts[1] in ("heads", "tags"):
        ref, path = _ref_and_path(parts[2:], file=file)
        return f"refs/{parts[1]}/{ref}", path
    if file or _WELL_KNOWN_REF.fullmatch(parts[0]):
        return parts[0], "/".join(parts[1:])
    return "/".join(parts), ""
