"""`/fill` and `/segment`: a picture comes, an answer goes, nothing is kept."""

import asyncio
import base64
import binascii
import io
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import FormData, UploadFile

from retouch.web.desk import (
    API,
    Desk,
    checked,
    close,
    desk_of,
    fields,
    job_out,
    needed,
    on_disk,
    raise_failure,
    read_form,
    upload,
)
from retouch.web.jobs import Job
from retouch.web.schema import Detail, FillJson, FillOptions, JobOut

router = APIRouter(prefix=API)
_FILES = ("image", "mask", "labels")
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Detail, "description": "The body is broken."},
    413: {"model": Detail, "description": "The body or the picture is too large."},
    415: {"model": Detail, "description": "The body is of another kind."},
    422: {"model": Detail, "description": "A picture or an option cannot be used."},
    429: {"model": Detail, "description": "The queue is full; see Retry-After."},
    503: {"model": Detail, "description": "The worker cannot work, or is stopping."},
}


def _binary(text: str) -> dict[str, Any]:
    return {"type": "string", "format": "binary", "description": text}


def form_schema(model: type[Any], files: dict[str, str], required: list[str]) -> dict[str, Any]:
    """Describe a multipart body for OpenAPI: a model's fields, and files."""
    schema = model.model_json_schema()
    schema["properties"].update({name: _binary(text) for name, text in files.items()})
    schema["required"] = [*schema.get("required", []), *required]
    return {"schema": schema}


_PICTURE = {
    media: {"schema": {"type": "string", "format": "binary"}}
    for media in ("image/png", "image/jpeg", "image/tiff", "image/webp", "image/bmp", "image/avif")
}


@dataclass(eq=False)
class Reply:
    """A file to send."""

    body: bytes
    suffix: str
    name: str

    def response(self) -> Response:
        from retouch.web.documents import MEDIA

        stem = "".join(c if c.isascii() and c.isalnum() else "_" for c in self.name)[:80]
        disposition = f'attachment; filename="{stem or "picture"}{self.suffix}"'
        media = MEDIA[self.suffix]
        return Response(self.body, media_type=media, headers={"Content-Disposition": disposition})


@dataclass(frozen=True)
class Stored:
    """A reply that waits on the shelf until it is fetched or forgotten."""

    key: str


@dataclass(frozen=True, kw_only=True)
class _Order:
    options: FillOptions
    image: UploadFile | bytes
    mask: UploadFile | bytes | None
    labels: UploadFile | bytes | None
    name: str
    alike: Hashable
    close: Callable[[], None] = lambda: None


@router.post(
    "/fill",
    summary="Fill the holes of a picture",
    response_model=None,
    responses={
        200: {"description": "The filled picture in its own format.", "content": _PICTURE},
        202: {"model": JobOut, "description": "Accepted (if JSON was asked for)."},
        **_ERRORS,
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": form_schema(
                    FillOptions,
                    {
                        "image": "The picture.",
                        "mask": "White = what goes; without it the transparent part is the hole.",
                        "labels": "A label map (indexed PNG) for networks that obey one.",
                    },
                    ["image"],
                ),
                "application/json": {"schema": FillJson.model_json_schema()},
            },
        }
    },
)
async def fill(request: Request) -> Response:
    """Answer with the picture; with `Accept: application/json`, with a job to follow."""
    desk = desk_of(request)
    with desk.slot() as slot:
        order = await _order(request)
        follows = request.headers.get("accept", "").startswith("application/json")

        def work(job: Job, engine: Any) -> Reply | Stored:
            reply = _fill(desk, order, job, engine)
            return Stored(desk.shelf.put(reply, len(reply.body))) if follows else reply

        job = slot.submit("fill", work, order.close, order.alike)
    if follows:
        return JSONResponse(job_out(job, desk).model_dump(), 202)
    reply: Reply = await awaited(request, desk, job)
    response = reply.response()
    response.headers["X-Retouch-Seconds"] = f"{job.seconds:.3f}"
    return response


@router.post(
    "/segment",
    summary="Label every pixel of a picture",
    response_class=Response,
    responses={200: {"description": "An indexed PNG.", "content": {"image/png": {}}}, **_ERRORS},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image"],
                        "properties": {
                            "image": _binary("The picture."),
                            "labels": {"type": "string", "default": "faces"},
                        },
                    }
                }
            },
        }
    },
)
async def segment(request: Request) -> Response:
    """Answer with the label map in the picture's size."""
    desk = desk_of(request)
    with desk.slot() as slot:
        form = await read_form(request)
        with _closing_on_error(form):
            image, labels = needed(form, "image"), str(form.get("labels", "faces"))
        job = slot.submit(
            "segment",
            lambda job, engine: _segment(desk, image, labels, engine),
            lambda: close(form),
        )
    reply: Reply = await awaited(request, desk, job)
    return reply.response()


