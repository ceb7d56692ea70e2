"""Connections to peers, under the control of the test; what is registered for them is real."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.client.dial import Caller
from custom_components.esphome_offload.engine.client.link import LinkState
from custom_components.esphome_offload.engine.const import Source
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.hello import Introduction
from custom_components.esphome_offload.engine.protocol.identity import PublicKey
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..engine.jobs.fakes import ScriptedBuilder, ScriptedKeeper


class ScriptedLink:
    """Stands for PeerLink."""

    def __init__(
        self,
        peers: ScriptedPeers,
        *,
        url: str,
        caller: Caller,
        peer_key: PublicKey,
        label: str,
        wanted: Callable[[], Iterable[str]],
        **_rest: Any,
    ) -> None:
        if caller.identity.public == peer_key:
            raise ProtocolError(ErrorCode.SAME_IDENTITY, "the peer has the key of this instance")
        self.url = url
        self.caller = caller
        self.peer_key = peer_key
        self.label = label
        self.wanted = wanted
        self.state = LinkState.STOPPED
        self.why: Reason | None = None
        self.code: ErrorCode | None = None
        self.agreement = None
        self.introduction: Introduction | None = None
        self.silent = False
        self.reachable = peers.reachable
        self.started = self.stopped = self.unpaired = self.woken = 0
        self.builder: ScriptedBuilder | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        return self.state is LinkState.CONNECTED

    @property
    def status(self) -> object:
        return None if self.silent or not self.connected else self.builder

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def start(self) -> None:
        self.started += 1
        self.become(LinkState.CONNECTING)

    async def stop(self) -> None:
        self.stopped += 1
        self.become(LinkState.STOPPED, ReasonKey.PEER_NOT_CONNECTED)

    def set_url(self, url: str) -> None:
        self.url = url

    def wake(self) -> None:
        self.woken += 1

    async def wait_connected(self, _seconds: float) -> None:
        if not self.reachable:
            raise ChannelClosed("it cannot be reached")

    async def unpair(self) -> None:
        self.unpaired += 1

    def become(
        self,
        state: LinkState,
        why: ReasonKey | None = None,
        code: ErrorCode | None = None,
        **status: Any,
    ) -> None:
        self.state, self.code = state, code
        self.why = None if why is None else Reason(why)
        if self.builder is not None:
            self.builder.become(
                BuilderStatus(
                    why_not=None
                    if self.connected
                    else self.why or Reason(ReasonKey.PEER_NOT_CONNECTED),
                    reachable=self.connected,
                    **{"available": self.connected and not self.silent, **status},
                )
            )
        for listener in tuple(self._listeners):
            listener()


@dataclass
class ScriptedPeers:
    """Makes them; ``links`` in the order in which they were made."""

    keeper: ScriptedKeeper
    links: list[ScriptedLink] = field(default_factory=list)
    reachable: bool = True

    def link(self, **arguments: Any) -> ScriptedLink:
        """Stand for the class PeerLink."""
        self.links.append(ScriptedLink(self, **arguments))
        return self.links[-1]

    def make(self, link: Any, *_shared: Any) -> ScriptedBuilder:
        """Stand for the class PeerBuilder."""
        pin = link.peer_key.pin_sha256
        link.builder = ScriptedBuilder(
            pin,
            link.label,
            Source.REMOTE,
            pin,
            BuilderStatus(
                available=False, why_not=Reason(ReasonKey.PEER_NOT_CONNECTED), reachable=False
            ),
            keeper=self.keeper,
        )
        builder: ScriptedBuilder = link.builder
        return builder
