"""What all routes share: the queue, the shelf, and how bodies are read and errors told."""

import asyncio
import io
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile

from retouch.web.jobs import FullError, Job, Office, Slot
from retouch.web.metrics import Metrics
from retouch.web.schema import JobOut
from retouch.web.sessions import Shelf
from retouch.web.settings import Settings

API = "/api/v1"
M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")
_DECODERS = 2
"""Pictures that are read or written beside the workers at the same time."""


@dataclass(eq=False)
class Desk:
    """The server's state."""

    settings: Settings
    office: Office
    shelf: Shelf
    metrics: Metrics = field(default_factory=Metrics)
    decoders: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_DECODERS))

    def slot(self) -> Slot:
        """Take a place in the queue.

        Raises:
            HTTPException: 429 if it is full, 503 if nothing can be filled.
        """
        try:
            return self.office.slot()
        except FullError as error:
            headers = {"Retry-After": str(error.wait)}
            raise HTTPException(429, "the queue is full; try again", headers) from None

    async def decoding(self, work: Callable[..., R], *arguments: Any) -> R:
        """Read or write a picture in a thread; few at a time.

        Raises:
            HTTPException: 422 with one line if the picture cannot be used.
        """
        from retouch.pictures import PictureError  # slow to import: the page comes first

        async with self.decoders:
            try:
                return await asyncio.to_thread(work, *arguments)
            except PictureError as error:
                raise HTTPException(422, str(error)) from None
            except MemoryError:
                raise HTTPException(413, "not enough memory for this picture") from None


def desk_of(request: Request) -> Desk:
    """Return the server's state."""
    return request.app.state.desk


def job_out(job: Job, desk: Desk) -> JobOut:
    """Describe a job."""
    value = job.result if isinstance(job.result, BaseModel) else None
    here = f"{API}/jobs/{job.key}"
    return JobOut.model_validate(
        {
            "job": job.key,
            "kind": job.kind,
            "state": job.state,
            "progress": job.progress,
            "position": desk.office.position(job),
            "seconds": job.seconds,
            "error": job.error,
            "events": f"{here}/events",
            "result": f"{here}/result" if job.state == "done" else None,
            "value": None if value is None else value.model_dump(),
        }
    )


def raise_failure(job: Job) -> None:
    """Tell why a job that was waited for has no result.

    Raises:
        HTTPException: 422 for the client's mistakes, 503 else.
    """
    if job.state == "failed":
        raise HTTPException(422 if job.mistake else 503, job.error)
    if job.state == "cancelled":
        raise HTTPException(503, "the job was cancelled")


async def read_form(request: Request) -> FormData:
    """Read a multipart body.

    Raises:
        HTTPException: 415 if it is none, 400 if it is broken.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise HTTPException(415, "the body must be multipart/form-data")
    try:
        return await request.form(max_files=4, max_fields=40, max_part_size=1 << 20)
    except (ValueError, KeyError, UnicodeDecodeError):
        raise HTTPException(400, "the multipart body is broken") from None


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """Read a multipart body and close its files at the end; see `read_form`."""
    form = await read_form(request)
    try:
        yield form
    finally:
        close(form)


def close(form: FormData) -> None:
    """Close the files of a form."""
    for _, value in form.multi_items():
        if isinstance(value, UploadFile):
            value.file.close()


def fields(form: FormData, model: type[M], files: tuple[str, ...]) -> M:
    """Check the plain fields of a form; lists come as JSON.

    Raises:
        RequestValidationError: 422 that names each wrong field.
    """
    given: dict[str, Any] = {}
    for key, value in form.multi_items():
        if isinstance(value, str) and key not in files:
            given[key] = value
    for name in ("patches",):
        if name in given:
            given[name] = _list(given[name])
    return checked(model, given)


def checked(model: type[M], given: Any) -> M:
    """Check values.

    Raises:
        RequestValidationError: 422 that names each wrong one.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(problems) from None


def upload(form: FormData, name: str) -> UploadFile | None:
    """Return a file of a form."""
    value = form.get(name)
    return value if isinstance(value, UploadFile) and value.size else None


def needed(form: FormData, name: str) -> UploadFile:
    """Return a file that must be there.

    Raises:
        HTTPException: 422 if it is not.
    """
    found = upload(form, name)
    if found is None:
        raise HTTPException(422, f"the file {name!r} is missing or empty")
    return found


@contextmanager
def on_disk(*uploads: UploadFile | bytes) -> Iterator[tuple[Path, ...]]:
    """Lay uploads down as files with names of our own for as long as they are read."""
    from retouch.pictures.formats import EXTENSIONS, recognise

    with tempfile.TemporaryDirectory(prefix="retouch-") as folder:
        paths: list[Path] = []
        for index, source in enumerate(uploads):
            path = Path(folder) / f"upload{index}"
            stream = io.BytesIO(source) if isinstance(source, bytes) else source.file
            stream.seek(0)
            kind = recognise(stream.read(64))  # what it is decides, not what it is called
            path = path.with_suffix(next((s for s, k in EXTENSIONS.items() if k == kind), ""))
            stream.seek(0)
            with path.open("wb") as target:
                shutil.copyfileobj(stream, target, 1 << 20)
            paths.append(path)
        yield tuple(paths)


def _list(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text
