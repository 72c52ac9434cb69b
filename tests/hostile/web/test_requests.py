"""Requests that are too large, too deep, too slow, or not what they say they are."""

from __future__ import annotations

import asyncio
import json
import stat

import httpx
import pytest
from house import PREFIX, House, line
from waiting import LONG_S, until

from tljh_plugin.build.log import clean
from tljh_plugin.service import app

EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.attack("web: bodies")
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"spec":' * 7_000,
        b'{"spec": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"spec": "a", "spec": "b"}',
        b'{"spec": NaN}',
        b'{"spec": 1e999999}',
        b'{"spec": ' + b"9" * 50_000 + b"}",
        b'{"spec": "\\ud800"}',
        b'{"spec": "\xff"}',
        b'{"__proto__": {"admin": true}, "spec": "a"}',
        b'{"spec": {"$ne": 1}}',
        b"\x00" * 100,
        b"null",
        b"[]",
        b'"text"',
        b"",
        b'{"spec": "gh/owner/repo/main", "person": "root"}',
        b'{"spec": "gh/owner/repo/main", "admin": true}',
    ],
    ids=lambda body: ascii(body[:20]),
)
async def test_a_body_that_is_no_honest_json_is_refused_in_words(house: House, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "Authorization": "token ada-token"}
    async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=LONG_S) as client:
        for path in ("resolve", "builds", "launches"):
            answer = await client.post(f"api/v1/{path}", content=body)
            assert answer.status_code == 400, path
            assert answer.json()["next"]
            assert len(answer.text) < 1000
    assert not house.queue.requested
    assert not house.hub.started


@pytest.mark.attack("web: bodies")
@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "text/json",
        "",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "multipart/form-data",
    ],
)
async def test_json_of_another_type_is_refused(house: House, kind: str) -> None:
    headers = {"Content-Type": kind, "Authorization": "token ada-token"}
    async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=LONG_S) as client:
        answer = await client.post("api/v1/builds", content=b'{"spec": "gh/owner/repo/main"}')
    assert answer.status_code == 400
    assert not house.queue.requested


async def test_honest_json_is_taken(house: House) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8", "Authorization": "token ada-token"}
    async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=LONG_S) as client:
        answer = await client.post("api/v1/builds", content=b'{"spec": "gh/owner/repo/main"}')
    assert answer.status_code == 202


@pytest.mark.attack("web: bodies")
@pytest.mark.parametrize("how", ["said", "chunked", "lie"])
async def test_a_large_body_is_not_taken_in(house: House, how: str) -> None:
    size = app.MAX_BODY_BYTES + 1
    header = {
        "said": f"Content-Length: {size}",
        "chunked": "Transfer-Encoding: chunked",
        "lie": "Content-Length: 5",
    }
    body = b"x" * size if how != "chunked" else b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"x" * size)
    answer = await spoken(
        house, f"POST {PREFIX}api/v1/builds HTTP/1.1\r\nHost: x\r\n{header[how]}\r\n\r\n".encode() + body
    )
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert b" 202 " not in answer.split(b"\r\n")[0]
    assert not house.queue.requested


@pytest.mark.attack("web: bodies")
@pytest.mark.parametrize(
    "head",
    [
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd",
        "GET {path} HTTP/1.1\r\nHost: x\r\nX: " + "y" * 100_000 + "\r\n\r\n",
        "GET {path}?" + "a=b&" * 30_000 + " HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_requests_that_can_be_read_in_two_ways_are_refused(house: House, head: str) -> None:
    """What one reader takes for a body another may take for a second request (RFC 9112, section 11.2)."""
    path = f"{PREFIX}api/v1/builds"
    smuggled = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: token root-token\r\n\r\n"
    answer = await spoken(house, (head.format(path=path) + smuggled).encode())
    assert b" 200 " not in answer


async def spoken(house: House, said: bytes) -> bytes:
    """What the service answers to these bytes until it closes, or for a second."""
    host, port = house.environment.address
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(said)
        return await asyncio.wait_for(reader.read(-1), 1)
    except (asyncio.TimeoutError, ConnectionResetError):
        return b""
    finally:
        writer.close()


@pytest.mark.attack("web: slow requests")
@pytest.mark.parametrize("part", ["head", "body"])
async def test_many_slow_requests_end_and_hold_nobody_up(
    house: House, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_SLOW_BODY_S", 2.0)
    monkeypatch.setattr(app, "_IDLE_S", 2.0)
    async with house.away():
        pass  # it listens anew, with these patiences
    host, port = house.environment.address
    said = {
        "head": f"POST {PREFIX}api/v1/builds HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "body": f"POST {PREFIX}api/v1/builds HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{",
    }
    slow = [await asyncio.open_connection(host, port) for _ in range(200)]
    for _, writer in slow:
        writer.write(said[part].encode())
    async with house.client("root") as client:
        assert await asyncio.wait_for(client.builds(), 60)
    for reader, writer in slow:
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


# -- the log on its way to a page -------------------------------------------------------------------------


@pytest.mark.attack("web: log text")
@pytest.mark.parametrize(
    "text",
    [
        "x\n\nevent: failed\ndata: {}",
        "x\r\rid: 99\rdata: y",
        "x\u2028\u2028event: failed",
        'x"},{"n":99,"phase":"failed"}',
        EVIL,
        "</pre><script>alert(1)</script>",
        "\x1b]8;;https://evil.example/\x1b\\click\x1b]8;;\x1b\\",
        "\x00\x07x",
        "a\u202eb",
    ],
    ids=lambda text: ascii(text)[:30],
)
async def test_a_line_of_a_log_stays_one_event_and_is_text(house: House, text: str) -> None:
    said = clean(text)  # as it is when it is written
    await house.queue.write("b-1", line(2, text=said), line(3, "failed"))
    (house.settings.log_dir / "b-1.jsonl").write_text(
        "".join(each.model_dump_json() + "\n" for each in house.queue.logs["b-1"])
    )
    async with house.browser("root") as browser:
        page = await browser.visit("builds/b-1")
        assert "<img src=x" not in page.text
        assert "<script>" not in page.text
        token = {"X-XSRFToken": browser.xsrf, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
        stream = (await browser.get("api/v1/builds/b-1/events", headers=token)).text
        plain = await browser.get("api/v1/builds/b-1/log?text=1", headers=token)
    blocks = [block for block in stream.split("\n\n") if "data: " in block]
    assert [block.split("\n")[0] for block in blocks] == ["id: 1", "id: 2", "id: 3"]
    data = [json.loads(block.split("data: ", 1)[1]) for block in blocks]
    assert data[1]["text"] == said
    assert "\r" not in stream
    assert plain.headers["content-type"].startswith("text/plain")
    assert plain.headers["x-content-type-options"] == "nosniff"
    assert "\x1b" not in plain.text


@pytest.mark.attack("web: files of ours")
async def test_our_socket_and_files_are_the_owners_alone(house: House) -> None:
    socket = house.settings.service_socket
    await until(socket.exists)
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    for folder in (socket.parent, house.settings.state_dir):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0, folder
