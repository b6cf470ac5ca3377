"""Frames what is filled as a network's training pictures are framed: a face whole, in the middle.

A network of one size learned where in its picture things are. With a crop round the hole alone it
puts eyes where its training pictures had them. So the crop is the square round the hole in which
the labels of the known pixels lie most as in those pictures (`retouch.segmentation.layouts`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from retouch.pictures import Picture
from retouch.pictures.picture import notice
from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Box, Group, Mask, groups
from retouch.pipeline.sizes import pad, reduce
from retouch.segmentation.layouts import layout

_SIDE = 192
"""Side at which frames are looked at [px]."""
_MULTIPLE = 32
"""Sides that a segmenter takes are multiples of this [px]."""
_SMALLEST = 48
"""Side of the smallest frame [px]."""
_LEAST = 1.8
"""How many times larger than its holes a frame is at least: something must be known of it."""
_STEP = 1.2
"""A frame is so many times larger than the next."""
_FINER = (0.94, 1.06)
"""What is tried beside the best of those."""
_WHOLE = 0.9
"""A frame that is so nearly as large as the picture is the picture: somebody has framed it."""
_FILLED = 0.35
"""Share of a frame that is more than background; faces have 0.4 to 0.8, scenes 0.1 to 0.25."""


def framed(network: Any, picture: Picture, mask: Mask, side: int) -> list[Group]:
    """Group the holes of a picture for a network of one size.

    Args:
        network: If it has a segmenter and its label set a layout, the crops are frames.
        picture: Any size; what is under the mask is ignored.
        mask: (h, w) True = hole.
        side: The network's [px]; a crop is at least so large if there is no frame.
    """
    found: list[Group] = []
    for group in groups(mask, side):
        whole = next((n for n, other in enumerate(found) if _inside(group, other)), None)
        if whole is not None:
            found[whole] = Group(found[whole].holes.union(group.holes), found[whole].crop)
            continue
        frame = find(network, picture, mask, group.holes)
        if frame is None and _expected(network) is not None:
            kind = network.label_set.name
            notice(
                f"the network knows {kind}, none was found round a hole: the fill may not belong"
            )
        found.append(Group(group.holes, frame or _square(group.crop, side, mask.shape)))
    return found


def _expected(network: Any) -> NDArray[np.float32] | None:
    """The layout of a network's training pictures, if there is a segmenter to compare with it."""
    if getattr(network, "segmenter", None) is None:
        return None
    return layout(network.label_set.name)


def _inside(group: Group, other: Group) -> bool:
    return group.holes.union(other.crop) == other.crop


def _square(crop: Box, side: int, size: tuple[int, ...]) -> Box:
    """Grow a crop to a side where the picture has room for it."""
    top, height = _grown(crop.top, crop.height, side, size[0])
    left, width = _grown(crop.left, crop.width, side, size[1])
    return Box(top, left, height, width)


