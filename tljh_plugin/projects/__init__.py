"""A person's kept files for one repository.

Comes in: a person, an image, a repository at a commit. Goes out: a folder that was filled completely or
does not exist. Work on people's files never runs as root. What a person deletes is put away and can be
brought back for some days; nothing else here removes what they made.
"""

from .deletion import DeletedProjects
from .prepare import Projects, ProjectStore
from .sizes import Sizes
from .upkeep import Upkeep

__all__ = ["DeletedProjects", "ProjectStore", "Projects", "Sizes", "Upkeep"]
