"""A person's kept files for one repository.

Comes in: a person, an image, a repository at a commit. Goes out: a folder that was filled completely or
does not exist. Work on people's files never runs as root, and nothing here deletes them.
"""

from .prepare import Projects, ProjectStore

__all__ = ["ProjectStore", "Projects"]