def _grown(start: int, length: int, wanted: int, whole: int) -> tuple[int, int]:
    """Begin and length of a stretch that is made longer within a whole."""
    longer = max(length, min(wanted, whole))
    return min(max(0, start - (longer - length) // 2), whole - longer), longer


def find(network: Any, picture: Picture, mask: Mask, holes: Box) -> Box | None:
    """Find the square round some holes that is framed as the network's training pictures are.

    Args:
        network: With `segmenter` and `label_set`.
        picture: Any size.
        mask: (h, w) True = hole.
        holes: Round the holes that are filled together.

    Returns:
        A square inside the picture; None if there is none, or the network has no way to know.
    """
    expected = _expected(network)
    if expected is None:
        return None
    segmenter: nn.Module = network.segmenter
    device = next(segmenter.parameters(), torch.empty(0)).device
    search = _Search(segmenter, torch.from_numpy(expected).to(device), picture, mask, holes)
    largest = min(mask.shape)
    smallest = max(_SMALLEST, round(_LEAST * max(holes.height, holes.width)))
    if max(holes.height, holes.width) > largest:
        return None
    looks = [search.look(side) for side in _sides(largest, smallest)]
    best = max(looks, key=_certainty)
    sides = [round(best.box.width * factor) for factor in _FINER]
    finer = [search.look(side) for side in sides if smallest <= side <= largest]
    best = max([best, *finer], key=_certainty)
    found = best.score > 0 and best.filled > _FILLED
    if found and best.box.width < _WHOLE * largest:
        return best.box
    close = looks[0].filled > _FILLED  # too close to have a frame
    return looks[0].box if found or close else None


@dataclass(frozen=True)
class _Look:
    """The best frame of a side."""

    box: Box
    score: float
    """Mean over its known pixels of the log-likelihood ratio of their labels [nat]."""
    known: float
    """How many pixels that are [px]."""
    filled: float
    """Share of them that is not of the set's first class, background."""


def _certainty(look: _Look) -> float:
    """Rate frames of unlike sides: a small one round a large hole is easily right by chance."""
    return look.score * look.known**0.7


@dataclass(frozen=True)
class _Search:
    """Looks for frames round some holes of a picture."""

    segmenter: nn.Module
    template: Tensor
    """(classes, t, t) log-likelihood ratios of a framed picture's labels [nat]."""
    picture: Picture
    mask: Mask
    holes: Box

    @torch.inference_mode()
    def look(self, side: int) -> _Look:
        """Rate every frame of a side [px] that holds the holes."""
        part = _around(self.holes, side, self.mask.shape)
        seen, known = _small(self.picture, self.mask, part, _SIDE / side)
        known = known.to(self.template.device)
        height, width = seen.shape[-2:]
        padded = pad(seen.to(self.template.device), (-height % _MULTIPLE, -width % _MULTIPLE))
        logits = self.segmenter(padded)[..., :height, :width]
        probabilities = logits.float().softmax(1) * known
        cell = _SIDE // self.template.shape[-1]
        labels, weight = (functional.avg_pool2d(x, cell) for x in (probabilities, known))
        ones = torch.ones_like(self.template[None, :1])
        sums = functional.conv2d(labels, self.template[None])[0, 0]
        counts, background = (
            functional.conv2d(x, ones)[0, 0].clamp(min=1e-6) for x in (weight, labels[:, :1])
        )
        scores = sums / counts
        row, column = divmod(int(scores.argmax()), scores.shape[1])
        top = round(row / max(1, scores.shape[0] - 1) * (part.height - side))
        left = round(column / max(1, scores.shape[1] - 1) * (part.width - side))
        return _Look(
            box=Box(part.top + top, part.left + left, side, side),
            score=float(scores[row, column]),
            known=float(counts[row, column]) * (side / self.template.shape[-1]) ** 2,
            filled=float(1 - background[row, column] / counts[row, column]),
        )


def _sides(largest: int, smallest: int) -> Iterator[int]:
    yield largest
    side = largest / _STEP
    while side >= smallest:
        yield round(side)
        side /= _STEP


def _around(holes: Box, side: int, size: tuple[int, ...]) -> Box:
    """Where frames of a side can lie that hold the holes."""
    top, left = max(0, holes.bottom - side), max(0, holes.right - side)
    bottom, right = min(size[0], holes.top + side), min(size[1], holes.left + side)
    return Box(top, left, bottom - top, right - left)


def _small(picture: Picture, mask: Mask, part: Box, scale: float) -> tuple[Tensor, Tensor]:
    """Bring a part of a picture to another scale.

    Returns:
        It with its holes filled smoothly (1, 3, h, w) in [0, 1], what is known (1, 1, h, w).
    """
    step = max(1, int(0.5 / scale))  # every n-th pixel will do, and no array is large
    hole = mask[part.slices][::step, ::step]
    samples = picture.rgb[part.slices][::step, ::step]
    seen = smooth(np.divide(samples, picture.white, dtype=np.float32), hole)
    size = max(_SIDE, round(part.width * scale)), max(_SIDE, round(part.height * scale))
    method = cv2.INTER_AREA if scale * step < 1 else cv2.INTER_LINEAR
    image = cv2.resize(seen, size, interpolation=method)
    known = cv2.resize((~hole).astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    return torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(known)[None, None]


def smooth(image: Pixels, mask: Mask) -> Pixels:
    """Fill holes with what is around them, the deeper the smoother.

    Args:
        image: (h, w, 3) in [0, 1]; what is under the mask is ignored.
        mask: (h, w) True = hole.
    """
    weight = (~mask).astype(np.float32)
    return _smooth(image * weight[..., None], weight)


def _smooth(sums: Pixels, weight: NDArray[np.float32]) -> Pixels:
    known = np.asarray(sums / np.maximum(weight, 1e-6)[..., None], np.float32)
    if weight.all() or min(weight.shape) == 1:
        return known
    size = ((weight.shape[0] + 1) // 2, (weight.shape[1] + 1) // 2)
    deeper = _smooth(reduce(sums, size), reduce(weight, size))
    deeper = cv2.resize(deeper, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.where(weight[..., None] > 0, known, deeper), np.float32)