async def awaited(request: Request, desk: Desk, job: Job) -> Any:
    """Wait for a job and take its result; a client that leaves cancels it.

    Raises:
        HTTPException: If it failed.
    """
    async for _ in job.follow(every=1.0):
        if await request.is_disconnected():
            desk.office.cancel(job)
    raise_failure(job)
    result, job.result = job.result, None
    return result


async def _order(request: Request) -> _Order:
    from retouch.web.documents import plain_name

    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            given = await request.json()
        except (ValueError, RecursionError):
            raise HTTPException(400, "the body is no JSON") from None
        body = checked(FillJson, given)
        options = FillOptions(**{k: getattr(body, k) for k in FillOptions.model_fields})
        image = _decoded(body.image, "image") or b""
        return _Order(
            options=options,
            image=image,
            alike=await asyncio.to_thread(_alike, options, image),
            mask=_decoded(body.mask, "mask"),
            labels=_decoded(body.labels, "labels"),
            name="filled",
        )
    form = await read_form(request)
    with _closing_on_error(form):
        image = needed(form, "image")
        options = fields(form, FillOptions, _FILES)
        return _Order(
            options=options,
            alike=await asyncio.to_thread(_alike, options, image),
            image=image,
            mask=upload(form, "mask"),
            labels=upload(form, "labels"),
            name=plain_name(image.filename).rpartition(".")[0],
            close=lambda: close(form),
        )


def _alike(options: FillOptions, image: UploadFile | bytes) -> Hashable:
    """What fills that are run together have in common: the network and the picture's size."""
    from PIL import Image

    stream = io.BytesIO(image) if isinstance(image, bytes) else image.file
    try:
        with Image.open(stream, formats=("JPEG", "PNG", "WEBP", "TIFF", "BMP")) as opened:
            return options.network, opened.size
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError):
        return None  # whoever reads it tells what is wrong


@contextmanager
def _closing_on_error(form: FormData) -> Iterator[None]:
    try:
        yield
    except BaseException:
        close(form)
        raise


def _decoded(text: str | None, name: str) -> bytes | None:
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(422, f"{name} is no base64") from None


def _fill(desk: Desk, order: _Order, job: Job, engine: Any) -> Reply:
    """In the worker: read, fill, write."""
    from retouch import pictures
    from retouch.pipeline.batch import resize_mask
    from retouch.pipeline.devices import OptionError
    from retouch.pipeline.options import FillOptions as CoreOptions
    from retouch.web import documents, labelmaps

    options, limit = order.options, desk.settings.max_pixels
    core = CoreOptions(dilate=options.dilate, feather=options.feather, seed=options.seed)
    with on_disk(order.image) as (path,):
        opened = documents.read(path, "the picture", limit)
    picture = opened.picture
    if order.mask is None:
        mask = pictures.mask_from_alpha(picture)
    else:
        with on_disk(order.mask) as (path,):
            mask = documents.read_mask(path, invert=options.invert_mask, max_pixels=limit)
    labels = None
    if order.labels is not None:
        inpainter = engine.inpainter(options.network)
        if not inpainter.card.labels:
            raise OptionError(f"network {inpainter.header.network!r} takes no label map")
        with on_disk(order.labels) as (path,):
            labels = labelmaps.read(path, inpainter.network.label_set, picture.size)
    if mask.shape != picture.size and options.resize_mask:
        mask = resize_mask(mask, picture.size)
    filled = engine.fill(job, picture, mask, options.network, core, labels)
    body, suffix = documents.encode(filled, opened.suffix, lossless=options.lossless)
    return Reply(body, suffix, order.name)


def _segment(desk: Desk, image: UploadFile, labels: str, engine: Any) -> Reply:
    from retouch.segmentation import label_set
    from retouch.web import documents, labelmaps

    with on_disk(image) as (path,):
        opened = documents.read(path, "the picture", desk.settings.max_pixels)
    found = engine.segment(opened.picture, labels)
    return Reply(labelmaps.write(found, label_set(labels)), ".png", "labels")
