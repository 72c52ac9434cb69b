"""Everything that can go wrong, as one tree.

    BinderError
    ├── SettingsError            unknown-setting, invalid-setting
    ├── SourceError
    │   ├── InvalidSpec          invalid-spec
    │   ├── PolicyRefused        policy-refused
    │   ├── RepositoryUnreachable  repository-unreachable
    │   ├── RepositoryNotFound   repository-not-found
    │   ├── CredentialNeeded     credential-needed
    │   │   └── CredentialRefused  credential-refused
    │   ├── RefNotFound          ref-not-found
    │   ├── AmbiguousRef         ref-ambiguous
    │   ├── RepositoryTooLarge   repository-too-large
    │   └── CheckoutFailed       checkout-failed
    │       └── CheckoutDiskFull   checkout-disk-full
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
    │   ├── EngineUnsupported    engine-unsupported
    │   ├── ImageNotFound        image-not-found
    │   ├── ImageInUse           image-in-use
    │   ├── ContainerNotStarted  container-not-started
    │   ├── NotOurs              not-ours
    │   ├── BadImageFile         bad-image-file
    │   └── NotVouchedFor        not-vouched-for
    ├── ProjectError
    │   ├── ProjectFailed        project-failed
    │   ├── ProjectTooLarge      project-too-large
    │   ├── ProjectAtOtherCommit project-at-other-commit
    │   ├── ProjectInUse         project-in-use
    │   ├── StorageMissing       storage-missing
    │   └── StorageFull          storage-full
    ├── LaunchError
    │   ├── InvalidOptions       invalid-options
    │   ├── AccountError
    │   │   ├── AccountMissing   account-missing
    │   │   └── AccountRefused   account-refused
    │   ├── ServerNotReady       server-not-ready
    │   ├── ServerStopped        server-stopped
    │   ├── IsolationBroken      isolation-broken
    │   │   └── MountsDiffer     mounts-differ
    │   ├── MountError
    │   │   ├── MountUnknown     mount-unknown
    │   │   ├── MountMissing     mount-missing
    │   │   ├── MountUnsafe      mount-unsafe
    │   │   └── MountTargetTaken mount-target-taken
    │   ├── FirewallMissing      firewall-missing
    │   ├── ServerExists         server-exists
    │   ├── ProfileRefused       profile-refused
    │   ├── ImageRetired         image-retired
    │   ├── LimitReached         limit-reached
    │   └── MachineFull          machine-full
    ├── BackupError
    │   ├── BackupFailed         backup-failed
    │   ├── BadBackup            bad-backup
    │   ├── BackupTooNew         backup-too-new
    │   ├── RestoreRefused       restore-refused
    │   └── RestoreFailed        restore-failed
    ├── UpgradeError
    │   ├── UpgradeImpossible    upgrade-impossible
    │   └── UpgradeFailed        upgrade-failed
    ├── UninstallRefused         uninstall-refused
    ├── StillRunning             still-running
    ├── RunEnded                 run-ended
    ├── InvalidRequest           invalid-request
    ├── TooManyStreams           too-many-streams
    ├── Forbidden                forbidden
    │   ├── NotABuilder          not-a-builder
    │   ├── NotSignedIn          not-signed-in
    │   └── FormExpired          form-expired
    ├── NotFound                 not-found
    ├── ServiceDown              service-down
    ├── HubUnavailable           hub-unavailable
    ├── NoUserManager            no-user-manager
    ├── DiskUnread               disk-unread
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
    `request_id`, where the service told of the error, is what its log has the request under.
    """

    code: str = "error"
    http_status: ClassVar[int] = 400
    request_id: str = ""

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
    """A setting or the state folder is not usable."""

    code = "invalid-setting"
    http_status = 500


class SourceError(BinderError):
    """The repository cannot be taken as it was asked for."""

    code = "source-error"


class InvalidSpec(SourceError):
    """The text is not a repository or a launch link that we know."""

    code = "invalid-spec"


class PolicyRefused(SourceError):
    """The administrator's policy does not allow this repository, host, protocol or image."""

    code = "policy-refused"
    http_status = 403


class RepositoryUnreachable(SourceError):
    """The git host did not answer, or not as a git host."""

    code = "repository-unreachable"
    http_status = 502


class RepositoryNotFound(SourceError):
    """The repository does not exist, or it is private."""

    code = "repository-not-found"
    http_status = 404


class CredentialNeeded(SourceError):
    """The repository needs a user name and a password or token, and they are not held any more."""

    code = "credential-needed"
    http_status = 403


class CredentialRefused(CredentialNeeded):
    """The git host does not take the user name and the password or token, or has no such repository."""

    code = "credential-refused"


class RefNotFound(SourceError):
    """The repository has no such branch, tag, pull request or commit."""

    code = "ref-not-found"
    http_status = 404


class AmbiguousRef(SourceError):
    """A branch and a tag have this name and point to different commits."""

    code = "ref-ambiguous"


