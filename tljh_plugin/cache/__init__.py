"""Images on disk: what Docker holds, who uses it, what may go.

Comes in: what Docker, the worker and the store say. Goes out: the list of images, leases, and deletions
that never touch what is in use or not ours. Nothing here starts or builds anything.
"""
