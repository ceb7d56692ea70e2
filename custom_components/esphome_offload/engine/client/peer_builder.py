"""PeerBuilder: compiles on another instance, as if that were here."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, override

from ..build.bundle import Bundle, Bundles
from ..build.cache.layout import CacheLayout
from ..build.firmware import FirmwareStore
from ..build.model import (
    BuildDetached,
    Builder,
    BuildError,
    BuilderStatus,
    BuildRequest,
    BuildSink,
    Firmware,
)
from ..const import FailureReason, Source, Stage
from ..protocol.body import Sealer
from ..protocol.definitions import (
    BUNDLE_LIMIT,
    Capability,
    ErrorCode,
    ProtocolError,
)
from ..protocol.payloads import BuildParameters
from ..protocol.seal import Purpose
from .attempt_progress import PeerProgress, failure_of, refused
from .errors import LinkLost, PeerRefused
from .firmware_download import fetch_firmware
from .link import LinkState, PeerLink

PATIENCE: Final = 120.0
"""Seconds that a peer gets to be back; its compile goes on meanwhile."""
SUBMIT_PATIENCE: Final = 20.0
"""The same before it has begun, when another builder may do as well."""
_RETRY_PAUSE: Final = 1.0
_CANCEL_PATIENCE: Final = 4.0
"""Seconds that a job waits for the answer to a cancel: it ends within 5 s, also when none comes."""


class PeerBuilder(Builder):
    """Bundles, sends, follows, fetches, checks, keeps. The peer puts the builds in order."""

    source = Source.REMOTE
    slots = None

    def __init__(
        self,
        link: PeerLink,
        bundles: Bundles,
        firmware: FirmwareStore,
        layout: CacheLayout,
        *,
        patience: float = PATIENCE,
        submit_patience: float = SUBMIT_PATIENCE,
    ) -> None:
        """``bundles``, ``firmware`` and ``layout`` are this instance's; times in seconds."""
        self.label = link.label
        self.builder_id = link.pin_sha256
        self.pin_sha256 = link.pin_sha256
        self._link = link
        self._bundles = bundles
        self._firmware = firmware
        self._layout = layout
        self._patience = patience
        self._submit_patience = submit_patience
        self._leaving = False
        self._endings: set[asyncio.Task[None]] = set()

    @override
    def status(self) -> BuilderStatus:
        said, connected = self._link.status, self._link.connected
        if said is None:
            why_not = self._link.why or "it has not said yet what it can do"
            return BuilderStatus(available=False, why_not=why_not, reachable=connected)
        return BuilderStatus(
            available=connected and said.available,
            why_not=said.why_not if connected else self._link.why or "not connected",
            slots=said.slots,
            busy=said.busy,
            queue_length=said.queue_length,
            versions=said.versions,
            warm=frozenset(said.warm),
            memory_mib=said.memory_mib,
            disk_mib=said.disk_mib,
            ccache=said.ccache,
            reachable=connected,
        )

    @override
    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        return self._link.subscribe(listener)

    @override
    def leave(self) -> None:
        self._leaving = True

    @override
    async def clean(self, configuration: str) -> None:
        await self._bundles.invalidate(configuration)
        try:
            await self._link.clean(configuration)
        except LinkLost as err:
            raise self._unavailable(str(err)) from err
        except PeerRefused as err:
            raise refused(self.label, err) from err

    @override
    async def build(self, request: BuildRequest, sink: BuildSink) -> Firmware:
        """Build over there.

        ``request.resume`` attaches to what was submitted before. Raises BuildDetached when the
        link is stopped meanwhile, and BuildError build_lost when the peer knows nothing of the
        attempt any more: it takes no attempt id twice, so another attempt is needed.
        """
        progress = PeerProgress(sink, self.label)
        try:
            return await self._build(request, sink, progress)
        except BuildDetached:
            raise
        # Whatever else it is: nobody waits for the result any more.
        except BaseException:
            if progress.submitted and not progress.ended and not self._leaving:
                await self._give_up(request.attempt_id, progress.answer)
            elif progress.answer is not None:
                progress.answer.cancel()
            raise

    async def _build(
        self, request: BuildRequest, sink: BuildSink, progress: PeerProgress
    ) -> Firmware:
        sink.stage(Stage.PREPARING)
        bundle: Bundle | None = None
        attempt_id = request.attempt_id
        if request.resume:
            progress.submitted = True
        else:
            bundle = made = await self._bundles.make(request, sink.lines)
            await self._insist(
                lambda: self._submit(request, made, progress),
                progress,
                sink,
                self._submit_patience,
            )
        end = await self._insist(
            lambda: self._link.follow(attempt_id, progress.next_line, progress.take),
            progress,
            sink,
            self._patience,
        )
        progress.ended = True
        if (failure := failure_of(self.label, end)) is not None:
            if failure.failure_reason is FailureReason.BUNDLE_INCOMPLETE:
                await self._bundles.invalidate(request.configuration)
            self._link.acknowledge(attempt_id)
            raise failure
        # Whoever flashes may get ready while it is on its way.
        sink.stage(Stage.FETCHING)
        firmware = await self._insist(
            lambda: fetch_firmware(
                self._link,
                request,
                None if bundle is None else bundle.sha256,
                store=self._firmware,
                layout=self._layout,
            ),
            progress,
            sink,
            self._patience,
        )
        self._link.acknowledge(attempt_id)
        return firmware

    async def _submit(self, request: BuildRequest, bundle: Bundle, progress: PeerProgress) -> None:
        """Have it begin; the bundle itself is only sent when the peer does not have it."""
        attempt_id = request.attempt_id
        parameters = BuildParameters(
            job_id=request.job_id,
            attempt_id=attempt_id,
            configuration=request.configuration,
            device_name=request.device_name,
            esphome_version=request.esphome_version,
            time_zone=request.time_zone,
            clean=request.clean,
        )
        try:
            sealer = await asyncio.to_thread(
                lambda: Sealer(
                    self._link.channel,
                    Purpose.BUNDLE,
                    bundle.path,
                    parameters,
                    limit=BUNDLE_LIMIT,
                    sha256=bundle.sha256,
                )
            )
            if self._link.has(Capability.BUNDLE_BY_DIGEST):
                try:
                    await self._begin(attempt_id, bundle.sha256, sealer.header, progress)
                except PeerRefused as err:
                    if err.code is not ErrorCode.BUNDLE_NEEDED:
                        raise
                else:
                    return
            await self._link.send_bundle(attempt_id, sealer)
        except ProtocolError as err:
            # Too large, or altered on our disk; the next one is made anew.
            await self._bundles.invalidate(request.configuration)
            raise BuildError(
                FailureReason.BUNDLE_INCOMPLETE,
                f"The bundle of {request.configuration} cannot be sent: {err.detail}",
            ) from err
        except OSError as err:
            await self._bundles.invalidate(request.configuration)
            raise BuildError(
                FailureReason.BUILDER_ENVIRONMENT,
                f"The bundle of {request.configuration} cannot be read: {err}",
            ) from err
        await self._begin(attempt_id, bundle.sha256, None, progress)

    async def _begin(
        self, attempt_id: str, sha256: str, header: bytes | None, progress: PeerProgress
    ) -> None:
        """Submit. Cancelled or not, it is answered: what is not known yet cannot be ended."""
        progress.submitted = True
        answer = asyncio.ensure_future(self._link.submit(attempt_id, sha256, header))
        answer.add_done_callback(_heed)
        progress.answer = answer
        await asyncio.shield(answer)

    async def _insist[T](
        self,
        step: Callable[[], Awaitable[T]],
        progress: PeerProgress,
        sink: BuildSink,
        patience: float,
    ) -> T:
        """Take a step, again and again while the peer cannot be reached or is too busy.

        Patience begins anew whenever something was heard of the build.
        """
        loop = asyncio.get_running_loop()
        until: float | None = None
        while True:
            heard = progress.heard
            try:
                return await step()
            except (LinkLost, PeerRefused) as err:
                if isinstance(err, PeerRefused) and err.code is not ErrorCode.BUSY:
                    raise refused(self.label, err) from err
                if until is None or progress.heard != heard:
                    until = loop.time() + patience
                    sink.lines((f"== Trying again to reach {self.label}: {err}",))
                left = until - loop.time()
                if left <= 0:
                    raise self._left(str(err)) from err
                await self._wait_for_link(left)
            except ProtocolError as err:
                raise self._unavailable(f"it says what makes no sense: {err.detail}") from err

    async def _wait_for_link(self, seconds: float) -> None:
        # Also when it is connected: what failed would fail again in this very moment.
        await asyncio.sleep(min(_RETRY_PAUSE, seconds))
        try:
            await self._link.wait_connected(seconds - _RETRY_PAUSE)
        except LinkLost as err:
            raise self._left(str(err)) from err

    async def _give_up(self, attempt_id: str, submit: asyncio.Future[None] | None) -> None:
        """End the attempt over there; should that fail, the next connect does it."""
        ending = asyncio.create_task(self._cancel(attempt_id, submit))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        loop = asyncio.get_running_loop()
        until = loop.time() + _CANCEL_PATIENCE
        while not ending.done() and (left := until - loop.time()) > 0:
            # Cancelled once more, by somebody impatient: that makes it no quicker.
            with suppress(asyncio.CancelledError):
                await asyncio.wait([ending], timeout=left)

    async def _cancel(self, attempt_id: str, submit: asyncio.Future[None] | None) -> None:
        # Both have time-outs, after which the link is lost, and the next connect does the rest.
        if submit is not None:
            await asyncio.wait([submit])
        with suppress(LinkLost, PeerRefused):
            await self._link.cancel(attempt_id)

    def _left(self, why: str) -> BuildError | BuildDetached:
        if self._link.state is LinkState.STOPPED:
            # Its entry is reloaded, or removed; it is no worse a builder for that.
            return BuildDetached(f"the connection to {self.label} was closed")
        return self._unavailable(why)

    def _unavailable(self, why: str) -> BuildError:
        return BuildError(
            FailureReason.BUILDER_UNAVAILABLE, f"{self.label} cannot be worked with: {why}"
        )


def _heed(answer: asyncio.Future[None]) -> None:
    """Take note of how a submit ended, also when nobody waits for it any more."""
    if not answer.cancelled():
        answer.exception()
