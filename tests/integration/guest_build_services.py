"""What builds for guests, under the control of the test; its firmware is real files."""

from dataclasses import dataclass, field
from typing import override

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.firmware import BuildResult, FirmwareStore
from custom_components.esphome_offload.engine.build.model import BuildRequest, BuildSink, Firmware
from custom_components.esphome_offload.engine.build.services import GuestBuildServices
from custom_components.esphome_offload.engine.const import Stage

from ..engine.jobs.fakes import BUILD_INFO, Act, ScriptedBuilder


@dataclass
class GuestBuildServicesMaker:
    """Makes one for each guest. Each build does the next act of ``script``, then succeeds."""

    script: list[Act] = field(default_factory=list)
    requests: list[BuildRequest] = field(default_factory=list)
    running: int = 0

    async def make(self, layout: CacheLayout) -> GuestBuildServices:
        return GuestBuildServices(layout, _GuestBuilder(self, layout), FirmwareStore(layout))


class _GuestBuilder(ScriptedBuilder):
    def __init__(self, maker: GuestBuildServicesMaker, layout: CacheLayout) -> None:
        super().__init__()
        self._maker = maker
        self._layout = layout

    @override
    async def build(self, request: BuildRequest, sink: BuildSink) -> Firmware:
        self._maker.requests.append(request)
        self._maker.running += 1
        try:
            sink.stage(Stage.COMPILING)
            if self._maker.script:
                await self._maker.script.pop(0)(request, sink)
            tree = self._layout.tree(request.configuration)
            tree.mkdir(parents=True, exist_ok=True)
            image = tree / "firmware.bin"
            image.write_bytes(b"firmware of " + request.attempt_id.encode())
            result = BuildResult(image, BUILD_INFO)
            store = FirmwareStore(self._layout)
            return await store.keep(request.configuration, request.device_name, result)
        finally:
            self._maker.running -= 1
