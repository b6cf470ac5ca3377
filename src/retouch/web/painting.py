"""Open pictures: opened once, filled again and again, saved."""

from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from retouch.web.desk import (
    API,
    Desk,
    desk_of,
    fields,
    form_of,
    job_out,
    needed,
    on_disk,
)
from retouch.web.filling import awaited, form_schema
from retouch.web.jobs import Job
from retouch.web.schema import (
    Detail,
    JobOut,
    PartialFill,
    PatchOut,
    PictureOut,
    Replay,
    SaveOptions,
    Selection,
)

router = APIRouter(prefix=API)
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Detail, "description": "The body is broken."},
    404: {"model": Detail, "description": "Not here, or forgotten: open it again."},
    413: {"model": Detail, "description": "The body or the picture is too large."},
    415: {"model": Detail, "description": "The body is of another kind."},
    422: {"model": Detail, "description": "A picture or an option cannot be used."},
    429: {"model": Detail, "description": "The queue is full; see Retry-After."},
    503: {"model": Detail, "description": "The worker cannot work, or is stopping."},
}


def multipart(model: type[Any], files: dict[str, str], required: list[str]) -> dict[str, Any]:
    """Describe a multipart body for OpenAPI."""
    content = {"multipart/form-data": form_schema(model, files, required)}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/pictures",
    status_code=201,
    summary="Open a picture",
    responses=ERRORS,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image"],
                        "properties": {"image": {"type": "string", "format": "binary"}},
                    }
                }
            },
        }
    },
)
async def open_picture(request: Request) -> PictureOut:
    """Read the picture and keep it for fills; forgotten when idle."""
    from retouch.web import documents

    desk = desk_of(request)
    async with form_of(request) as form:
        image = needed(form, "image")
        name, limit = documents.plain_name(image.filename), desk.settings.max_pixels

        def read() -> documents.OpenPicture:
            with on_disk(image) as (path,):
                return documents.read(path, name, limit)

        opened = await desk.decoding(read)
    return describe(desk.shelf.put(opened, opened.nbytes), opened)


def describe(key: str, opened: Any) -> PictureOut:
    """Tell of an open picture."""
    metadata = opened.picture.metadata
    return PictureOut(
        picture=key,
        name=opened.name,
        width=opened.picture.width,
        height=opened.picture.height,
        format=metadata.format,
        bits=metadata.bits,
        orientation=metadata.orientation,
    )


@router.delete("/pictures/{key}", status_code=204, summary="Close a picture")
async def close_picture(request: Request, key: str) -> None:
    """Forget it."""
    desk_of(request).shelf.drop(key)


@router.get(
    "/pictures/{key}/view",
    summary="Show an open picture",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **ERRORS},
)
async def view(request: Request, key: str) -> Response:
    """Answer with the picture as opened, as 8-bit PNG in full size, for any browser."""
    from retouch.web import documents

    desk = desk_of(request)
    opened = desk.shelf.get(key, documents.OpenPicture)
    body = await desk.decoding(documents.view, opened.picture)
    return Response(body, media_type="image/png")


@router.post(
    "/pictures/{key}/fills",
    status_code=202,
    summary="Fill a part of an open picture",
    responses=ERRORS,
    openapi_extra=multipart(PartialFill, {"mask": "White = what goes."}, ["mask"]),
)
async def fill_part(request: Request, key: str) -> JobOut:
    """Queue a fill; the job's value tells where its result lies."""
    from retouch.web import documents

    desk = desk_of(request)
    opened = desk.shelf.get(key, documents.OpenPicture)
    with desk.slot() as slot:
        async with form_of(request) as form:
            options = fields(form, PartialFill, ("mask",))
            mask = await whole_mask(desk, opened, form, options)
        keys = known(opened, options.patches)
        core = core_options(options)

        def work(job: Job, engine: Any) -> PatchOut:
            patch = engine.fill_part(job, opened, keys, mask, options.network, core)
            return keep(desk, key, opened, patch)

        job = slot.submit("fill_part", work, alike=(options.network, opened.picture.size))
    return job_out(job, desk)


async def whole_mask(desk: Desk, opened: Any, form: Any, options: PartialFill) -> Any:
    """Lay a mask's part into a mask of the picture's size.

    Raises:
        HTTPException: 422 if it is no mask or leaves the picture.
    """
    import numpy as np

    from retouch.web import documents

    given, limit = needed(form, "mask"), desk.settings.max_pixels

    def read() -> Any:
        with on_disk(given) as (path,):
            return documents.read_mask(path, invert=False, max_pixels=limit)

    part = await desk.decoding(read)
    height, width = part.shape
    picture = opened.picture
    if options.top + height > picture.height or options.left + width > picture.width:
        raise HTTPException(422, "the mask leaves the picture")
    mask = np.zeros(picture.size, bool)
    mask[options.top : options.top + height, options.left : options.left + width] = part
    return mask


