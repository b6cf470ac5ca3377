"""Semantic editing: encode a picture and its holes once, then render any number of label maps."""

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retouch.pictures import Picture, PictureError
from retouch.pipeline import blocks, compositing, detail, devices, exemplar
from retouch.pipeline.compositing import Pixels
from retouch.pipeline.holes import Box, Mask
from retouch.pipeline.inpainter import Inpainter, OptionError
from retouch.pipeline.options import FillOptions
from retouch.pipeline.sizes import at_least, nearest, pad, reduce, shrink
from retouch.segmentation.labels import LabelSet

Labels = NDArray[np.uint8]
"""(h, w) classes of the label set; `UNKNOWN` guides nothing."""
UNKNOWN = 255


class Guided(Protocol):
    """What a network must offer to be edited by a label map."""

    label_set: LabelSet
    segmenter: nn.Module | None
    decoder: nn.Module | None

    def encode(self, image: Tensor, mask: Tensor) -> Any: ...
    def label(self, image: Tensor) -> Tensor: ...
    def decode(self, encoded: Any, labels: Tensor) -> Tensor: ...


@dataclass
class _Part:
    """One crop with its holes, encoded."""

    crop: Box
    image: Pixels
    mask: Mask
    small: Pixels
    small_mask: Mask
    encoded: Any
    labels: Labels | None = None
    fill: Pixels | None = None


