"""Semantic editing sessions: encode once, render any number of label maps."""

from typing import Any

from fastapi import APIRouter, Request, Response

from retouch.web.desk import API, Desk, desk_of, fields, form_of, job_out, needed, on_disk
from retouch.web.jobs import Job
from retouch.web.painting import ERRORS, core_options, keep, known, multipart, whole_mask
from retouch.web.schema import JobOut, PatchOut, SessionOptions, SessionOut, State

router = APIRouter(prefix=API)


@router.post(
    "/sessions",
    status_code=202,
    summary="Begin semantic editing",
    responses=ERRORS,
    openapi_extra=multipart(SessionOptions, {"mask": "White = what is edited."}, ["mask"]),
)
async def begin_session(request: Request) -> JobOut:
    """Encode once; the job's value tells the session and its proposed label map."""
    from retouch.web import documents

    desk = desk_of(request)
    with desk.slot() as slot:
        async with form_of(request) as form:
            options = fields(form, SessionOptions, ("mask",))
            opened = desk.shelf.get(options.picture, documents.OpenPicture)
            mask = await whole_mask(desk, opened, form, options)
        keys = known(opened, options.patches)
        core = core_options(options)

        def work(job: Job, engine: Any) -> SessionOut:
            state = opened.state(keys)
            session = engine.begin(job, state, mask, options.network, core)
            return _session_out(desk, options.picture, opened, session)

        job = slot.submit("session", work)
    return job_out(job, desk)


def _session_out(desk: Desk, picture: str, opened: Any, session: Any) -> SessionOut:
    from retouch.web import documents
    from retouch.web.engine import Editing, advice, label_set

    editing = Editing(session=session, picture_key=picture, network="")
    key = desk.shelf.put(editing, session.nbytes)
    patch = documents.cut(session.render(), session.mask)
    coarse = documents.cut(session.coarse(), session.mask)
    box = session.box
    return SessionOut.model_validate(
        {
            "session": key,
            "top": box.top,
            "left": box.left,
            "width": box.width,
            "height": box.height,
            "proposed": session.proposed,
            "advice": None if session.proposed else advice(session.label_set.name),
            "label_set": label_set(session.label_set.name),
            "labels": f"{API}/sessions/{key}/labels",
            "coarse": keep(desk, picture, opened, coarse).model_dump(),
            "patch": keep(desk, picture, opened, patch).model_dump(),
        }
    )


@router.get(
    "/sessions/{key}/labels",
    summary="Get the proposed label map",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **ERRORS},
)
async def get_labels(request: Request, key: str) -> Response:
    """Answer with an indexed PNG in class colours; number 255 = nothing is said."""
    from retouch.web import labelmaps
    from retouch.web.engine import Editing

    desk = desk_of(request)
    session = desk.shelf.get(key, Editing).session
    body = await desk.decoding(labelmaps.write, session.labels, session.label_set)
    return Response(body, media_type="image/png")


@router.post(
    "/sessions/{key}/render",
    status_code=202,
    summary="Fill as an edited label map says",
    responses=ERRORS,
    openapi_extra=multipart(State, {"labels": "A label map (PNG) of the session's size."}, []),
)
async def render(request: Request, key: str) -> JobOut:
    """Run the decoder alone; the job's value tells where the new fill lies."""
    from retouch.web import documents, labelmaps
    from retouch.web.engine import Editing

    desk = desk_of(request)
    editing = desk.shelf.get(key, Editing)
    opened = desk.shelf.get(editing.picture_key, documents.OpenPicture)
    session = editing.session
    with desk.slot() as slot:
        size = (session.box.height, session.box.width)
        async with form_of(request) as form:
            given = needed(form, "labels")

            def read() -> Any:
                with on_disk(given) as (path,):
                    return labelmaps.read(path, session.label_set, size)

            labels = await desk.decoding(read)

        def work(job: Job, engine: Any) -> PatchOut:
            patch = documents.cut(session.render(labels), session.mask)
            return keep(desk, editing.picture_key, opened, patch)

        job = slot.submit("render", work)
    return job_out(job, desk)


@router.delete("/sessions/{key}", status_code=204, summary="End semantic editing")
async def end_session(request: Request, key: str) -> None:
    """Forget it."""
    desk_of(request).shelf.drop(key)