class RepositoryTooLarge(SourceError):
    """The commit's files or the fetch are larger than the limits allow."""

    code = "repository-too-large"
    http_status = 413


class CheckoutFailed(SourceError):
    """The commit was found, its files could not be laid out."""

    code = "checkout-failed"
    http_status = 502


class CheckoutDiskFull(CheckoutFailed):
    """The disk became full while the repository was fetched or its files were laid out."""

    code = "checkout-disk-full"
    http_status = 507


class BuildError(BinderError):
    """The image could not be made."""

    code = "build-error"
    http_status = 422


class BuildFailed(BuildError):
    """A step of the build failed; finer codes (`build-…`) name the common causes."""

    code = "build-failed"


class BuildCancelled(BuildError):
    """Somebody who may cancel the build did."""

    code = "build-cancelled"
    http_status = 409


class BuildTimedOut(BuildError):
    """The build took longer, or was silent for longer, than allowed."""

    code = "build-timed-out"


class DockerfileRefused(BuildError):
    """The policy does not allow this Dockerfile, or a line of it."""

    code = "dockerfile-refused"
    http_status = 403


class ReservedLabel(BuildError):
    """The image carries a label that only we may write."""

    code = "label-reserved"
    http_status = 403


class ImageNotLaunchable(BuildError):
    """The image was built, but no notebook server answers in it."""

    code = "image-not-launchable"


class QueueFull(BuildError):
    """The person has as many builds waiting as one person may have."""

    code = "queue-full"
    http_status = 429


class DiskLow(BuildError):
    """Less disk is free than the reserve."""

    code = "disk-low"
    http_status = 507


class EngineError(BinderError):
    """Docker answered with an error."""

    code = "engine-error"
    http_status = 502


class EngineUnavailable(EngineError):
    """Docker does not run or may not be used."""

    code = "engine-unavailable"
    http_status = 503


class EngineTimedOut(EngineError):
    """Docker did not answer in time."""

    code = "engine-timed-out"
    http_status = 504


class EngineUnsupported(EngineError):
    """This kind of Docker cannot be used: it is on another kernel, or cannot limit and isolate servers."""

    code = "engine-unsupported"
    http_status = 503


class ImageNotFound(EngineError):
    """Docker does not have the image (any more)."""

    code = "image-not-found"
    http_status = 404


class ImageInUse(EngineError):
    """A container, a build or a start in progress uses the image."""

    code = "image-in-use"
    http_status = 409


class ContainerNotStarted(EngineError):
    """Docker made the container and could not start it."""

    code = "container-not-started"


class NotOurs(EngineError):
    """The thing was not made by this installation and is left alone."""

    code = "not-ours"
    http_status = 403


class BadImageFile(EngineError):
    """The file is not an exported image, or not a whole one; nothing of it was kept."""

    code = "bad-image-file"
    http_status = 400


class NotVouchedFor(EngineError):
    """The image comes from another installation, and an administrator must say that it is trusted."""

    code = "not-vouched-for"
    http_status = 409


class ProjectError(BinderError):
    """The person's files cannot be prepared."""

    code = "project-error"


class ProjectFailed(ProjectError):
    """Filling the project folder failed; nothing was kept of the attempt."""

    code = "project-failed"
    http_status = 500


class ProjectTooLarge(ProjectError):
    """The image would put more into a new project folder than allowed."""

    code = "project-too-large"
    http_status = 413


class ProjectAtOtherCommit(ProjectError):
    """The person's project belongs to another commit of the repository; they choose what to do."""

    code = "project-at-other-commit"
    http_status = 409


class ProjectInUse(ProjectError):
    """A running server, or one that is being started, uses the project."""

    code = "project-in-use"
    http_status = 409


class StorageMissing(ProjectError):
    """The folder of people's files is not the one that this installation made: a disk may not be mounted."""

    code = "storage-missing"
    http_status = 503


class StorageFull(ProjectError):
    """The person keeps more than `storage.max_bytes_per_person` allows; nothing is deleted."""

    code = "storage-full"
    http_status = 507


class LaunchError(BinderError):
    """The server cannot be started."""

    code = "launch-error"


class ImageRetired(LaunchError):
    """An administrator retired the image: servers that run on it go on, new ones are not started."""

    code = "image-retired"
    http_status = 409

    @classmethod
    def of(cls, title: str) -> ImageRetired:
        """The refusal of a start from the image of this title."""
        return cls(
            f"The image {title} was retired: no new server is started from it.",
            "Choose a newer commit or another image. Your files are kept; an administrator can allow starts "
            "again.",
        )


class InvalidOptions(LaunchError):
    """The launch options are not valid."""

    code = "invalid-options"


class AccountError(LaunchError):
    """The person's account on this machine cannot be used (`servers.identity: unix`)."""

    code = "account-error"
    http_status = 409


class AccountMissing(AccountError):
    """The person has no account on this machine, and none could be made."""

    code = "account-missing"


class AccountRefused(AccountError):
    """The person's account is root's or one of the system's; no server runs as such a one."""

    code = "account-refused"


