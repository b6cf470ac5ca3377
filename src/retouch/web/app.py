"""The application: routes put together, errors told in one form, the page served."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse

from retouch import __version__
from retouch.web import filling, following, labelling, painting
from retouch.web.desk import API, Desk, desk_of
from retouch.web.jobs import Office
from retouch.web.metrics import Metrics
from retouch.web.page import Page
from retouch.web.safety import Guard
from retouch.web.schema import Health, ModelOut, Offered, OfferedItem, SaveOptions
from retouch.web.sessions import ForgottenError, OverfullError, Shelf
from retouch.web.settings import Settings

_KEY = re.compile(r"/[A-Za-z0-9_-]{16,24}(?=/|$)|/\d+(?=/|$)")
_SWEEP = 60.0
"""Time between looks at what is idle [s]."""


def create_app(settings: Settings = Settings()) -> FastAPI:
    """Build the application; workers start with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        numbers = Metrics()
        make = _engine_maker(settings)
        office = Office(
            settings.devices, make, settings.queue, _is_mistake, numbers.job, settings.together
        )
        desk = Desk(settings, office, Shelf(settings.memory, settings.idle), numbers)
        app.state.desk = desk
        office.start()
        sweeping = asyncio.create_task(_sweep(desk))
        yield
        sweeping.cancel()
        office.stop()

    app = FastAPI(
        title="Retouch",
        version=__version__,
        summary="Fill holes in pictures; everything else stays as it is, bit for bit.",
        lifespan=lifespan,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    for part in (filling, painting, labelling, following):
        app.include_router(part.router)
    _add_own_routes(app)
    _add_error_handlers(app)
    app.mount("/", Page(), name="page")
    app.add_middleware(_Counting)
    app.add_middleware(Guard, settings=settings)
    return app


def _engine_maker(settings: Settings) -> Any:
    def make(device: str) -> Any:
        from retouch.web.engine import Engine  # imports torch: only here, in the worker's thread

        return Engine(device, settings)

    return make


def _is_mistake(error: BaseException) -> bool:
    from retouch.web.engine import is_mistake

    return is_mistake(error)


async def _sweep(desk: Desk) -> None:
    while True:
        await asyncio.sleep(min(_SWEEP, desk.settings.idle))
        desk.shelf.sweep()


class _Counting:
    """Counts answers by route for /metrics."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and scope["path"].startswith(API):
                method = scope["method"] if scope["method"] in _METHODS else "other"
                route = _KEY.sub("/*", scope["path"].removeprefix(API))
                known = message["status"] != 404 and len(route) < 60
                desk = scope["app"].state.desk if "app" in scope else None
                if desk is not None:
                    desk.metrics.request(method, route if known else "other", message["status"])
            await send(message)

        await self.app(scope, receive, sending)


_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD")


def _add_own_routes(app: FastAPI) -> None:
    @app.get(f"{API}/models", summary="List what can fill")
    async def models(request: Request) -> list[ModelOut]:
        """Weights at hand, the default first; empty if there are none."""
        described = await asyncio.to_thread(_describe, desk_of(request).settings)
        return [ModelOut.model_validate(item) for item in described]

    @app.get(
        f"{API}/health", summary="Whether work can be taken", responses={503: {"model": Health}}
    )
    async def health(request: Request, response: Response) -> Health:
        """`loading` until the first network is there; jobs may be queued before."""
        office = desk_of(request).office
        status = "ready" if office.ready else "broken" if office.broken else "loading"
        response.status_code = 503 if status == "broken" else 200
        return Health(
            status=status, detail=office.broken, version=__version__, waiting=office.taken
        )

    @app.get(f"{API}/metrics", summary="Numbers for Prometheus", response_class=PlainTextResponse)
    async def metrics(request: Request) -> PlainTextResponse:
        """Answer in Prometheus' text format."""
        desk = desk_of(request)
        gauges = {
            "retouch_jobs_waiting": ("Jobs that wait or run.", float(desk.office.taken)),
            "retouch_queue_places": ("Jobs that may wait or run.", float(desk.office.places)),
            "retouch_kept_bytes": ("Pictures and sessions.", float(desk.shelf.cost)),
            "retouch_kept_things": ("Pictures and sessions.", float(len(desk.shelf))),
            "retouch_ready": ("Whether a network is loaded.", float(desk.office.ready)),
            "process_threads": ("Threads.", float(threading.active_count())),
        }
        text = desk.metrics.text(gauges)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @app.get(f"{API}/offered", summary="Pictures named on the command line")
    async def offered(request: Request) -> Offered:
        """Names and numbers only; clients never see or send paths."""
        settings = desk_of(request).settings
        items = [
            OfferedItem(index=i, name=path.name, saved=_target(settings, path).exists())
            for i, path in enumerate(settings.offered)
        ]
        return Offered(pictures=items, output=settings.output.name if settings.output else None)

    @app.get(f"{API}/offered/{{index}}", response_class=FileResponse, responses=painting.ERRORS)
    async def offered_file(request: Request, index: int) -> FileResponse:
        """Answer with the file."""
        path = _offered(desk_of(request).settings, index)
        return FileResponse(path, media_type="application/octet-stream")

    @app.post(f"{API}/offered/{{index}}/save/{{key}}", responses=painting.ERRORS)
    async def save_offered(
        request: Request, index: int, key: str, options: SaveOptions
    ) -> OfferedItem:
        """Write a state of an open picture beside the offered one, never over it."""
        from retouch import pictures
        from retouch.web.documents import OpenPicture

        desk = desk_of(request)
        path = _offered(desk.settings, index)
        opened = desk.shelf.get(key, OpenPicture)
        keys = painting.known(opened, options.patches)
        target = _target(desk.settings, path)

        def write() -> Path:
            target.parent.mkdir(parents=True, exist_ok=True)
            return pictures.write(target, opened.state(keys), lossless=options.lossless)

        written = await desk.decoding(write)
        return OfferedItem(index=index, name=written.name, saved=True)


def _describe(settings: Settings) -> list[dict[str, Any]]:
    from retouch.web.engine import describe

    return describe(settings)


def _offered(settings: Settings, index: int) -> Path:
    if not 0 <= index < len(settings.offered):
        raise HTTPException(404, "no such picture was named on the command line")
    return settings.offered[index]


def _target(settings: Settings, path: Path) -> Path:
    if settings.output is not None:
        return settings.output / path.name
    return path.with_name(f"{path.stem}_filled{path.suffix}")


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ForgottenError)
    async def forgotten(request: Request, error: ForgottenError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 404)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        problems = [
            {"loc": problem["loc"], "msg": problem["msg"], "type": problem["type"]}
            for problem in error.errors()
        ]
        text = json.dumps({"detail": problems}, default=str)  # escapes what is no Unicode
        return Response(text, 422, media_type="application/json")

    @app.exception_handler(OverfullError)
    async def overfull(request: Request, error: OverfullError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 413)
