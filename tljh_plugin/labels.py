"""Labels by which things of ours are known in Docker. `reference/labels.md` is written from the comments."""

from __future__ import annotations

LABEL_PREFIX = "org.littlest-binder."

# -- on containers, networks and volumes --------------------------------------------------------------
# Only what carries the first one, with the id of this installation, is ever changed or removed.

#: all of ours, never images, since containers inherit their labels: the random id of the installation, from
#: the file `instance`
INSTANCE_LABEL = LABEL_PREFIX + "instance"
#: containers: `server`, `fill` (fills a project), `check` and `stub` (try whether an image starts), `doctor`
#: (tries what a server reaches)
KIND_LABEL = LABEL_PREFIX + "kind"
#: servers: whose it is
PERSON_LABEL = LABEL_PREFIX + "person"
#: servers: its name, empty for the server without a name
SERVER_LABEL = LABEL_PREFIX + "server"
#: servers: the id of its profile
PROFILE_LABEL = LABEL_PREFIX + "profile"
#: servers: its memory limit
MEMORY_LABEL = LABEL_PREFIX + "memory-bytes"
#: servers: its CPU limit
CPUS_LABEL = LABEL_PREFIX + "cpus"
#: servers: after how many seconds it ends, 0: never
LIFETIME_LABEL = LABEL_PREFIX + "lifetime-s"
#: servers: after how many idle seconds it ends, 0: never
IDLE_LABEL = LABEL_PREFIX + "idle-s"
#: servers: when its container was made, UTC
STARTED_LABEL = LABEL_PREFIX + "started"
#: servers: the person's groups at that time, JSON
GROUPS_LABEL = LABEL_PREFIX + "groups"
#: servers: the id by which the [logs](../how-to/follow-a-request.md) know its start
REQUEST_LABEL = LABEL_PREFIX + "request"
#: fills: the folder that is being filled
STAGING_LABEL = LABEL_PREFIX + "staging"

# -- on images ----------------------------------------------------------------------------------------
# Any Dockerfile can write labels: only the signature, which stands for all of them, proves anything.

#: images: what the image was made from, as a digest
IDENTITY_LABEL = LABEL_PREFIX + "identity"
#: images: normalised URL of the repository
REPOSITORY_LABEL = LABEL_PREFIX + "repository"
#: images: full commit
COMMIT_LABEL = LABEL_PREFIX + "commit"
#: images: folder of the repository that was built, empty for its top
SUBDIR_LABEL = LABEL_PREFIX + "subdir"
#: images: such as `linux/amd64`
PLATFORM_LABEL = LABEL_PREFIX + "platform"
#: images: path of a launch link to it
SPEC_LABEL = LABEL_PREFIX + "spec"
#: images: the ref that was asked for
REF_LABEL = LABEL_PREFIX + "ref"
#: images: digest of how it was built
RECIPE_LABEL = LABEL_PREFIX + "recipe"
#: images: whose alone it is, if it was made with a credential
AUDIENCE_LABEL = LABEL_PREFIX + "audience"
#: images: the signature of all the others
SIGNATURE_LABEL = LABEL_PREFIX + "signature"
