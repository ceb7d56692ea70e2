"""The page inside Home Assistant: who may see it, and what it consists of."""

import logging
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from ..control import Control
from ..engine.text import one_line

_LOGGER = logging.getLogger(__name__)

INGRESS_GATEWAY: Final = "172.30.32.2"
"""The address of Supervisor, from which alone requests for the page come."""

_PATH: Final = "X-Ingress-Path"
_USER: Final = "X-Remote-User-Id"
_NAME: Final = "X-Remote-User-Display-Name"

_PAGE: Final = Path(__file__).with_name("page")
_FILES: Final = {
    "/": "index.html",
    "/page.css": "page.css",
    "/page.js": "page.js",
    "/texts.js": "texts.js",
}

_HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def ingress_application(control: Control, gateway: str = INGRESS_GATEWAY) -> web.Application:
    """Return the page and the requests that it makes, for Supervisor at ``gateway`` alone."""
    application = web.Application(middlewares=[_only_from(gateway)])
    for path, name in _FILES.items():
        application.router.add_get(path, _file(_PAGE / name))
    application.router.add_routes(control.page_routes())
    return application


def _only_from(gateway: str) -> Middleware:
    @web.middleware
    async def only_from_gateway(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what Supervisor does not pass on for somebody who is logged in.

        The port is open to the whole machine, and Supervisor itself can be made to request
        things, by another app's watchdog for example: those requests have none of these headers.
        """
        passed_on = _PATH in request.headers and _USER in request.headers
        if request.remote != gateway or not passed_on:
            raise web.HTTPForbidden(text="Open this page in Home Assistant.")
        if request.method != hdrs.METH_GET:
            who = one_line(request.headers.get(_NAME) or request.headers[_USER], 64)
            _LOGGER.info("%s on the page: %s %s", who, request.method, request.path)
        response = await handler(request)
        response.headers.update(_HEADERS)
        return response

    return only_from_gateway


def _file(path: Path) -> Handler:
    async def send(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path)

    return send
