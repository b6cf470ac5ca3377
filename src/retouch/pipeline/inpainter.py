"""The one door: a network with its weights, ready for pictures of any size."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retouch import models
from retouch.pictures import Picture, PictureError
from retouch.pipeline import (
    blocks,
    completion,
    compositing,
    detail,
    devices,
    door,
    exemplar,
    framing,
    openvino,
    sizes,
    tiles,
)
from retouch.pipeline.compositing import Pixels
from retouch.pipeline.devices import OptionError, Precision
from retouch.pipeline.door import AnyMask, AnyPicture
from retouch.pipeline.holes import Box, Group, Mask, groups, thickness
from retouch.pipeline.options import FillOptions
from retouch.weights import files, named

_SMALLEST = 64
"""A crop is not made smaller than this, however thick its hole [px]."""
_FELT = 80
"""How much farther than holes are thick local networks look: docs/speed.md, "Wires" [px]."""
_RIM, _MIDDLE = 1.6, 0.8
"""What `reach` is to the fills of rim and middle of a hole that is thicker, see `Card.rim`."""
_TOGETHER = 256 * 256
"""Pixels up to which a crop and its mirror image are one batch on a CPU."""


@dataclass(frozen=True)
class _Crop:
    """What is filled at once."""

    read: Callable[[Box], Pixels]
    """Reads a box of the picture, (height, width, 3) in [0, 1]."""
    mask: Mask
    labels: NDArray[np.uint8] | None
    refine: bool

    @property
    def whole(self) -> Box:
        return Box(0, 0, *self.mask.shape)

    @property
    def large(self) -> bool:
        """Whether it is read box by box, never as a whole."""
        return self.mask.size > blocks.LARGEST


class Inpainter:
    """Fills holes of pictures with one network.

    Args:
        network: Of the kind that the header names; a copy of it is prepared and kept.
        header: What its weight file says.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, `mps`; `openvino` for
            the CPU through OpenVINO, which computes faster after a slower start.
        precision: `bf16` is twice as fast where the processor computes in it; `auto` uses it there.

    Raises:
        OptionError: If the network does not inpaint, or there is no such device.
    """

    def __init__(
        self,
        network: nn.Module,
        header: files.Header,
        *,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> None:
        if header.network not in models.names():
            raise OptionError(f"{header.name} proposes label maps, it does not fill pictures")
        if header.config.get("task", "inpaint") != "inpaint":
            raise OptionError(f"{header.name} is for deblurring: retouch deblur PICTURE")
        self.header = header
        self.card = models.card(header.network)
        self.device = devices.choose(device)
        self.bf16 = devices.computes_in_bf16(self.device, precision)
        self.network = devices.prepare(network, self.device, bf16=self.bf16)
        working = self.card.fixed_size or self.card.working_size
        learned = header.reach or self.card.reach
        self.reach = learned or working / 2
        """Thickest hole that is filled at full size [px]."""
        self.rim = self.card.rim and learned is not None
        self.patches = self.rim or self.card.patches
        self.context = self.card.context(getattr(network, "config", None))
        """How far a pixel of a fill can feel the picture [px]; None: the network is not local."""
        self.passes: Callable[..., Tensor] = self._by_torch
        """What computes predictions: what the network takes and gives."""
        if device == openvino.NAME:
            self.passes = openvino.OpenVINO(network, self.card, bf16=self.bf16)

    @classmethod
    def load(
        cls,
        name: str | Path = named.DEFAULT,
        *,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> "Inpainter":
        """Load weights by file (a `Path`), by their name or by a network's name.

        Raises:
            WeightsError: If there are none, or they do not fit their network.
            OptionError: If there is no such device.
        """
        header, network = named.load(name)
        return cls(network, header, device=device, precision=precision)

    def fill(
        self,
        picture: AnyPicture,
        mask: AnyMask,
        *,
        dilate: int = 0,
        feather: int = 0,
        seed: int = 0,
        refine: bool = True,
        labels: NDArray[np.uint8] | None = None,
    ) -> Any:
        """Fill the holes of a picture in any form; the result has the form of what was given.

        Args:
            picture: A file, `Picture`, PIL picture, array (h, w[, c]) or tensor ([1,] 3, h, w).
            mask: The same forms, one channel; white or 1 = hole.
            dilate: Widen the holes first [px]; 3 to 5 helps when an object is removed.
            feather: Fade the fill in over the outermost pixels of the widened hole [px].
            seed: For networks that draw random numbers.
            refine: Copy from like places of the picture: the finest grain, and what is smeared.
            labels: (h, w) label map for networks that take one.

        Returns:
            The filled picture; for a file a `Picture`, which `retouch.pictures.write` saves with
            the file's own format and metadata.

        Raises:
            PictureError: If picture or mask cannot be read, or they differ in size.
            OptionError: If an option is out of range.
        """
        opened, back = door.open_picture(picture)
        options = FillOptions(dilate=dilate, feather=feather, seed=seed, refine=refine)
        return back(self.fill_picture(opened, door.open_mask(mask), options, labels=labels))

    def fill_picture(
        self,
        picture: Picture,
        mask: Mask,
        options: FillOptions = FillOptions(),
        *,
        labels: NDArray[np.uint8] | None = None,
        consume: bool = False,
    ) -> Picture:
        """Fill the holes of a picture; every other sample stays as it is, bit for bit.

        Args:
            picture: Any size; see `retouch.pictures`.
            mask: (h, w) bool, True = hole.
            options: Widening, feathering, seed, refinement.
            labels: (h, w) label map for networks that take one.
            consume: The fill may be written into the given arrays, which saves a copy of each;
                picture and mask must not be used afterwards.

        Returns:
            The filled picture with the metadata of the first.

        Raises:
            PictureError: If picture and mask differ in size.
            OptionError: If labels are given to a network that takes none.
        """
        if mask.shape != picture.size:
            raise PictureError(
                f"the mask is {mask.shape[1]}x{mask.shape[0]} px, the picture"
                f" {picture.width}x{picture.height} px; make them equal or ask for a resized mask"
            )
        if labels is not None and not self.card.labels:
            raise OptionError(f"network {self.header.network!r} takes no label map")
        if not mask.any():
            return picture
        pending = compositing.dilate(mask, options.dilate)
        if pending is mask and not (consume and mask.flags.writeable):
            pending = mask.copy()
        spare = not (consume and picture.pixels.flags.writeable)
        result = picture
        with devices.seeded(options.seed):
            for group in self.groups(result, pending):
                part = None if labels is None else labels[group.crop.slices]
                copy = spare and result is picture
                result = self._fill_group(result, pending, group, options, part, copy)
        return result

    def groups(self, picture: Picture, mask: Mask) -> list[Group]:
        """Group the holes of a picture, each group with the crop that the network sees of it."""
        if self.card.fixed_size is None:
            return groups(mask, self.card.working_size)
        return framing.framed(self.network, picture, mask, self.card.fixed_size)

    def _fill_group(
        self,
        picture: Picture,
        pending: Mask,
        group: Group,
        options: FillOptions,
        labels: NDArray[np.uint8] | None,
        copy: bool,
    ) -> Picture:
        crop = group.crop
        inner = group.holes.within(crop)
        unknown = pending[crop.slices]
        if not unknown[inner.slices].any():  # filled together with an overlapping group
            return picture
        view = blocks.View(picture, crop)
        fill = self._boxes(_Crop(view, unknown, labels, options.refine))
        picture = blocks.put(fill, view, unknown, inner, options.feather, copy=copy)
        pending[group.holes.slices] = False
        return picture

    def predict(
        self,
        image: Pixels,
        mask: Mask,
        labels: NDArray[np.uint8] | None = None,
        *,
        refine: bool = False,
    ) -> Pixels:
        """Fill one crop: at its own size if the network can, else smaller with detail added.

        Args:
            image: (h, w, 3) in [0, 1]; what is under the mask is ignored.
            mask: (h, w) True = hole.
            labels: (h, w) label map, or None.
            refine: Copy from like places of the picture, see `exemplar` and `completion`.

        Returns:
            (h, w, 3) in [0, 1]; only the hole is meant to be used.
        """
        crop = _Crop(lambda box: image[box.slices], mask, labels, refine)
        return self._boxes(crop)(crop.whole)

    def _boxes(self, crop: _Crop) -> Callable[[Box], Pixels]:
        """Do what `predict` does, ready to give any box: of a large crop without the rest."""
        scale, *middle = self._scales(crop.mask)

        def fill(part: _Crop) -> Callable[[Box], Pixels]:
            result = self._at_full_size(part)
            for other in middle:
                inner = self._smaller(max(1.0, other / scale), part, self._at_full_size)
                result = detail.mixed(result, inner, part.mask)
            return self._completed(result, part)

        return self._smaller(scale, crop, fill)

    def _completed(self, fill: Callable[[Box], Pixels], crop: _Crop) -> Callable[[Box], Pixels]:
        """Make the middle of thick holes of patches, where the network smears it."""
        if not self.patches or not crop.refine or crop.large:
            return fill
        whole = completion.complete(fill(crop.whole), crop.read(crop.whole), crop.mask)
        return lambda box: whole[box.slices]

    def _smaller(
        self, scale: float, crop: _Crop, way: Callable[[_Crop], Callable[[Box], Pixels]]
    ) -> Callable[[Box], Pixels]:
        """Fill a crop in some way, made so many times smaller."""
        if scale == 1:
            return way(crop)
        read, (h, w) = crop.read, crop.mask.shape
        size = (max(1, round(h / scale)), max(1, round(w / scale)))
        labels = None if crop.labels is None else sizes.nearest(crop.labels, size)
        image = None if crop.large else read(crop.whole)
        if image is None:
            small, hole = sizes.shrink_bands(read, crop.mask, size)
        else:
            small, hole = sizes.shrink(image, crop.mask, size)
        smaller = _Crop(lambda box: small[box.slices], hole, labels, crop.refine)
        blocks.complete(small, hole, way(smaller))
        if image is not None:
            return detail.transfer(small, hole, image)
        smooth = detail.Enlarged(small, (h, w)).piece
        detailed = detail.Detailed(small, hole, (h, w), smooth, lambda box: read(box) - smooth(box))
        return detailed.piece

    def _at_full_size(self, crop: _Crop) -> Callable[[Box], Pixels]:
        """Run the network at a crop's own size: where the holes are, if it is local."""
        read, mask = crop.read, crop.mask
        if self.context is None:
            image = read(crop.whole)
            fill = self.paint(image, mask, crop.labels)
        else:
            piece = tiles.Tiles(self.paint, read, mask, self._plan(mask)).piece
            if crop.large:
                if not crop.refine:
                    return piece
                return lambda box: exemplar.refine(piece(box), read(box), mask[box.slices])
            image, fill = read(crop.whole), piece(crop.whole)
        if crop.refine:
            fill = exemplar.refine(fill, image, mask)
        return lambda box: fill[box.slices]

    def _plan(self, mask: Mask) -> list[tiles.Tile]:
        felt = min(self.context or 0, _FELT + round(thickness(mask)))
        return tiles.plan(mask, felt, self.card.multiple_of)

    def passes_for(self, mask: Mask) -> int:
        """How many times the network runs to fill the holes of a mask (h, w), about."""
        crops = [mask[group.crop.slices] for group in groups(mask, self.card.working_size)]
        return sum(self._passes_at(scale, crop) for crop in crops for scale in self._scales(crop))

    def _passes_at(self, scale: float, crop: Mask) -> int:
        if scale > 1:
            crop = cv2.resize(crop.view(np.uint8), None, fx=1 / scale, fy=1 / scale) > 0
        runs = [Box(0, 0, *crop.shape)]
        if self.context is not None:
            runs = [tile.seen for tile in self._plan(crop)]
        twice = [self.card.mirror and run.height * run.width > _TOGETHER for run in runs]
        return len(runs) + sum(twice)

    def _scales(self, mask: Mask) -> list[float]:
        """How many times smaller the network sees a crop: its hole, or rim and middle."""
        thick = thickness(mask) / self.reach
        parts = (_RIM, _MIDDLE) if self.rim and thick > 1 else (1,)
        return sorted({self._allowed(thick / part, max(mask.shape)) for part in parts})

    def _allowed(self, scale: float, longer: int) -> float:
        """The nearest scale that suits a crop's longer side [px]; never less than 1."""
        if self.card.fixed_size is not None:
            return max(1.0, longer / self.card.fixed_size)
        scale = max(1.0, scale)
        if self.context is None:
            scale = max(scale, longer / self.card.working_size)
        return min(scale, max(1.0, longer / _SMALLEST))

    @torch.inference_mode()
    def paint(self, image: Pixels, mask: Mask, labels: NDArray[np.uint8] | None = None) -> Pixels:
        """Run the network over a whole crop, and mirrored if its card says so.

        Args:
            image: (h, w, 3) in [0, 1]; what is under the mask is ignored.
            mask: (h, w) True = hole.
            labels: (h, w) label map, or None.

        Returns:
            (h, w, 3) in [0, 1]: the network's own picture, known pixels included.
        """
        h, w = mask.shape
        larger = sizes.at_least((h, w), self.card.fixed_size or 1)
        if larger != (h, w):
            labels = None if labels is None else sizes.nearest(labels, larger)
            painted = self.paint(*sizes.shrink(image, mask, larger), labels)
            return sizes.reduce(painted, (h, w))
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(self.device)
        holes = torch.from_numpy(mask[None, None].astype(np.float32)).to(self.device)
        amount = self.padding(h, w)
        x, holes = sizes.pad(x, amount), sizes.pad(holes, amount)
        given: tuple[Tensor, ...] = (x, holes)
        if labels is not None:
            classes = torch.from_numpy(labels[None, None].astype(np.float32)).to(self.device)
            given = (x, holes, sizes.pad(classes, amount)[:, 0].long())
        prediction = (self._both_ways(given) if self.card.mirror else self.passes(*given)).float()
        prediction = prediction[..., :h, :w]
        return prediction[0].permute(1, 2, 0).contiguous().cpu().numpy()

    def _both_ways(self, given: tuple[Tensor, ...]) -> Tensor:
        """Mean of a pass and a mirrored one; small maps share the weights that are read."""
        mirrored = tuple(part.flip(-1) for part in given)
        if self.device.type != "cpu" or given[0].shape[-2:].numel() <= _TOGETHER:
            pair = zip(given, mirrored, strict=True)
            there, back = self.passes(*(torch.cat(parts) for parts in pair)).split(1)
        else:
            there, back = self.passes(*given), self.passes(*mirrored)
        return (there.float() + back.float().flip(-1)) / 2

    def _by_torch(self, *given: Tensor) -> Tensor:
        with devices.autocast(self.device, self.bf16):
            return self.network(*given)

    def padding(self, h: int, w: int) -> tuple[int, int]:
        """Rows and columns that a crop lacks for the network [px]."""
        card = self.card
        if card.fixed_size:
            return card.fixed_size - h, card.fixed_size - w
        multiple = card.multiple_of
        rows, columns = (-(-max(side, card.min_size) // multiple) * multiple for side in (h, w))
        return rows - h, columns - w
