"""What clients send and get, for checking and for the OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Options(_Strict):
    """How holes are filled."""

    network: str | None = Field(None, max_length=200, description="One of /models; null: default.")
    dilate: int = Field(0, ge=0, le=256, description="Widen the holes first [px].")
    feather: int = Field(0, ge=0, le=256, description="Fade in over so many of them [px].")
    seed: int = Field(0, ge=0, lt=2**63, description="For networks that draw random numbers.")


class FillOptions(Options):
    """How a picture sent with its mask is filled and returned."""

    invert_mask: bool = Field(False, description="Black is what goes.")
    resize_mask: bool = Field(False, description="Bring a mask of another size to the picture's.")
    lossless: bool = Field(False, description="PNG where the picture's own format loses.")


class FillJson(FillOptions):
    """A fill as JSON."""

    image: str = Field(description="The picture file, base64.")
    mask: str | None = Field(None, description="The mask file, base64; null: the transparent part.")
    labels: str | None = Field(None, description="A label map (PNG), base64.")


class PartialFill(Options):
    """Fill a part of an open picture."""

    top: int = Field(0, ge=0, description="Row where the mask begins [px].")
    left: int = Field(0, ge=0, description="Column where the mask begins [px].")
    patches: list[str] = Field([], max_length=100_000, description="Fills to begin with, in order.")


class SessionOptions(PartialFill):
    """Begin semantic editing of an open picture."""

    picture: str = Field(max_length=100, description="Key of an open picture.")


class State(_Strict):
    """A state of an open picture."""

    patches: list[str] = Field([], max_length=100_000, description="Fills in order.")


class SaveOptions(State):
    """How an open picture is saved."""

    lossless: bool = False
    format: Literal["own", "png"] = "own"


class Replay(_Strict):
    """Where a fill lies that the page brings back."""

    top: int = Field(ge=0)
    left: int = Field(ge=0)


class Point(_Strict):
    """A click: in the thing, or beside it."""

    x: int = Field(ge=0)
    y: int = Field(ge=0)
    inside: bool = True


class Selection(State):
    """Find the thing that was clicked on."""

    picture: str = Field(max_length=100, description="Key of an open picture.")
    points: list[Point] = Field(min_length=1, max_length=200)


class Detail(BaseModel):
    """Why a request was refused."""

    detail: Any


class LabelSetOut(BaseModel):
    """Classes by position."""

    name: str
    names: list[str]
    colors: list[list[int]]


class ModelOut(BaseModel):
    """Weights that can be asked for."""

    name: str
    network: str
    paper: str
    license: str
    data: list[str]
    working_size: int
    default: bool
    labels: LabelSetOut | None


class PictureOut(BaseModel):
    """An open picture."""

    picture: str = Field(description="Its key.")
    name: str
    width: int
    height: int
    format: str
    bits: int
    orientation: int = Field(description="EXIF orientation that was applied [1, 8].")


class PatchOut(BaseModel):
    """A fill of an open picture."""

    patch: str
    top: int
    left: int
    width: int
    height: int
    url: str


class SessionOut(BaseModel):
    """A semantic editing session."""

    session: str
    top: int
    left: int
    width: int
    height: int
    proposed: bool = Field(description="Whether a network has labelled the picture.")
    advice: str | None = Field(description="If not: how it comes that one does.")
    label_set: LabelSetOut
    labels: str = Field(description="Address of the proposed map, an indexed PNG.")
    coarse: PatchOut = Field(description="What the first stage fills, before any labels.")
    patch: PatchOut


class JobOut(BaseModel):
    """A job and where to follow it."""

    job: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: float = Field(ge=0, le=1)
    position: int = Field(description="Jobs waiting before it.")
    seconds: float
    error: str | None
    events: str = Field(description="Server-sent events.")
    result: str | None = Field(description="Address of the result once it is there.")
    value: PatchOut | SessionOut | None = None


class Health(BaseModel):
    """Whether work can be taken."""

    status: Literal["ready", "loading", "broken"]
    detail: str | None = None
    version: str
    waiting: int


class OfferedItem(BaseModel):
    """A picture named on the command line."""

    index: int
    name: str
    saved: bool


class Offered(BaseModel):
    """Pictures named on the command line."""

    pictures: list[OfferedItem]
    output: str | None = Field(description="Name of the folder that they are saved to.")
