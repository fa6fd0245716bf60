"""Whether the process is alive, whether it can answer, and its metrics, for monitoring."""

from fastapi import APIRouter, Request, Response

from recmeta.endpoint.answers.models import Health
from recmeta.endpoint.operation.metrics import CONTENT_TYPE, Metrics

OPEN_PATHS = ("/livez", "/readyz")
"""Probes send no key."""
router = APIRouter()


@router.get("/livez", summary="Report whether the process is alive")
async def livez() -> Health:
    """Return 200 as long as requests are handled at all."""
    return Health(status="ok")


@router.get(
    "/readyz", summary="Report whether requests can be answered", responses={503: {"model": Health}}
)
async def readyz(request: Request, response: Response) -> Health:
    """Return 200 with the version that answers, and which newer one was refused; 503 before the
    first champion, and at the end."""
    state = request.app.state
    if state.stopping:
        response.status_code = 503
        return Health(status="stopping")
    champion, refused = state.holder.current, state.holder.refused
    if champion is None:
        response.status_code = 503
    return Health(
        status="no champion yet" if champion is None else "ok",
        model_version=None if champion is None else champion.version,
        refused_version=None if refused is None else refused.version,
        reason=None if refused is None else refused.reason,
    )


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' exposition format."""
    found: Metrics = request.app.state.metrics
    found.queue.set(request.app.state.batcher.num_waiting)
    found.connections.set(len(request.app.state.connections))
    return Response(found.to_text(), media_type=CONTENT_TYPE)
