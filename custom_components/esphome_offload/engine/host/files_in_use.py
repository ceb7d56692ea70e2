"""FilesInUse: which files of guests must not be removed now."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..build.cache.layout import configuration_key
from .attempt import GuestAttempt
from .attempt_store import AttemptStore
from .disk_quota import TOOLS
from .workspace import GuestWorkspaces


class FilesInUse:
    """Knows by the attempts and the workspaces of all guests."""

    def __init__(self, attempts: AttemptStore, workspaces: GuestWorkspaces) -> None:
        self._attempts = attempts
        self._workspaces = workspaces

    @asynccontextmanager
    async def hold(self, folder: str, key: str) -> AsyncIterator[bool]:
        """Keep a device's files, or tools, from being used; gives False when they are.

        The files of an attempt are in use until its guest has the result.
        """
        if key == TOOLS:
            async with self._workspaces.closed(folder):
                yield all(each.result is not None for each in self._attempts_in(folder))
            return
        workspace = self._workspaces.named(folder)
        attempts = self._attempts_in(folder)
        needed = {configuration_key(each.submission.parameters.configuration) for each in attempts}
        if key in needed or (workspace is not None and workspace.lock(key).locked()):
            yield False
        elif workspace is None:
            yield True
        else:
            async with workspace.lock(key):
                yield True

    def _attempts_in(self, folder: str) -> list[GuestAttempt]:
        return [each for each in self._attempts.all() if each.key.pin_sha256[:32] == folder]
