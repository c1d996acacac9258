"""The application: its parts' life, its middleware, its routes."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import Scope

from serve import errors
from serve.description import describe
from serve.gateway import Stores, running
from serve.middleware.bodies import BodyCap
from serve.middleware.door import Door
from serve.middleware.heading import HeadAsGet
from serve.middleware.hosts import KnownHosts
from serve.middleware.lane import Lane
from serve.routes import (
    adapters,
    aliases,
    annotating,
    chat,
    comparisons,
    engines,
    experiments,
    exports,
    feedback,
    health,
    labels,
    loop,
    me,
    models,
    pages,
    quarantine,
)
from serve.schemas.base import ErrorAnswer
from serve.settings import GatewaySettings

SWITCH_SECONDS = 0.0005  # longest that another thread keeps a stream from the interpreter; Python's: 0.005
YOUNG_OBJECTS = 7000  # after so many new ones the collector looks at them; Python's 700 are a few chats
ROUTERS = (
    chat,
    comparisons,
    exports,  # before feedback, whose {response_id} would take "export" for one
    feedback,
    labels,
    me,
    annotating,
    models,
    aliases,
    adapters,
    engines,
    experiments,
    quarantine,
    loop,
    health,
    pages,
)


def process_app() -> FastAPI:
    """The gateway of a process that has no other: what is there once it runs is there for as long, and the collector
    need not look at it again while chats wait.
    """

    def started() -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, 10, 10)

    return create_app(started=started)


def create_app(
    settings: GatewaySettings | None = None,
    stores: Stores | None = None,
    *,
    started: Callable[[], None] = lambda: None,
) -> FastAPI:
    """The gateway as an ASGI application. ``stores`` replaces Redis in tests; ``started``: called when all is there."""
    settings = settings or GatewaySettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sys.setswitchinterval(SWITCH_SECONDS)
        async with running(settings, stores) as gateway:
            app.state.gateway = gateway
            await gateway.snapshot.refresh()
            await gateway.discovery.refresh()
            await gateway.pool.check_all()
            await gateway.pool.settle()
            # Reports need scipy, which takes a second to load: now, and not under the first scrape.
            loading = asyncio.create_task(asyncio.to_thread(import_module, "feedback.statistics"))
            loading.add_done_callback(lambda _: started())
            yield
            await loading

    def keyless(scope: Scope) -> bool:
        return bool(scope["app"].state.gateway.doorman.keyless)

    app = FastAPI(
        title="Heed",
        description="A chat server that learns from the people it serves.",
        version=installed_version(),
        lifespan=lifespan,
        middleware=[  # outermost first
            Middleware(
                Door,
                hosts=KnownHosts(settings.host_names, keyless),
                bodies=BodyCap(settings.max_body_bytes),
            ),
            Middleware(Lane, endpoints={chat.PATH: chat.answer, feedback.PATH: feedback.vote_briefly}),
            Middleware(HeadAsGet),
        ],
        redirect_slashes=False,  # a redirect would be made of the client's Host
        docs_url=None,  # FastAPI's own page loads scripts from another host; ours is in web/
        redoc_url=None,
        openapi_url="/openapi.json" if settings.docs else None,
        responses={
            code: {"model": ErrorAnswer}
            for code in (400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 429, 431, 502, 503)
        },
    )
    errors.install(app)
    for module in ROUTERS:
        app.include_router(module.router)
    app.openapi = lambda: describe(app, settings)  # type: ignore[method-assign]
    return app


def installed_version() -> str:
    """The distribution's version; of a source tree that was not installed, 0."""
    try:
        return version("heed")
    except PackageNotFoundError:
        return "0"
