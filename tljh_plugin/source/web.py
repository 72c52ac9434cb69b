"""HTTP requests to addresses that the policy has seen: what was looked up is what is connected to."""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence

import httpx

from ..plain_http import verify_for
from . import policy

_CA_VARIABLES = ("GIT_SSL_CAINFO", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_MOST_ADDRESSES = 3


@contextlib.asynccontextmanager
async def answer(
    method: str,
    url: str,
    addresses: Sequence[str],
    headers: Mapping[str, str],
    *,
    content: bytes | None = None,
    timeout: httpx.Timeout | None = None,
) -> AsyncIterator[httpx.Response]:
    """The answer of the host at exactly one of `addresses` (none: of a proxy's choice), its body unread.

    Follows no redirect. Raises `httpx.TransportError` and `httpx.InvalidURL`.
    """
    proxy = policy.proxy_for(url)
    verify: ssl.SSLContext | bool = tls_context() if url.startswith("https:") or proxy else verify_for(url)
    async with contextlib.AsyncExitStack() as closing:
        client = await closing.enter_async_context(
            httpx.AsyncClient(
                trust_env=False,
                verify=verify,
                proxy=proxy or None,
                timeout=timeout or httpx.Timeout(None),
                follow_redirects=False,
            )
        )
        yield await _first(client, method, url, addresses, headers, content, closing)


async def _first(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    addresses: Sequence[str],
    headers: Mapping[str, str],
    content: bytes | None,
    closing: contextlib.AsyncExitStack,
) -> httpx.Response:
    """The answer of the first address to which a connection can be made."""
    tried = list(addresses[:_MOST_ADDRESSES]) or [""]
    for address in tried[:-1]:
        with contextlib.suppress(httpx.ConnectError):
            return await closing.enter_async_context(_stream(client, method, url, address, headers, content))
    return await closing.enter_async_context(_stream(client, method, url, tried[-1], headers, content))


def _stream(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    address: str,
    headers: Mapping[str, str],
    content: bytes | None,
) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
    target = httpx.URL(url)
    sent = {**headers, "Host": target.netloc.decode("ascii")}
    extensions = {}
    if address:
        extensions["sni_hostname"] = target.host
        target = target.copy_with(host=address.partition("%")[0])
    return client.stream(method, target, headers=sent, content=content, extensions=extensions)


def ca_file() -> str:
    """The machine's certificate authorities: what the environment names, else the system's bundle."""
    named = [os.environ.get(name, "") for name in _CA_VARIABLES]
    return next((name for name in (*named, *_CA_FILES) if name and os.path.isfile(name)), "")


def tls_context() -> ssl.SSLContext:
    """The same certificate authorities for our own requests."""
    name = ca_file()
    return _tls_context(name, os.stat(name).st_mtime_ns if name else 0)


@functools.lru_cache(maxsize=2)
def _tls_context(name: str, changed: int) -> ssl.SSLContext:
    """Loading a bundle takes tens of milliseconds: kept until the file changes."""
    return ssl.create_default_context(cafile=name or None)