class ServerNotReady(LaunchError):
    """The container started, the notebook server in it did not answer."""

    code = "server-not-ready"
    http_status = 500


class ServerStopped(LaunchError):
    """A server whose start was asked about is neither running nor starting."""

    code = "server-stopped"
    http_status = 409


class IsolationBroken(LaunchError):
    """The container did not get the isolation that was asked for, so it was stopped."""

    code = "isolation-broken"
    http_status = 500


class MountsDiffer(IsolationBroken):
    """The kernel shows other mounts in the server than were asked for, so it was stopped."""

    code = "mounts-differ"


class MountError(LaunchError):
    """A mount cannot be had."""

    code = "mount-error"
    http_status = 409


class MountUnknown(MountError):
    """There is no such mount for this person."""

    code = "mount-unknown"
    http_status = 404


class MountMissing(MountError):
    """The folder of a mount is not there, is not a folder, or cannot be looked at."""

    code = "mount-missing"


class MountUnsafe(MountError):
    """The folder of a mount is one that is never mounted, or that a server could swap for another."""

    code = "mount-unsafe"


class MountTargetTaken(MountError):
    """Something else is where the mount would be in the server."""

    code = "mount-target-taken"


class FirewallMissing(LaunchError):
    """The settings require firewall rules for servers, and they could not be set."""

    code = "firewall-missing"
    http_status = 503


class ServerExists(LaunchError):
    """A server of this name exists with other options."""

    code = "server-exists"
    http_status = 409


class ProfileRefused(LaunchError):
    """The profile does not exist, or it is not meant for the person."""

    code = "profile-refused"
    http_status = 403


class LimitReached(LaunchError):
    """The person's running servers together have as much as one person may have."""

    code = "limit-reached"
    http_status = 429


class MachineFull(LaunchError):
    """The machine has no memory to give to one more server."""

    code = "machine-full"
    http_status = 503


class BackupError(BinderError):
    """A backup cannot be written or used."""

    code = "backup-error"


class BackupFailed(BackupError):
    """The backup could not be written; nothing of it was left."""

    code = "backup-failed"
    http_status = 500


class BadBackup(BackupError):
    """The file is not a backup of ours, or not a whole one; nothing of it was used."""

    code = "bad-backup"


class BackupTooNew(BackupError):
    """A newer version made the backup, or its store or hub did."""

    code = "backup-too-new"
    http_status = 409


class RestoreRefused(BackupError):
    """What is here does not go together with the backup; nothing was changed."""

    code = "restore-refused"
    http_status = 409


class RestoreFailed(BackupError):
    """The disk refused in the middle of a restore, which can be run again."""

    code = "restore-failed"
    http_status = 500


class UpgradeError(BinderError):
    """Another version cannot be installed."""

    code = "upgrade-error"
    http_status = 500


class UpgradeImpossible(UpgradeError):
    """This installation is not one that a command can upgrade; nothing was changed."""

    code = "upgrade-impossible"
    http_status = 409


class UpgradeFailed(UpgradeError):
    """The new version did not work; the message says whether the old one is back."""

    code = "upgrade-failed"


class UninstallRefused(BinderError):
    """Something has to be decided or ended first; nothing was removed."""

    code = "uninstall-refused"
    http_status = 409


class StillRunning(BinderError):
    """A hub or a service works with the state folder; nothing was changed."""

    code = "still-running"
    http_status = 409


class RunEnded(BinderError):
    """A deletion was stopped, or the service ended, before all images of its plan were looked at."""

    code = "run-ended"
    http_status = 409


class InvalidRequest(BinderError):
    """A request of the API that is not what it should be."""

    code = "invalid-request"


class TooManyStreams(BinderError):
    """The person reads as many event streams as one person may at a time."""

    code = "too-many-streams"
    http_status = 429


class Forbidden(BinderError):
    """The person may not do this."""

    code = "forbidden"
    http_status = 403


class NotABuilder(Forbidden):
    """Only some people may have images built here (`policy.builders`); others start what is there."""

    code = "not-a-builder"


class NotSignedIn(Forbidden):
    """Nobody is signed in, or a cookie came without its XSRF token."""

    code = "not-signed-in"


class FormExpired(Forbidden):
    """A page's form was sent after its sign-in had ended."""

    code = "form-expired"


class NotFound(BinderError):
    """There is no such thing, or the person may not know of it."""

    code = "not-found"
    http_status = 404


class ServiceDown(BinderError):
    """The service `binder` does not answer."""

    code = "service-down"
    http_status = 503


class HubUnavailable(BinderError):
    """JupyterHub does not answer, or refuses the service."""

    code = "hub-unavailable"
    http_status = 503


class NoUserManager(BinderError):
    """The person has no systemd of their own, or it refuses."""

    code = "no-user-manager"
    http_status = 503


class DiskUnread(BinderError):
    """A filesystem does not tell how full it is."""

    code = "disk-unread"
    http_status = 503


class StoreError(BinderError):
    """The store cannot be opened, read or written."""

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