class EditingSession:
    """The coarse fill, the proposed label map, and fills that obey edited maps.

    Args:
        inpainter: With a network that takes label maps.
        picture: Any size.
        mask: (h, w) True = hole.
        options: As for a fill; nothing is completed from patches: the map says what goes where.

    Raises:
        OptionError: If the network takes no label maps.
        PictureError: If picture and mask differ in size, or there is no hole.
    """

    def __init__(
        self,
        inpainter: Inpainter,
        picture: Picture,
        mask: Mask,
        options: FillOptions = FillOptions(),
    ) -> None:
        self._network: Guided = editable(inpainter)
        if mask.shape != picture.size:
            raise PictureError(f"the mask is {mask.shape}, the picture {picture.size} (h, w)")
        if not mask.any():
            raise PictureError("the mask is empty: paint over what should be edited")
        self._inpainter = inpainter
        self._options = options
        self.picture = picture
        self.mask = compositing.dilate(mask, options.dilate)
        found = inpainter.groups(picture, self.mask)
        self.box = found[0].crop
        for group in found[1:]:
            self.box = self.box.union(group.crop)
        self._parts = [self._encode(group.crop) for group in found]
        self.proposed = self._network.segmenter is not None
        """Whether `labels` comes from a segmenter; else it says nothing."""
        self.labels = self._propose()
        """(box.height, box.width) the proposed label map of `box`."""

    @property
    def label_set(self) -> LabelSet:
        """What the map speaks of."""
        return self._network.label_set

    @property
    def nbytes(self) -> int:
        """Roughly what the session holds beside the picture [byte]."""
        arrays = sum(part.image.nbytes * 3 + part.mask.nbytes for part in self._parts)
        tensors = sum(
            value.nbytes
            for part in self._parts
            for value in vars(part.encoded).values()
            if isinstance(value, Tensor)
        )
        return arrays + tensors + self.mask.nbytes

    def coarse(self) -> Picture:
        """Return the picture with the first stage's own fill."""
        result = self.picture
        for part in self._parts:
            fill = self._back(part.encoded.coarse, part)
            result = self._put(result, part, fill)
        return result

    def render(self, labels: Labels | None = None) -> Picture:
        """Return the picture filled as a label map says; only changed crops are decoded again.

        Args:
            labels: (box.height, box.width); None takes the proposal.

        Raises:
            PictureError: If the map has another size.
        """
        labels = self.labels if labels is None else labels
        if labels.shape != (self.box.height, self.box.width):
            raise PictureError(
                f"the label map is {labels.shape[1]}x{labels.shape[0]} px, it must be"
                f" {self.box.width}x{self.box.height} px"
            )
        result = self.picture
        for part in self._parts:
            wanted = labels[self._inside(part.crop)]
            if part.fill is None or part.labels is None or not np.array_equal(wanted, part.labels):
                part.fill = self._decode(part, wanted)
                part.labels = wanted.copy()
            result = self._put(result, part, part.fill)
        return result

    def _inside(self, crop: Box) -> tuple[slice, slice]:
        return crop.within(self.box).slices

    @torch.inference_mode()
    def _encode(self, crop: Box) -> _Part:
        image = blocks.View(self.picture, crop)(Box(0, 0, crop.height, crop.width))
        mask = self.mask[crop.slices].copy()
        size = self._size(mask)
        small, small_mask = (image, mask) if size == mask.shape else shrink(image, mask, size)
        x = self._tensor(small)
        holes = self._tensor(small_mask[..., None].astype(np.float32))
        with devices.autocast(self._inpainter.device, self._inpainter.bf16):
            encoded = self._network.encode(x, holes)
        return _Part(crop, image, mask, small, small_mask, encoded)

    def _size(self, mask: Mask) -> tuple[int, int]:
        """Size at which the network sees a crop: its own, or the network's one."""
        card = self._inpainter.card
        h, w = at_least((mask.shape[0], mask.shape[1]), card.fixed_size or 1)
        scale = max(1.0, max(h, w) / (card.fixed_size or card.working_size))
        return max(1, round(h / scale)), max(1, round(w / scale))

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None]
        amount = self._inpainter.padding(*array.shape[:2])
        return pad(x.to(self._inpainter.device), amount)

    @torch.inference_mode()
    def _propose(self) -> Labels:
        labels = np.full((self.box.height, self.box.width), UNKNOWN, np.uint8)
        if not self.proposed:
            return labels
        for part in self._parts:
            image, holes = self._tensor(part.small), self._tensor(part.small_mask[..., None] * 1.0)
            guess = self._network.label(
                torch.where(holes > 0, part.encoded.coarse.float(), image).float()
            )
            h, w = part.small_mask.shape
            found = guess[0, :h, :w].cpu().numpy().astype(np.uint8)
            labels[self._inside(part.crop)] = nearest(found, part.mask.shape)
        return labels

    @torch.inference_mode()
    def _decode(self, part: _Part, labels: Labels) -> Pixels:
        small = nearest(labels, part.small_mask.shape)
        guide = self._tensor(small[..., None].astype(np.float32))[:, 0].long()
        with devices.autocast(self._inpainter.device, self._inpainter.bf16):
            return self._back(self._network.decode(part.encoded, guide), part)

    def _back(self, prediction: Tensor, part: _Part) -> Pixels:
        """Bring a network's picture to its crop: cut, with detail, no step at the rim."""
        h, w = part.small_mask.shape
        fill = prediction[0, :, :h, :w].float().permute(1, 2, 0).clamp(0, 1).cpu().numpy()
        enlarged = h * w > part.mask.size
        if enlarged:
            fill = reduce(fill, part.mask.shape)
        if self._options.refine and enlarged:
            fill = exemplar.refine(fill, part.image, part.mask)
        elif self._options.refine:
            fill = exemplar.refine(fill, part.small, part.small_mask)
        if h * w < part.mask.size:
            composite = np.where(part.small_mask[..., None], fill, part.small)
            fill = detail.transfer(composite, part.small_mask, part.image)(
                Box(0, 0, *part.mask.shape)
            )
        at = part.crop.top, part.crop.left
        fill = compositing.match_rim(fill, part.image, part.mask, at=at)
        return compositing.feather(fill, part.image, part.mask, self._options.feather)

    def _put(self, picture: Picture, part: _Part, fill: Pixels) -> Picture:
        crop = part.crop
        return picture.replace(
            fill, part.mask, top=crop.top, left=crop.left, copy=picture is self.picture
        )


def editable(inpainter: Inpainter) -> Any:
    """Return the network of an inpainter that obeys label maps.

    Raises:
        OptionError: If it does not; the message says so plainly.
    """
    network = inpainter.network
    if not inpainter.card.labels or getattr(network, "decoder", None) is None:
        raise OptionError(
            f"network {inpainter.header.network!r} has no labels to edit; choose one that takes"
            " label maps (semantic)"
        )
    return network


@torch.inference_mode()
def segment(network: nn.Module, picture: Picture, side: int = 512) -> Labels:
    """Label every pixel of a picture.

    Args:
        network: A segmentation network.
        picture: Any size; it is seen at `side` px on its longer side.
        side: [px].

    Returns:
        (h, w) classes.
    """
    h, w = picture.size
    scale = side / max(h, w)
    size = (max(32, round(w * scale / 32) * 32), max(32, round(h * scale / 32) * 32))
    image = np.array(picture.rgb, order="C")
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, size, interpolation=method).astype(np.float32) / picture.white
    x = torch.from_numpy(small).permute(2, 0, 1)[None]
    device = next(network.parameters()).device
    labels = network(x.to(device)).argmax(1)[0].cpu().numpy().astype(np.uint8)
    return nearest(labels, (h, w))
