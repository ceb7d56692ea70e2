"""The running builder: the engine's host and build services behind a small server."""

import asyncio
from contextlib import ExitStack
import errno
import logging
import os
import socket
from typing import TYPE_CHECKING, Final

from aiohttp import web

from . import __version__
from .app.home_assistant import HomeAssistantApp
from .app.ingress import ingress_application
from .app.supervisor import AppInfo
from .checks import check_containment, check_folder, check_machine, only_one
from .control import Control
from .engine.build.cache.layout import CacheLayout
from .engine.build.services import BuildServices
from .engine.clock import SystemTime
from .engine.const import GIB
from .engine.host.build_host import BuildHost
from .engine.host.guests import GuestRegistry
from .engine.host.lending import Lending
from .engine.host.pairing_window import PairingWindow, WindowEnd
from .engine.host.server import LinkServer, Served
from .engine.host.status import why_no_build
from .engine.protocol.hello import URL_LINK, Program
from .engine.protocol.identity import IdentityError, load_or_create
from .engine.protocol.limits import LABEL_LIMIT
from .engine.protocol.negotiation import own_offer
from .engine.tasks import BackgroundTasks, CoalescedTask, stop_all
from .engine.text import one_line
from .settings import RefusedError, Settings
from .storage import FileStore

if TYPE_CHECKING:
    from .announcement import Announcement

_LOGGER = logging.getLogger(__name__)

_SHUTDOWN_TIMEOUT: Final = 1.0
"""Seconds for requests that are still being answered; links are closed before."""


