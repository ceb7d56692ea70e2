"""A plain aiohttp server that writes what it is sent into a file: port and file are arguments."""

from pathlib import Path
import sys

from aiohttp import web


def main() -> None:
    """Serve until the process is killed."""
    target = Path(sys.argv[2])

    async def put(request: web.Request) -> web.Response:
        size = 0
        with target.open("wb") as file:  # noqa: ASYNC230 - the plainest way
            async for chunk in request.content.iter_any():
                size += file.write(chunk)
        return web.Response(text=f"{size}")

    app = web.Application()
    app.router.add_put("/", put)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
