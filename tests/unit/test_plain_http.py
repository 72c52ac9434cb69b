"""Clients of our own service and of the hub cost next to nothing, and trust nobody whom they need not."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.client import ServiceClient
from tljh_plugin.hub_api import HubApi
from tljh_plugin.plain_http import verify_for


@pytest.fixture
def without_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the machine's certificate authorities fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the certificate authorities were read")

    monkeypatch.setattr(ssl, "create_default_context", refuse)


@pytest.mark.usefixtures("without_authorities")
async def test_no_authorities_are_read_for_what_speaks_no_tls(tmp_path: Path) -> None:
    async with ServiceClient(socket=tmp_path / "service.sock"), HubApi("http://127.0.0.1:1/hub/api", "t"):
        pass


@pytest.mark.usefixtures("without_authorities")
async def test_they_are_read_for_an_address_with_tls() -> None:
    with pytest.raises(AssertionError, match="authorities were read"):
        HubApi("https://lab.example.org/hub/api", "t")


def test_what_is_given_instead_trusts_nobody() -> None:
    context = verify_for("http://127.0.0.1:1/")
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.get_ca_certs() == []