class StandaloneBuilder:
    """One builder, from ``start`` to ``stop``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._label = one_line(settings.name, LABEL_LIMIT) or "builder"
        self._server = LinkServer()
        self._window = PairingWindow(SystemTime().monotonic)
        self._announcement: Announcement | None = None
        self._guest_store = FileStore(settings.folder.guests)
        self._attempt_store = FileStore(settings.folder.attempts)
        self._app_store = FileStore(settings.folder.app)
        self._runners: list[web.AppRunner] = []
        self._services: BuildServices | None = None
        self._pruning = CoalescedTask(self._prune, "prune the cache")
        self._background = BackgroundTasks()
        self._lock = ExitStack()

    async def start(self) -> None:
        """Serve guests; raises RefusedError with the reason why not."""
        settings, folder = self._settings, self._settings.folder
        check_folder(folder)
        self._lock.enter_context(only_one(folder))
        check_machine(folder)
        layout = CacheLayout(folder.cache)
        self._services = services = await asyncio.to_thread(BuildServices, layout, (folder.root,))
        check_containment(services, uncontained=settings.uncontained)
        try:
            identity = await asyncio.to_thread(load_or_create, folder.identity)
        except IdentityError as err:
            raise RefusedError(str(err.reason)) from err
        await services.start()
        services.apply(self._label, settings.slots, settings.ccache_gib)
        guests = GuestRegistry(self._guest_store)
        await guests.load()
        guests.expect(settings.guests)
        host = BuildHost(
            guests=guests,
            store=self._attempt_store,
            layout=layout,
            slots=services.builder.slots,
            make_build_services=services.make_guest,
        )
        await host.start()
        host.build_ended.subscribe(self._pruning.request)
        host.limit_disk(settings.disk_gib * GIB)
        services.compiler_caches.guest_disk = settings.disk_gib * GIB
        await host.lend(Lending.ON)
        self._window.changed.subscribe(self._window_changed)
        self._server.served = served = Served(
            identity=identity,
            offer=own_offer(__version__),
            label=lambda: self._label,
            host=host,
            window=self._window,
            program=Program.STANDALONE_BUILDER,
        )
        control = Control(self._server, served, services, settings)
        listening = await self._listen(control)
        if settings.supervisor is not None:
            app = HomeAssistantApp(
                supervisor=settings.supervisor,
                served=served,
                port=settings.port,
                store=self._app_store,
                serve_page=lambda info: self._serve_page(control, info),
            )
            self._background.start(app.run(), "be an app of Home Assistant OS")
        if settings.announce:
            # 3 MiB, which are not needed where nothing is announced.
            from .announcement import Announcement  # noqa: PLC0415
            from .engine.host.announcement import AnnouncedBuilder  # noqa: PLC0415

            builder = AnnouncedBuilder(identity.pin_sha256, self._label)
            self._announcement = announcement = Announcement()
            self._background.start(
                announcement.start(builder, settings.port, listening), "announce this builder"
            )
        _LOGGER.info(
            "Ready: %s (version %s) on port %d, data in %s, pin %s",
            self._label,
            __version__,
            settings.port,
            folder.root,
            identity.pin_sha256,
        )

    async def stop(self) -> None:
        """End all connections and builds; returns when everything is on disk."""
        self._window.close()
        await self._background.cancel()
        parts = [self._pruning.stop(), self._server.close()]
        if self._announcement is not None:
            parts.append(self._announcement.stop())
        if (served := self._server.served) is not None:
            parts.append(served.host.stop())
        await stop_all(*parts)
        if self._services is not None:
            await self._services.aclose()
        await stop_all(*(runner.cleanup() for runner in self._runners))
        stores = (self._guest_store, self._attempt_store, self._app_store)
        await stop_all(*(store.close() for store in stores))
        self._lock.close()

    async def _listen(self, control: Control) -> tuple[str, ...]:
        """Serve guests and commands; returns the addresses at which guests are served."""
        settings = self._settings
        public = web.Application()
        public.router.add_get(URL_LINK, self._server.handle)
        public.router.add_get("/health", self._health)
        public.router.add_get("/health/live", self._live)
        runner = await self._runner(public)
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as err:
            raise RefusedError(
                f"Port {settings.port} cannot be used: {err.strerror}; choose another with --port"
            ) from err
        listening = tuple(address[0] for address in runner.addresses)
        runner = await self._runner(control.application())
        await web.SockSite(runner, _private_socket(os.fspath(settings.folder.control))).start()
        return listening

    async def _serve_page(self, control: Control, info: AppInfo) -> None:
        """Serve the page inside Home Assistant; builds go on without it."""
        runner = await self._runner(ingress_application(control))
        try:
            await web.TCPSite(runner, info.ip_address, info.ingress_port).start()
        except OSError as err:
            _LOGGER.warning("The page in Home Assistant cannot be served: %s", err.strerror)

    async def _runner(self, application: web.Application) -> web.AppRunner:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        self._runners.append(runner)
        await runner.setup()
        return runner

    async def _health(self, _request: web.Request) -> web.Response:
        """Answer whether builds can be accepted: 200, or 503 with the reason."""
        assert self._services is not None  # noqa: S101 - it serves requests
        await self._services.builder.refresh()
        why_not = why_no_build(self._services.builder.status())
        if why_not is not None:
            return web.json_response({"status": "unable", "reason": str(why_not)}, status=503)
        return web.json_response({"status": "ok"})

    async def _live(self, _request: web.Request) -> web.Response:
        """Answer those who restart what does not: a full disk is no reason."""
        return web.json_response({"status": "ok"})

    def _window_changed(self) -> None:
        state, end = self._window.state, self._window.end
        if state is not None:
            _LOGGER.info("The pairing window is open, tries left: %d", state.tries_left)
        elif end is WindowEnd.WRONG_CODES:
            _LOGGER.warning(
                "Wrong codes from %s closed the pairing window", self._window.tried_from
            )
        elif end is not None:
            _LOGGER.info("The pairing window is over: %s", end)

    async def _prune(self) -> None:
        assert self._services is not None  # noqa: S101 - a build has ended
        try:
            await self._services.make_room(None)
        except OSError as err:
            _LOGGER.warning("The cache cannot be pruned: %s", err)


def _private_socket(path: str) -> socket.socket:
    """Return a bound socket that this user alone can connect to; raises RefusedError."""
    with ExitStack() as stack:
        bound = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            # Nobody listens there: the lock of the data folder is ours.
            if os.path.lexists(path):
                os.unlink(path)  # noqa: PTH108 - a socket, by the name that bind takes
            os.fchmod(bound.fileno(), 0o600)
            bound.bind(path)
        except OSError as err:
            too_long = err.errno in (None, errno.ENAMETOOLONG)
            why = "its path is too long, choose a shorter --data" if too_long else err.strerror
            raise RefusedError(f"The socket {path} cannot be made: {why}") from err
        stack.pop_all()
        return bound
