"""What the other commands ask of the running program, over the socket in its data folder."""

from http import HTTPStatus

from aiohttp import web

from .engine.build.services import BuildServices
from .engine.const import GIB
from .engine.host.attempt import GuestAttempt
from .engine.host.guests import Guest
from .engine.host.server import LinkServer, Served
from .engine.host.status import why_no_build
from .payloads import (
    CACHE,
    GUESTS,
    PAIRING,
    STATUS,
    BuildPayload,
    CleanedPayload,
    GuestPayload,
    PairingPayload,
    StatusPayload,
)
from .settings import Settings


class Control:
    """The requests; whoever may connect to the socket may make all of them."""

    def __init__(
        self, server: LinkServer, served: Served, services: BuildServices, settings: Settings
    ) -> None:
        self._server = server
        self._served = served
        self._host = served.host
        self._services = services
        self._settings = settings

    def application(self) -> web.Application:
        """Return the application to serve."""
        application = web.Application()
        application.router.add_routes(self.page_routes())
        application.router.add_delete(CACHE, self._clean)
        return application

    def page_routes(self) -> list[web.RouteDef]:
        """Return the requests of the page inside Home Assistant, too."""
        return [
            web.get(STATUS, self._status),
            web.post(PAIRING, self._open_window),
            web.get(PAIRING, self._window),
            web.delete(PAIRING, self._close_window),
            web.delete(GUESTS + "/{pin}", self._remove_guest),
        ]

    async def _status(self, _request: web.Request) -> web.Response:
        builder, host = self._services.builder, self._host
        await builder.refresh()
        status, use = builder.status(), self._services.compiler_caches.use
        why_not = host.lending.why_not or why_no_build(status)
        return web.json_response(
            StatusPayload(
                name=self._served.label(),
                version=self._served.offer.version,
                pin_sha256=self._served.identity.pin_sha256,
                port=self._settings.port,
                available=why_not is None,
                why_not=None if why_not is None else str(why_not),
                containment=self._services.containment.degree,
                containment_text=str(self._services.containment.reason),
                slots=status.slots,
                busy=status.busy,
                queued=status.queue_length,
                builds=[self._build(each) for each in host.active()],
                guests=[self._guest(each) for each in host.guests.all()],
                toolchains=list(status.versions),
                ccache=status.ccache,
                ccache_hits=use.hits,
                ccache_files=use.files,
                memory_free_mib=status.memory_mib,
                disk_free_mib=status.disk_mib,
                disk_used=host.disk_used,
                disk_limit=self._settings.disk_gib * GIB,
            )
        )

    def _build(self, attempt: GuestAttempt) -> BuildPayload:
        pin, parameters = attempt.key.pin_sha256, attempt.submission.parameters
        guest = self._host.guests.get(pin)
        downloading = attempt.downloading is not None
        return BuildPayload(
            guest=pin if guest is None else guest.label,
            configuration=parameters.configuration,
            device=parameters.device_name,
            esphome_version=parameters.esphome_version,
            stage="downloading" if downloading else attempt.state,
            percent=attempt.downloading if downloading else attempt.percent,
            ahead=attempt.ahead,
        )

    def _guest(self, guest: Guest) -> GuestPayload:
        last_seen = guest.last_seen
        return GuestPayload(
            pin_sha256=guest.pin_sha256,
            label=guest.label,
            connected=self._server.sessions.connected(guest.pin_sha256),
            paired_at=guest.paired_at.isoformat(timespec="seconds"),
            last_seen=None if last_seen is None else last_seen.isoformat(timespec="seconds"),
            builds=guest.builds,
        )

    async def _open_window(self, request: web.Request) -> web.Response:
        self._served.window.open()
        return await self._window(request)

    async def _close_window(self, request: web.Request) -> web.Response:
        self._served.window.close()
        return await self._window(request)

    async def _window(self, _request: web.Request) -> web.Response:
        state, end = self._served.window.state, self._served.window.end
        return web.json_response(
            PairingPayload(
                code=None if state is None else state.code,
                seconds_left=0 if state is None else state.seconds_left,
                tries_left=0 if state is None else state.tries_left,
                end=end,
                newest_guest=self._server.newest_guest,
            )
        )

    async def _remove_guest(self, request: web.Request) -> web.Response:
        pin = request.match_info["pin"]
        if self._host.guests.get(pin) is None:
            raise web.HTTPNotFound
        await self._server.unpair(pin)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _clean(self, _request: web.Request) -> web.Response:
        await self._services.toolchains.make_room(0)
        used = await self._host.make_room(0)
        return web.json_response(CleanedPayload(disk_used=used))
