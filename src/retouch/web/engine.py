"""The worker's side: networks of one device, fills, label maps. Importing it imports PyTorch."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from retouch import models, segmentation
from retouch.pictures import Picture
from retouch.pipeline import compositing, devices
from retouch.pipeline.editing import EditingSession, segment
from retouch.pipeline.inpainter import Inpainter
from retouch.pipeline.options import FillOptions
from retouch.pipeline.selecting import Click, Selector, check
from retouch.web.batching import Meeting, Watch
from retouch.web.documents import OpenPicture, Patch, cut
from retouch.web.jobs import Cancelled, Job
from retouch.web.schema import Point
from retouch.web.settings import Settings
from retouch.weights import files, named, segmenters, store

_LOADED = 3
"""Networks that stay in memory per device."""
_UNLABELLED = 255


@dataclass(frozen=True, kw_only=True)
class Editing:
    """A semantic editing session of one open picture."""

    session: EditingSession
    picture_key: str
    network: str


def available(settings: Settings) -> dict[str, Path]:
    """List what clients may ask for, the default first."""
    found = named.available("inpaint")
    if isinstance(settings.network, Path):
        return {settings.network.stem: settings.network, **found}
    if settings.network in found:
        return {settings.network: found.pop(settings.network), **found}
    return found


def default(settings: Settings) -> str:
    """Name what fills if the client does not say."""
    network = settings.network
    return network.stem if isinstance(network, Path) else network


def describe(settings: Settings) -> list[dict[str, Any]]:
    """Describe every network that has weights at hand, the default first."""
    first = default(settings)
    described = []
    for name, path in available(settings).items():
        header = files.read_header(path)
        if header.network not in models.names():
            continue
        card = models.card(header.network)
        if header.config.get("task", "inpaint") != "inpaint":
            continue
        labels = header.config.get("labels", "faces") if card.labels else None
        described.append(
            {
                "name": name,
                "network": header.network,
                "paper": card.paper,
                "license": header.license,
                "data": list(header.data),
                "working_size": card.fixed_size or card.working_size,
                "default": name == first or (not described and first not in named.available()),
                "labels": None if labels is None else label_set(labels),
            }
        )
    return described


def label_set(name: str) -> dict[str, Any]:
    """Describe a label set: names and colours by position."""
    found = segmentation.label_set(name)
    return {"name": name, "names": list(found.names), "colors": [list(c) for c in found.colors]}


def advice(labels: str) -> str:
    """Say how label maps of a set come to be proposed, where the store lacks the weights."""
    name = segmenters.default(labels)
    target = store.folder() / f"{name}.safetensors"
    own = f"train it (retouch train recipes/{name}-small.toml) and copy its weights to {target}"
    wanted = {
        "faces": "get 79999_iter.pth of https://github.com/zllrunning/face-parsing.PyTorch, then"
        " run `retouch weights add 79999_iter.pth`",
        "outdoor": "get segmentation_OST_bic.pth of https://github.com/xinntao/SFTGAN, then run"
        f" `retouch weights import segmentation_OST_bic.pth --name {name}`",
    }
    return f"no network that labels {labels} is at hand ({name}): {wanted.get(labels, own)}"


class Engine:
    """Networks on one device.

    Args:
        device: `auto`, `cpu`, `cuda:0` ...
        settings: Default network, which is loaded at once if it is there.
    """

    def __init__(self, device: str, settings: Settings) -> None:
        self.device = device
        self.settings = settings
        self._loaded: OrderedDict[str, Inpainter] = OrderedDict()
        self._segmenters: dict[str, nn.Module] = {}
        self._selector: Selector | None = None
        self._watches: Sequence[Watch] = ()
        self._meeting: Meeting | None = None
        self._lock = threading.Lock()
        self._warm()

    def _warm(self) -> None:
        """Load the default network and run it once, so that the first fill does not wait."""
        name = default(self.settings)
        if name in available(self.settings):
            inpainter = self.inpainter(name)
            side = inpainter.card.fixed_size or max(128, inpainter.card.min_size)
            hole = np.zeros((side, side), bool)
            hole[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = True  # thick: patches, too
            inpainter.predict(np.full((side, side, 3), 0.5, np.float32), hole, refine=True)

    def inpainter(self, name: str | None) -> Inpainter:
        """Load a network, or take it from those that are loaded.

        Raises:
            WeightsError: If clients may not ask for it.
        """
        with self._lock:
            return self._find(name or default(self.settings))

    def _find(self, name: str) -> Inpainter:
        if name in self._loaded:
            self._loaded.move_to_end(name)
            return self._loaded[name]
        offered = available(self.settings)
        if name in offered:
            path = offered[name]
        elif name in models.names():
            path = named.find(name)
        else:
            listed = ", ".join(offered) or "none"
            raise files.WeightsError(f"no weights named {name[:80]!r} are at hand; there: {listed}")
        inpainter = Inpainter.load(path, device=self.device)
        for module in inpainter.network.modules():
            if not list(module.children()):
                module.register_forward_pre_hook(self._step)
        self._loaded[name] = inpainter
        while len(self._loaded) > _LOADED:
            self._loaded.popitem(last=False)
        return inpainter

    def fill(
        self,
        job: Job,
        picture: Picture,
        mask: NDArray[np.bool_],
        network: str | None,
        options: FillOptions,
        labels: NDArray[np.uint8] | None = None,
    ) -> Picture:
        """Fill, telling the job how far it is; a cancelled job ends at the next layer."""
        inpainter = self.inpainter(network)
        watch = _watch(job, inpainter, mask)
        if self._meeting is not None:
            seated = self._meeting.seat(inpainter, watch)
            return seated.fill_picture(picture, mask, options, labels=labels)
        with self._watching([watch]):
            return inpainter.fill_picture(picture, mask, options, labels=labels)

    def fill_part(
        self,
        job: Job,
        opened: OpenPicture,
        keys: tuple[str, ...],
        mask: NDArray[np.bool_],
        network: str | None,
        options: FillOptions,
    ) -> Patch:
        """Fill an open picture and cut out what changed."""
        filled = self.fill(job, opened.state(keys), mask, network, options)
        return cut(filled, compositing.dilate(mask, options.dilate))

    def begin(
        self,
        job: Job,
        picture: Picture,
        mask: NDArray[np.bool_],
        network: str | None,
        options: FillOptions,
    ) -> EditingSession:
        """Encode for semantic editing."""
        inpainter = self.inpainter(network)
        guided: Any = inpainter.network
        if inpainter.card.labels and guided.segmenter is None:  # it may have been added since
            segmenters.attach(guided)
            if guided.segmenter is not None:
                guided.segmenter.to(inpainter.device)
        with self._watching([_watch(job, inpainter, mask)]):
            return EditingSession(inpainter, picture, mask, options)

    def segmenter(self, labels: str) -> nn.Module:
        """Load the network that proposes label maps of a label set.

        Raises:
            WeightsError: If no network is known for this set, or the store does not hold its
                weights; the message says what to do.
        """
        if labels not in segmenters.DEFAULTS:
            known = ", ".join(segmenters.DEFAULTS)
            raise files.WeightsError(f"no network labels {labels[:40]!r}; there are {known}")
        if labels not in self._segmenters:
            try:
                loaded = segmenters.load(segmenters.default(labels), labels)
            except (store.MissingWeightsError, store.StoreError):
                raise files.WeightsError(advice(labels)) from None
            self._segmenters[labels] = loaded.to(devices.choose(self.device))
        return self._segmenters[labels]

    def segment(self, picture: Picture, labels: str) -> NDArray[np.uint8]:
        """Label a picture."""
        return segment(self.segmenter(labels), picture)

    def select(
        self, opened: OpenPicture, keys: tuple[str, ...], points: Sequence[Point]
    ) -> NDArray[np.bool_]:
        """Find the thing that was clicked on; a state of a picture is encoded at its first click.

        Raises:
            MissingWeightsError: If the store does not hold MobileSAM.
            PictureError: If the clicks cannot be meant.
        """
        clicks = [Click(point.x, point.y, point.inside) for point in points]
        check(opened.picture.size, clicks)
        if self._selector is None:
            self._selector = Selector.load(self.device)
        state = opened.state(keys)
        scene = opened.scenes.get((self.device, *keys))
        if scene is None:
            scene = self._selector.scene(state)
            opened.keep_scene((self.device, *keys), scene)
        return self._selector.select(scene, state, clicks)

    @contextmanager
    def meet(self, attendees: int) -> Iterator[Meeting]:
        """Run the passes of several fills together."""
        self._meeting = Meeting(attendees, self._watching)
        try:
            yield self._meeting
        finally:
            self._meeting = None

    @contextmanager
    def _watching(self, watches: Sequence[Watch]) -> Iterator[None]:
        self._watches = watches
        try:
            yield
        finally:
            self._watches = ()

    def _step(self, *_: object) -> None:
        """Before each layer: a pass goes on as long as anybody wants it."""
        wanted = not self._watches
        for watch in self._watches:
            with suppress(Cancelled):
                watch.step()
                wanted = True
        if not wanted:
            raise Cancelled


def _watch(job: Job, inpainter: Inpainter, mask: NDArray[np.bool_]) -> Watch:
    layers = sum(1 for m in inpainter.network.modules() if not list(m.children()))
    return Watch(job, layers * inpainter.passes_for(mask))


def is_mistake(error: BaseException) -> bool:
    """Whether an error was made for a person to read: ours, and weights that are not there."""
    if isinstance(error, store.MissingWeightsError):
        return True
    return type(error).__module__.startswith("retouch.") and isinstance(error, ValueError)
