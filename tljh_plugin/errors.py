"""Everything that can go wrong, as one tree.

    BinderError
    ├── SettingsError            unknown-setting, invalid-setting
    ├── SourceError
    │   ├── InvalidSpec          invalid-spec
    │   ├── PolicyRefused        policy-refused
    │   ├── RepositoryUnreachable  repository-unreachable
    │   ├── RepositoryNotFound   repository-not-found
    │   ├── RefNotFound          ref-not-found
    │   ├── AmbiguousRef         ref-ambiguous
    │   ├── RepositoryTooLarge   repository-too-large
    │   └── CheckoutFailed       checkout-failed
    ├── BuildError
    │   ├── BuildFailed          build-failed and the causes that `build.explain` recognises
    │   ├── BuildCancelled       build-cancelled
    │   ├── BuildTimedOut        build-timed-out
    │   ├── DockerfileRefused    dockerfile-refused
    │   ├── ReservedLabel        label-reserved
    │   ├── ImageNotLaunchable   image-not-launchable
    │   ├── QueueFull            queue-full
    │   └── DiskLow              disk-low
    ├── EngineError
    │   ├── EngineUnavailable    engine-unavailable
    │   ├── EngineTimedOut       engine-timed-out
    │   ├── ImageNotFound        image-not-found
    │   ├── ImageInUse           image-in-use
    │   ├── ContainerNotStarted  container-not-started
    │   └── NotOurs              not-ours
    ├── ProjectError
    │   ├── ProjectFailed        project-failed
    │   ├── ProjectTooLarge      project-too-large
    │   └── ProjectAtOtherCommit project-at-other-commit
    ├── LaunchError
    │   ├── InvalidOptions       invalid-options
    │   ├── ServerNotReady       server-not-ready
    │   ├── IsolationBroken      isolation-broken
    │   └── ServerExists         server-exists
    ├── InvalidRequest           invalid-request
    ├── Forbidden                forbidden
    ├── NotFound                 not-found
    ├── ServiceDown              service-down
    ├── HubUnavailable           hub-unavailable
    ├── StoreError               store-failed
    └── UnexpectedFailure        unexpected

Each carries a stable `code`, a `message` that says what happened and shows the value, and a `next_step`
that says what to do. They cross processes as `{"code", "message", "next"}`.
"""

from __future__ import annotations

from typing import ClassVar


class BinderError(Exception):
    """An error that a person is meant to read.

    `message` says what happened and shows the value; `next_step` says what to do. `code`, given here,
    replaces the code of the class: an error that was explained keeps its class and gets a finer code.
    """

    code: str = "error"
    http_status: ClassVar[int] = 400

    def __init__(self, message: str, next_step: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()

    def to_dict(self) -> dict[str, str]:
        """The form in which errors cross processes: `{"code", "message", "next"}`."""
        return {"code": self.code, "message": self.message, "next": self.next_step}


class SettingsError(BinderError):
    code = "invalid-setting"
    http_status = 500


class SourceError(BinderError):
    code = "source-error"


class InvalidSpec(SourceError):
    code = "invalid-spec"


class PolicyRefused(SourceError):
    code = "policy-refused"
    http_status = 403


class RepositoryUnreachable(SourceError):
    code = "repository-unreachable"
    http_status = 502


class RepositoryNotFound(SourceError):
    code = "repository-not-found"
    http_status = 404


class RefNotFound(SourceError):
    code = "ref-not-found"
    http_status = 404


class AmbiguousRef(SourceError):
    code = "ref-ambiguous"


class RepositoryTooLarge(SourceError):
    code = "repository-too-large"
    http_status = 413


class CheckoutFailed(SourceError):
    code = "checkout-failed"
    http_status = 502


class BuildError(BinderError):
    code = "build-error"
    http_status = 422


class BuildFailed(BuildError):
    code = "build-failed"


class BuildCancelled(BuildError):
    code = "build-cancelled"
    http_status = 409


class BuildTimedOut(BuildError):
    code = "build-timed-out"


class DockerfileRefused(BuildError):
    code = "dockerfile-refused"
    http_status = 403


class ReservedLabel(BuildError):
    code = "label-reserved"
    http_status = 403


class ImageNotLaunchable(BuildError):
    code = "image-not-launchable"


class QueueFull(BuildError):
    code = "queue-full"
    http_status = 429


class DiskLow(BuildError):
    code = "disk-low"
    http_status = 507


class EngineError(BinderError):
    code = "engine-error"
    http_status = 502


class EngineUnavailable(EngineError):
    code = "engine-unavailable"
    http_status = 503


class EngineTimedOut(EngineError):
    code = "engine-timed-out"
    http_status = 504


class ImageNotFound(EngineError):
    code = "image-not-found"
    http_status = 404


class ImageInUse(EngineError):
    code = "image-in-use"
    http_status = 409


class ContainerNotStarted(EngineError):
    code = "container-not-started"


class NotOurs(EngineError):
    code = "not-ours"
    http_status = 403


class ProjectError(BinderError):
    code = "project-error"


class ProjectFailed(ProjectError):
    code = "project-failed"
    http_status = 500


class ProjectTooLarge(ProjectError):
    code = "project-too-large"
    http_status = 413


class ProjectAtOtherCommit(ProjectError):
    code = "project-at-other-commit"
    http_status = 409


class LaunchError(BinderError):
    code = "launch-error"


class InvalidOptions(LaunchError):
    code = "invalid-options"


class ServerNotReady(LaunchError):
    code = "server-not-ready"
    http_status = 500


class IsolationBroken(LaunchError):
    code = "isolation-broken"
    http_status = 500


class ServerExists(LaunchError):
    code = "server-exists"
    http_status = 409


class InvalidRequest(BinderError):
    """A request of the API that is not what it should be."""

    code = "invalid-request"


class Forbidden(BinderError):
    code = "forbidden"
    http_status = 403


class NotFound(BinderError):
    code = "not-found"
    http_status = 404


class ServiceDown(BinderError):
    code = "service-down"
    http_status = 503


class HubUnavailable(BinderError):
    code = "hub-unavailable"
    http_status = 503


class StoreError(BinderError):
    code = "store-failed"
    http_status = 500


class UnexpectedFailure(BinderError):
    """A mistake of ours; its message carries the id under which the log tells more."""

    code = "unexpected"
    http_status = 500


class UnknownRemoteError(BinderError):
    """An error that came from another process with a code that this version does not know."""


def _by_code() -> dict[str, type[BinderError]]:
    found: dict[str, type[BinderError]] = {}
    waiting = [BinderError]
    while waiting:
        kind = waiting.pop()
        found.setdefault(kind.code, kind)
        waiting.extend(kind.__subclasses__())
    return found


def from_dict(value: dict[str, str]) -> BinderError:
    """The error that another process sent, as its own class; a finer code of a failed build stays one."""
    code = value.get("code", "error")
    kind = _by_code().get(code)
    if kind is None:
        kind = BuildFailed if code.startswith("build-") else UnknownRemoteError
    return kind(value.get("message", "unknown error"), value.get("next", ""), code=code)
