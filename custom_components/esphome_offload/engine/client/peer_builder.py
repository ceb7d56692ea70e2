"""PeerBuilder: builds on another instance."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import count
import logging
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
    disk_errors,
)
from ..clock import SystemTime, Time, sleep
from ..const import FailureReason, Image, Source, Stage
from ..protocol.calls import CommandRefused
from ..protocol.channel import ChannelClosed
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.limits import BUNDLE_LIMIT
from ..protocol.messages import SendBundle, StatusEvent, Submit
from ..protocol.payloads import BuildParameters
from ..reason import Reason, ReasonKey
from ..tasks import BackgroundTasks, wait_through
from .attempt_progress import AttemptProgress, failure_of, refused
from .firmware_download import fetch_firmware, fetch_image
from .link import LinkState, PeerLink

_LOGGER = logging.getLogger(__name__)

PATIENCE: Final = 120.0
"""Seconds for a peer to connect again; its compile goes on meanwhile."""
SUBMIT_PATIENCE: Final = 20.0
"""The same before a build has started, when another builder may do it."""
_RETRY_PAUSE: Final = 1.0
_BUNDLE_TRIES: Final = 3
_CANCEL_PATIENCE: Final = 4.0
"""Seconds for the answer to a cancel: a job ends within 5 s, also when none comes."""


class PeerBuilder(Builder):
    """Bundle, submit, follow, fetch, check and keep. The peer puts the builds in order."""

    source = Source.REMOTE
    slots = None

    def __init__(
        self,
        link: PeerLink,
        bundles: Bundles,
        firmware: FirmwareStore,
        layout: CacheLayout,
        *,
        time: Time | None = None,
    ) -> None:
        """``bundles``, ``firmware`` and ``layout`` are this instance's."""
        self.label = link.label
        self.builder_id = link.pin_sha256
        self.pin_sha256 = link.pin_sha256
        self._link = link
        self._bundles = bundles
        self._firmware = firmware
        self._layout = layout
        self._time = time or SystemTime()
        self._leaving = False
        self._cancels = BackgroundTasks()

    @override
    def status(self) -> BuilderStatus:
        status, connected = self._link.status, self._link.connected
        if status is None:
            why_not = self._link.why or Reason(ReasonKey.PEER_WITHOUT_STATUS)
            return BuilderStatus(available=False, why_not=why_not, reachable=connected)
        return BuilderStatus(
            available=connected and status.available and status.slots > 0,
            why_not=self._why_not(status),
            slots=status.slots,
            busy=status.busy,
            queue_length=status.queue_length,
            versions=status.versions,
            warm=frozenset(status.warm),
            memory_mib=status.memory_mib,
            disk_mib=status.disk_mib,
            ccache=status.ccache,
            ccache_hits=status.ccache_hits,
            ccache_files=status.ccache_files,
            reachable=connected,
        )

    @override
    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        return self._link.subscribe(listener)

    @override
    def leave(self) -> None:
        self._leaving = True

    @override
    async def clean(self, configuration: str, *, tools: bool = False) -> None:
        with disk_errors():
            await self._bundles.invalidate(configuration)
        try:
            await self._link.clean(configuration, tools=tools)
        except ChannelClosed as err:
            raise self._unavailable(ReasonKey.PEER_UNREACHABLE) from err
        except CommandRefused as err:
            raise refused(self.label, err) from err

    @override
    async def fetch_image(self, firmware: Firmware, image: Image) -> Firmware:
        try:
            fetched = await fetch_image(self._link, firmware, image, self._firmware, self._layout)
        except ChannelClosed as err:
            raise self._unavailable(ReasonKey.PEER_UNREACHABLE) from err
        except (CommandRefused, ProtocolError) as err:
            _LOGGER.info("%s does not send the %s file: %s", self.label, image, err)
            fetched = None
        return fetched or await super().fetch_image(firmware, image)

    @override
    async def build(self, request: BuildRequest, sink: BuildSink) -> Firmware:
        """Build over there.

        ``request.resume`` attaches to what was submitted before. Raises BuildDetached when the
        link is stopped meanwhile, and BuildError build_lost when the peer knows nothing of the
        attempt any more: it takes no attempt id twice, so another attempt is needed.
        """
        progress = AttemptProgress(sink, self.label)
        try:
            return await self._build(request, sink, progress)
        except BuildDetached:
            raise
        # After any other error the result is not waited for any more.
        except BaseException:
            if progress.ended and not self._leaving:
                # The files of an attempt stay there until then.
                self._link.acknowledge(request.attempt_id)
            elif progress.submitted and not self._leaving:
                await self._give_up(request.attempt_id, progress.answer)
            elif progress.answer is not None:
                progress.answer.cancel()
            raise

    async def _build(
        self, request: BuildRequest, sink: BuildSink, progress: AttemptProgress
    ) -> Firmware:
        sink.stage(Stage.PREPARING)
        bundle: Bundle | None = None
        attempt_id = request.attempt_id
        if request.resume:
            progress.submitted = True
        else:
            bundle = await self._submit_bundle(request, sink, progress)
        end = await self._insist(
            lambda: self._link.follow(attempt_id, progress.next_line, progress.accept),
            progress,
            sink,
            PATIENCE,
        )
        progress.ended = True
        if (failure := failure_of(request, self.label, end)) is not None:
            if failure.failure_reason is FailureReason.BUNDLE_INCOMPLETE:
                await self._bundles.invalidate(request.configuration)
            raise failure
        # The flasher may get ready while it is on its way.
        sink.stage(Stage.FETCHING)
        firmware = await self._insist(
            lambda: fetch_firmware(
                self._link,
                request,
                None if bundle is None else bundle.sha256,
                store=self._firmware,
                layout=self._layout,
                bundles=self._bundles,
            ),
            progress,
            sink,
            PATIENCE,
        )
        self._link.acknowledge(attempt_id)
        return firmware

    async def _submit_bundle(
        self, request: BuildRequest, sink: BuildSink, progress: AttemptProgress
    ) -> Bundle:
        """Make a bundle and submit the build of it; return the one that was submitted."""
        for number in count(1):
            bundle = await self._bundles.make(request, sink.lines)
            submit = partial(self._submit, request, bundle, progress)
            try:
                await self._insist(submit, progress, sink, SUBMIT_PATIENCE)
            except FileNotFoundError as err:
                # Another device of the configuration had one made for its version meanwhile.
                if number == _BUNDLE_TRIES:
                    raise await self._unusable(request, err) from err
            else:
                return bundle
        raise AssertionError("it is submitted or fails")

    async def _submit(
        self, request: BuildRequest, bundle: Bundle, progress: AttemptProgress
    ) -> None:
        """Submit the build; the bundle is sent only when the peer does not have it.

        Raises FileNotFoundError when the bundle is gone.
        """
        if bundle.size > BUNDLE_LIMIT:
            raise _unsendable(request)
        parameters = BuildParameters(
            job_id=request.job_id,
            attempt_id=request.attempt_id,
            configuration=request.configuration,
            device_name=request.device_name,
            esphome_version=request.esphome_version,
            time_zone=request.time_zone,
            clean=request.clean,
        )
        submit = Submit(parameters, bundle.sha256)
        try:
            await self._call_submit(submit, progress)
        except CommandRefused as err:
            if err.code is not ErrorCode.BUNDLE_NEEDED:
                raise
            await self._send_bundle(request, bundle)
            await self._call_submit(submit, progress)

    async def _send_bundle(self, request: BuildRequest, bundle: Bundle) -> None:
        """Send a bundle; one that cannot be sent is made again the next time."""
        command = SendBundle(request.attempt_id, bundle.sha256, bundle.size)
        try:
            await self._link.send_bundle(command, bundle.path)
        except CommandRefused as err:
            if err.code is ErrorCode.TAMPERED:
                await self._bundles.invalidate(request.configuration)
            raise
        except ProtocolError as err:
            if err.code is ErrorCode.STALLED:
                raise ChannelClosed("it takes no more of the bundle") from err
            await self._bundles.invalidate(request.configuration)
            raise _unsendable(request) from err
        except FileNotFoundError:
            raise
        except OSError as err:
            raise await self._unusable(request, err) from err

    async def _unusable(self, request: BuildRequest, err: OSError) -> BuildError:
        await self._bundles.invalidate(request.configuration)
        names = {"configuration": request.configuration}
        reason = Reason(ReasonKey.BUNDLE_UNUSABLE, names, err.strerror)
        return BuildError(FailureReason.BUILDER_ENVIRONMENT, reason)

    async def _call_submit(self, submit: Submit, progress: AttemptProgress) -> None:
        """Submit. It is answered also when cancelled: what is not known there cannot be ended."""
        progress.submitted = True
        progress.answer = answer = asyncio.ensure_future(self._link.submit(submit))
        answer.add_done_callback(_retrieve)
        await asyncio.shield(answer)

    async def _insist[T](
        self,
        step: Callable[[], Awaitable[T]],
        progress: AttemptProgress,
        sink: BuildSink,
        patience: float,
    ) -> T:
        """Run a step, and repeat it while the peer cannot be reached or is too busy.

        Each event of the build starts ``patience`` (seconds) again.
        """
        until: float | None = None
        while True:
            events = progress.events
            try:
                return await step()
            except (ChannelClosed, CommandRefused) as err:
                if isinstance(err, CommandRefused) and err.code is not ErrorCode.BUSY:
                    raise refused(self.label, err) from err
                if until is None or progress.events != events:
                    until = self._time.monotonic() + patience
                    sink.lines((f"== Trying again to reach {self.label}: {err}",))
                left = until - self._time.monotonic()
                if left <= 0:
                    raise self._left() from err
                await self._wait_for_link(left)
            except ProtocolError as err:
                raise self._unavailable(ReasonKey.PEER_MALFORMED) from err

    async def _wait_for_link(self, seconds: float) -> None:
        # Also when it is connected: what failed would fail again in this very moment.
        await sleep(self._time, min(_RETRY_PAUSE, seconds))
        try:
            await self._link.wait_connected(seconds - _RETRY_PAUSE)
        except ChannelClosed as err:
            raise self._left() from err

    async def _give_up(self, attempt_id: str, submit: asyncio.Future[None] | None) -> None:
        """End the attempt over there; should that fail, the next connect does it."""
        cancel = self._cancels.start(self._cancel(attempt_id, submit), "esphome_offload cancel")
        patience = asyncio.ensure_future(sleep(self._time, _CANCEL_PATIENCE))
        either = asyncio.wait((cancel, patience), return_when=asyncio.FIRST_COMPLETED)
        # To be cancelled once more makes it no quicker.
        await wait_through(asyncio.ensure_future(either))
        patience.cancel()

    async def _cancel(self, attempt_id: str, submit: asyncio.Future[None] | None) -> None:
        # Both have timeouts, after which the link is lost, and the next connect does the rest.
        if submit is not None:
            await asyncio.wait([submit])
        with suppress(ChannelClosed, CommandRefused):
            await self._link.cancel(attempt_id)
            self._link.acknowledge(attempt_id)

    def _left(self) -> BuildError | BuildDetached:
        if self._link.state is LinkState.STOPPED:
            # Its entry is reloaded, or removed; it is no worse a builder for that.
            return BuildDetached(f"the connection to {self.label} was closed")
        if self._link.given_up and self._link.why is not None:
            return BuildError(FailureReason.BUILDER_UNAVAILABLE, self._link.why)
        return self._unavailable(ReasonKey.PEER_UNREACHABLE)

    def _why_not(self, status: StatusEvent) -> Reason | None:
        if not self._link.connected:
            return self._link.why or Reason(ReasonKey.PEER_NOT_CONNECTED)
        return None if status.why_not is None else status.why_not.received(label=self.label)

    def _unavailable(self, key: ReasonKey) -> BuildError:
        return BuildError(FailureReason.BUILDER_UNAVAILABLE, Reason(key, {"label": self.label}))


def _unsendable(request: BuildRequest) -> BuildError:
    reason = Reason(ReasonKey.BUNDLE_UNSENDABLE, {"configuration": request.configuration})
    return BuildError(FailureReason.BUNDLE_INCOMPLETE, reason)


def _retrieve(answer: asyncio.Future[None]) -> None:
    """Retrieve how a submit ended, also when it is not waited for any more."""
    if not answer.cancelled():
        answer.exception()