def core_options(options: Any) -> Any:
    """Turn options into the core's."""
    from retouch.pipeline.devices import OptionError
    from retouch.pipeline.options import FillOptions

    try:
        return FillOptions(dilate=options.dilate, feather=options.feather, seed=options.seed)
    except OptionError as error:
        raise HTTPException(422, str(error)) from None


def known(opened: Any, keys: list[str]) -> tuple[str, ...]:
    """Check that all fills of a state are here.

    Raises:
        HTTPException: 404 else.
    """
    if missing := [key for key in keys if key not in opened.patches]:
        raise HTTPException(404, f"no fill {missing[0][:40]!r}: bring it again")
    return tuple(keys)


def keep(desk: Desk, key: str, opened: Any, patch: Any) -> PatchOut:
    """Add a fill to its picture."""
    import secrets

    name = secrets.token_urlsafe(12)
    opened.patches[name] = patch
    desk.shelf.grow(key, patch.nbytes)
    box = patch.box
    return PatchOut(
        patch=name,
        top=box.top,
        left=box.left,
        width=box.width,
        height=box.height,
        url=f"{API}/pictures/{key}/patches/{name}",
    )


@router.get(
    "/pictures/{key}/patches/{patch}",
    summary="Get a fill",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **ERRORS},
)
async def get_patch(request: Request, key: str, patch: str) -> Response:
    """Answer with a PNG that is transparent outside the hole, in the picture's depth."""
    from retouch.web import documents

    desk = desk_of(request)
    opened = desk.shelf.get(key, documents.OpenPicture)
    known(opened, [patch])
    metadata = opened.picture.metadata
    body = await desk.decoding(documents.encode_patch, opened.patches[patch], metadata)
    return Response(body, media_type="image/png")


@router.post(
    "/pictures/{key}/patches",
    status_code=201,
    summary="Bring a fill back",
    responses=ERRORS,
    openapi_extra=multipart(Replay, {"fill": "As it was given out."}, ["fill"]),
)
async def bring_patch(request: Request, key: str) -> PatchOut:
    """Take back a fill that an earlier server gave out, bit for bit."""
    from retouch.web import documents

    desk = desk_of(request)
    opened = desk.shelf.get(key, documents.OpenPicture)
    async with form_of(request) as form:
        where = fields(form, Replay, ("fill",))
        given, limit = needed(form, "fill"), desk.settings.max_pixels

        def read() -> documents.Patch:
            with on_disk(given) as (path,):
                return documents.read_patch(path, opened, where.top, where.left, limit)

        patch = await desk.decoding(read)
    return keep(desk, key, opened, patch)


@router.post(
    "/pictures/{key}/save",
    summary="Write a state of a picture as a file",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, **ERRORS},
)
async def save(request: Request, key: str, options: SaveOptions) -> Response:
    """Answer with the picture in its own format with all its metadata."""
    from retouch.web import documents

    desk = desk_of(request)
    opened = desk.shelf.get(key, documents.OpenPicture)
    keys = known(opened, options.patches)
    suffix = ".png" if options.format == "png" else opened.suffix

    def write() -> tuple[bytes, str]:
        return documents.encode(opened.state(keys), suffix, lossless=options.lossless)

    body, suffix = await desk.decoding(write)
    return Response(body, media_type=documents.MEDIA[suffix])


@router.post(
    "/select",
    summary="Select the thing that was clicked on",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **ERRORS},
)
async def select(request: Request, given: Selection) -> Response:
    """Answer with a mask of the smallest box round it; X-Left and X-Top say where it lies.

    X-Selector says how it was found: `mobile-sam`, or `grabcut` where the store lacks its weights.
    """
    from retouch.web import documents, selecting

    desk = desk_of(request)
    opened = desk.shelf.get(given.picture, documents.OpenPicture)
    keys = known(opened, given.patches)
    if selecting.has_network():
        with desk.slot() as slot:

            def find(job: Job, engine: Any) -> tuple[bytes, int, int]:
                before = opened.scenes_nbytes
                mask = engine.select(opened, keys, given.points)
                desk.shelf.grow(given.picture, opened.scenes_nbytes - before)
                return selecting.encode(mask)

            job = slot.submit("select", find)
        body, left, top = await awaited(request, desk, job)
    else:
        body, left, top = await desk.decoding(
            lambda: selecting.encode(selecting.select(opened.state(keys), given.points))
        )
    name = "mobile-sam" if selecting.has_network() else "grabcut"
    headers = {"X-Left": str(left), "X-Top": str(top), "X-Selector": name}
    return Response(body, media_type="image/png", headers=headers)
