"""The ASGI application: routes, and errors in OpenAI's shape for what no route took."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from router.access.access import Access
from router.access.layer import Layer
from router.engine import Engine
from router.gateway import background
from router.gateway.anthropic.messages import Messages
from router.gateway.api import Api
from router.gateway.batches.api import Batches
from router.gateway.cluster import Cluster, ClusterView, nothing
from router.gateway.dialects import refusal
from router.gateway.entry import Admission, Entry
from router.gateway.errors import ApiError
from router.gateway.exposition import Format
from router.gateway.files import Files
from router.gateway.health import Health, Target, engine_readiness, own
from router.gateway.inside import Inside
from router.gateway.intake import Intake
from router.gateway.kept import Kept
from router.gateway.metrics import Metrics
from router.gateway.models import Models
from router.gateway.page import Page
from router.gateway.reference import Reference
from router.gateway.responses.api import ResponsesApi
from router.gateway.responses.conversations import ConversationsApi
from router.gateway.settings import Settings
from router.gateway.streamtest import StreamTest
from router.gateway.thoughts import Thoughts
from router.gateway.tokens import Tokenizer
from router.store.retention import expire
from router.store.store import Store
from router.tools.tools import Tools


def create_app(
    engine: Engine,
    settings: Settings | None = None,
    registry: CollectorRegistry | None = None,
    unready: Callable[[], Awaitable[str | None]] | None = None,
    targets: Callable[[], Iterable[Target]] = tuple,
    exposition: Callable[[Format], Awaitable[bytes]] | None = None,
    *,
    cluster: Callable[[], ClusterView] | None = None,
    access: Access | None = None,
    store: Store | None = None,
    tools: Tools | None = None,
) -> Starlette:
    """The gateway in front of this engine; its `state.admission` closes it. Servers must run its lifespan.

    `registry` has its metrics (a new one if None), `exposition` says what /metrics shows (those, if None), `unready` why /ready
    should fail (if None, the engine is asked), `targets` what /metrics/targets lists, `cluster` what the page
    shows (no replica, if None). `access` says who may come (None: all), `store` keeps what outlives
    a request (None: in memory; another one is closed by whoever opened it), `tools` are those that requests may name
    (None: none).
    """
    metrics = Metrics(registry or CollectorRegistry())
    admission = Admission(metrics)
    settings = settings or Settings()
    kept = store or Store("sqlite://")
    models = Models(engine, settings.served_model_names)
    intake = Intake(engine, settings, metrics, models, Thoughts(store=store.reasoning if store else None))
    health = Health(exposition or own(metrics.registry), admission, unready or engine_readiness(engine), targets)
    completions = Kept(intake, kept.completions)
    responses = ResponsesApi(intake, kept, tools or Tools(), access)
    generating = [*Api(intake, completions).routes(), *responses.routes(), *Messages(intake).routes()]
    batches = Batches(intake, kept, Inside(generating, access))
    routes = [
        *Page().routes(),
        *generating,
        *completions.routes(),
        *Files(kept, settings).routes(),
        *batches.routes(),
        *ConversationsApi(intake, kept).routes(),
        *Tokenizer(intake).routes(),
        *Cluster(cluster or nothing).routes(),
        *StreamTest(settings, admission).routes(),
        *health.routes(),
    ]
    tasks: list[background.Task] = [*responses.tasks, *batches.tasks]
    if store is not None:
        tasks.append(functools.partial(expire, store, settings.retention_s))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with background.running(tasks):
            yield
        if store is None:
            await kept.close()

    app = Starlette(
        routes=[*routes, *Reference(routes).routes()],
        middleware=[
            Middleware(Entry, metrics=metrics, admission=admission),
            *([Middleware(Layer, access=access)] if access else []),
        ],
        exception_handlers={HTTPException: _no_route},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.admission = admission
    return app


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message, code = f"{request.method} is not allowed on {request.url.path}", "method_not_allowed"
    else:
        message, code = f"unknown path: {request.method} {request.url.path}", "unknown_url"
    response = refusal(request.scope, ApiError(error.status_code, message, code=code))
    response.headers.update(error.headers or {})
    return response
