"""The end of JupyterHub's sign-in, in the look of our pages where it fails."""

from __future__ import annotations

from jupyterhub.services.auth import HubOAuthCallbackHandler

from .page import Page


class SignedIn(HubOAuthCallbackHandler, Page):  # type: ignore[misc]
    """JupyterHub's own handler; its errors look like ours."""

    open_to_all = True
