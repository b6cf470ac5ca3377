"""Jobs, as clients see them: state, server-sent events, result, cancellation."""

import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from retouch.web.desk import API, Desk, desk_of, job_out, raise_failure
from retouch.web.filling import Reply, Stored
from retouch.web.jobs import FINISHED, Job
from retouch.web.painting import ERRORS
from retouch.web.schema import JobOut

router = APIRouter(prefix=f"{API}/jobs")


def _find(desk: Desk, key: str) -> Job:
    job = desk.office.jobs.get(key)
    if job is None:
        raise HTTPException(404, "no such job (any longer)")
    return job


@router.get("/{key}", summary="Look at a job", responses={404: ERRORS[404]})
async def look(request: Request, key: str) -> JobOut:
    """Answer with its state."""
    desk = desk_of(request)
    return job_out(_find(desk, key), desk)


@router.delete("/{key}", summary="Cancel a job", responses={404: ERRORS[404]})
async def cancel(request: Request, key: str) -> JobOut:
    """End it at its next step, if it is not over."""
    desk = desk_of(request)
    job = _find(desk, key)
    if job.state not in FINISHED:
        desk.office.cancel(job)
    return job_out(job, desk)


@router.get(
    "/{key}/events",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, 404: ERRORS[404]},
)
async def events(request: Request, key: str) -> StreamingResponse:
    """Send the job's state at every change, as server-sent events, until it is over."""
    desk = desk_of(request)
    job = _find(desk, key)

    async def stream() -> AsyncIterator[str]:
        async for _ in job.follow():
            body = json.dumps(job_out(job, desk).model_dump())
            yield f"event: {job.state}\ndata: {body}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


@router.get(
    "/{key}/result",
    summary="Get a job's result",
    response_model=None,
    responses={
        200: {"description": "The file, or JSON that tells where it lies."},
        409: {"description": "It is not over."},
        **ERRORS,
    },
)
async def result(request: Request, key: str) -> Response:
    """Answer with what the job made."""
    desk = desk_of(request)
    job = _find(desk, key)
    raise_failure(job)
    if job.state != "done":
        raise HTTPException(409, f"the job is {job.state}")
    if isinstance(job.result, Stored):
        return desk.shelf.get(job.result.key, Reply).response()
    if job.result is None:
        raise HTTPException(404, "the result was sent already")
    return JSONResponse(job.result.model_dump())
