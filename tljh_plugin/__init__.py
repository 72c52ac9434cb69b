"""The Littlest Binder: one machine as an authenticated, persistent Binder.

The way of a request is the order of the folders: `source` (what was asked for, which commit), `build`
(from commit to image), `cache` (images on disk), `launch` (from image to running server). The others
serve these four.
"""

__version__ = "0.2.0"
