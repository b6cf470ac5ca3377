"""Select the thing that was clicked on, with MobileSAM: encode a picture once, then click.

The network sees a picture at 1024 px. A thing that is small in a large picture is therefore looked
at once more, in a crop of its own, with the first mask and its box as prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retouch.pictures import Picture, PictureError
from retouch.pipeline import devices
from retouch.pipeline.holes import Box, Mask
from retouch.segmentation.mobilesam import (
    BESIDE,
    BOTTOM_RIGHT,
    INSIDE,
    OFFICIAL,
    TOP_LEFT,
    MobileSAM,
    MobileSAMConfig,
)
from retouch.weights import files, official, store

WEIGHTS = "mobile-sam"
"""Its name in the weight store."""
_NEARLY = 0.02
"""Of masks whose expected IoU is so near to the best, the largest is taken: people mean things, not
parts of them."""
_SPECK = 0.002
"""Islands and gaps of less than this share of the thing are noise."""
_CLOSER = 0.6
"""A crop is looked at once more if its side is less than this share of what was seen."""
_AGREED = 0.6
"""IoU that the closer look must have with the first, else the first one counts."""
_VIEWS = 4
"""Views that are kept of one picture."""

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Click:
    """In the thing, or beside it."""

    x: int
    y: int
    inside: bool = True


@dataclass(frozen=True, kw_only=True)
class View:
    """An encoded part of a picture."""

    box: Box
    scale: float
    """Encoded pixels per pixel of the picture."""
    embedding: Tensor


@dataclass(frozen=True)
class Scene:
    """What was encoded of one picture: the whole first, then crops round small things."""

    size: tuple[int, int]
    """(h, w) of the picture."""
    views: list[View] = field(default_factory=list[View])

    @property
    def nbytes(self) -> int:
        """What it takes [byte]."""
        return sum(view.embedding.nbytes for view in self.views)


class Selector:
    """Finds things by clicks.

    Args:
        network: MobileSAM.
        device: `auto`, `cpu`, `cuda`, `mps`.
    """

    def __init__(self, network: MobileSAM, device: str = "auto") -> None:
        self.device = devices.choose(device)
        self.network = network.eval().requires_grad_(False).to(self.device)

    @classmethod
    def load(cls, device: str = "auto") -> "Selector":
        """Load MobileSAM from the weight store.

        Raises:
            MissingWeightsError: If the store does not hold it; the message says where to get it.
            WeightsError: If the file is something else.
        """
        path = store.path(WEIGHTS)
        state = {key: torch.as_tensor(value) for key, value in official.read(path).items()}
        if not OFFICIAL.recognise(state):
            raise files.WeightsError(f"{path} is not {OFFICIAL.what}")
        config, state = OFFICIAL.convert(state)
        network = MobileSAM(MobileSAMConfig(**config))
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise files.WeightsError(f"{path} does not fit MobileSAM: {error}") from None
        return cls(network, device)

    def scene(self, picture: Picture) -> Scene:
        """Encode a picture; every `select` on it is then quick."""
        whole = Box(0, 0, picture.height, picture.width)
        return Scene(picture.size, [self._look(picture, whole)])

    @torch.inference_mode()
    def select(self, scene: Scene, picture: Picture, clicks: Sequence[Click]) -> Mask:
        """Find the thing.

        Args:
            scene: Of this picture; it may come to hold another view.
            picture: Any size.
            clicks: In the order in which they were made, at least one inside the thing.

        Returns:
            (h, w), True = the thing.

        Raises:
            PictureError: If no click is inside, or one is outside the picture.
        """
        check(scene.size, clicks)
        whole = scene.views[0]
        coarse = self._first(whole, clicks)
        thing = np.zeros(scene.size, bool)
        box = _box(coarse, whole)
        if box is None:
            return thing
        view = self._closer(scene, picture, box)
        found = coarse
        if view is not None:
            found = self._again(view, whole, coarse, clicks, box)
            before, after = _at(coarse, whole, view.box) > 0, _at(found, view, view.box) > 0
            agreed = (before & after).sum() / max(1, (before | after).sum())
            if agreed < _AGREED:
                found, view = coarse, None
        view = view or whole
        box = _box(found, view)
        if box is not None:
            thing[box.slices] = _clean(_at(found, view, box) > 0)
        return thing

    @torch.inference_mode()
    def _look(self, picture: Picture, box: Box) -> View:
        part = picture.crop(box.top, box.left, box.height, box.width)
        side = self.network.config.side
        scale = side / max(box.height, box.width)
        size = (max(1, round(box.width * scale)), max(1, round(box.height * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(np.ascontiguousarray(part), size, interpolation=method)
        x = torch.from_numpy(small.astype(np.float32) / picture.white).permute(2, 0, 1)[None]
        return View(box=box, scale=scale, embedding=self.network.encode(x.to(self.device)))

    def _first(self, view: View, clicks: Sequence[Click]) -> Logits:
        """One click is ambiguous: choose among its masks. The others refine that one."""
        first = next(click for click in clicks if click.inside)
        guesses = self.network.decode(view.embedding, *self._prompts(view, [first]))
        quality = guesses.quality[0, 1:]
        areas = (guesses.logits[0, 1:] > 0).sum((1, 2))
        good = quality >= quality.max() - _NEARLY
        chosen = guesses.logits[:, 1:][:, torch.where(good, areas, -1).argmax()][:, None]
        if len(clicks) > 1:
            prompts = self._prompts(view, clicks)
            chosen = self.network.decode(view.embedding, *prompts, chosen).logits[:, :1]
        return chosen[0, 0].float().cpu().numpy()

    def _again(
        self, view: View, whole: View, coarse: Logits, clicks: Sequence[Click], box: Box
    ) -> Logits:
        """Decode the same thing in a crop: its clicks, its box and its mask are the prompts."""
        side = self.network.config.side // 4
        step = 4 / view.scale
        grid = Box(view.box.top, view.box.left, side, side)
        earlier = torch.from_numpy(_at(coarse, whole, grid, step))[None, None].to(self.device)
        inside = [click for click in clicks if _holds(view.box, click)]
        places, kinds = self._prompts(view, inside)
        corners = [Click(box.left, box.top), Click(box.right - 1, box.bottom - 1)]
        places = torch.cat([places, self._prompts(view, corners)[0]], dim=1)
        kinds = torch.cat([kinds, kinds.new_tensor([[TOP_LEFT, BOTTOM_RIGHT]])], dim=1)
        guesses = self.network.decode(view.embedding, places, kinds, earlier)
        return guesses.logits[0, 0].float().cpu().numpy()

    def _prompts(self, view: View, clicks: Sequence[Click]) -> tuple[Tensor, Tensor]:
        """Places (1, n, 2) in the encoded picture, and kinds (1, n)."""
        corner = np.array([view.box.left, view.box.top])
        places = np.array([(click.x, click.y) for click in clicks], float).reshape(-1, 2)
        places = (places - corner + 0.5) * view.scale - 0.5
        kinds = [[INSIDE if click.inside else BESIDE for click in clicks]]
        return (
            torch.from_numpy(places.astype(np.float32))[None].to(self.device),
            torch.tensor(kinds, dtype=torch.int64, device=self.device),
        )

    def _closer(self, scene: Scene, picture: Picture, box: Box) -> View | None:
        """A view in which a thing is large, if the whole picture shows it too small."""
        if scene.views[0].scale >= _CLOSER:
            return None
        for view in scene.views[1:]:
            sides = max(view.box.height, view.box.width), max(box.height, box.width)
            if _contains(view.box, box) and sides[0] <= 2.5 * sides[1]:
                return view
        margin = max(16, max(box.height, box.width) // 4)
        crop = box.grown(margin, scene.size)
        if max(crop.height, crop.width) > _CLOSER * max(scene.size):
            return None
        view = self._look(picture, crop)
        scene.views.append(view)
        if len(scene.views) > _VIEWS:
            del scene.views[1]
        return view


def check(size: tuple[int, int], clicks: Sequence[Click]) -> None:
    """Refuse clicks that cannot be meant.

    Raises:
        PictureError: If no click is inside the thing, or one is outside the picture.
    """
    if any(not _holds(Box(0, 0, *size), click) for click in clicks):
        raise PictureError("a click lies outside the picture")
    if not any(click.inside for click in clicks):
        raise PictureError("click on the thing first")


def _holds(box: Box, click: Click) -> bool:
    return box.top <= click.y < box.bottom and box.left <= click.x < box.right


def _contains(outer: Box, inner: Box) -> bool:
    return (
        outer.top <= inner.top
        and outer.left <= inner.left
        and outer.bottom >= inner.bottom
        and outer.right >= inner.right
    )


def _box(logits: Logits, view: View) -> Box | None:
    """The part of the picture that a mask of a view covers, a little wider; None if none."""
    rows, columns = (np.flatnonzero((logits > 0).any(axis=axis)) for axis in (1, 0))
    step = 4 / view.scale
    size = (view.box.bottom, view.box.right)
    if not len(rows):
        return None
    top, bottom = view.box.top + (rows[0] - 1) * step, view.box.top + (rows[-1] + 2) * step
    left, right = view.box.left + (columns[0] - 1) * step, view.box.left + (columns[-1] + 2) * step
    top, left = max(view.box.top, int(top)), max(view.box.left, int(left))
    bottom, right = min(size[0], int(np.ceil(bottom))), min(size[1], int(np.ceil(right)))
    if bottom <= top or right <= left:  # the mask lies in the padding
        return None
    return Box(top, left, bottom - top, right - left)


def _at(logits: Logits, view: View, box: Box, step: float = 1.0) -> Logits:
    """Sample the logits of a view on a grid of the picture.

    Args:
        logits: (side/4, side/4).
        view: Where they are from.
        box: Corner of the grid [px], and its height and width [samples].
        step: From sample to sample [px].
    """
    scale = view.scale / 4
    shift = np.array([box.left - view.box.left, box.top - view.box.top]) + 0.5 * step
    shift = shift * scale - 0.5
    matrix = np.array([[step * scale, 0, shift[0]], [0, step * scale, shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (box.width, box.height)
    found = cv2.warpAffine(logits, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return found.astype(np.float32)


def _clean(thing: Mask) -> Mask:
    """Take small islands away and close small gaps."""
    smallest = max(1.0, _SPECK * float(thing.sum()))
    for value in (True, False):
        count, parts, stats, _ = cv2.connectedComponentsWithStats(
            (thing == value).view(np.uint8), connectivity=4 if value else 8
        )
        small = np.flatnonzero(stats[:count, cv2.CC_STAT_AREA] < smallest)
        small = small[small > 0]
        if len(small):
            thing = np.where(np.isin(parts, small), not value, thing)
    return thing
