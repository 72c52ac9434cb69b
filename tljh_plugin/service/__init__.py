"""The JupyterHub service `binder`: pages, API and events over the stages.

Comes in: HTTP, signed in by the hub or through the socket that only we can open. Goes out: pages and JSON.
Handlers translate and call; nothing is decided here.
"""
