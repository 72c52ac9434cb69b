"""From a commit to an image that was seen to start.

Comes in: a `PinnedRepo`. Goes out: an image in Docker, checked and recorded in the store, and a log. Equal
requests are joined, builds survive a restart. Only `worker.py` imports repo2docker, in a process of its own.
"""
