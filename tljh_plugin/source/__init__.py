"""What was asked for: from text to a commit and a folder with its files.

Comes in: a launch link's path or what a person typed. Goes out: `RepoSpec` (what was asked), then
`PinnedRepo` (which commit), then a `Checkout` (a folder). The policy is asked before any network access.
Nothing here knows Docker, and only `git.py` runs git.
"""
