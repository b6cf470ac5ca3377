"""What a recipe may say about pictures, crops, masks, label maps and blur."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Crop = Literal["random", "centre", "squash"]
Resample = Literal["area", "bilinear", "bicubic"]
MaskMode = Literal[
    "mixed",
    "strokes",
    "boxes",
    "silhouettes",
    "block",
    "centre",
    "half",
    "freeform",
    "files",
    "files-in-order",
    "none",
]
MaskAugment = Literal["flip", "quarter-turns", "turn", "grow"]
_NEEDS_FILES = ("silhouettes", "files", "files-in-order")


@dataclass(frozen=True, kw_only=True)
class BlurConfig:
    """Camera shake of our own making, for training deblurring (see `retouch.data.blur`)."""

    extent: tuple[float, float] = (4.0, 22.0)
    """Least and greatest length of the trajectory's bounding box [px]."""
    noise: tuple[float, float] = (0.0, 0.01)
    """Least and greatest standard deviation of the noise, on [0, 1]."""
    gamma: tuple[float, float] = (1.0, 2.2)
    """Least and greatest gamma: pictures are blurred as value ** gamma. 2.2 is linear light of
    photos as they are stored, 1 the stored values, as in pictures that are linear already."""

    def __post_init__(self) -> None:
        if not 1 <= self.extent[0] <= self.extent[1]:
            raise ValueError(f"extent must be 1 <= low <= high, got {list(self.extent)}")
        if not 0 <= self.noise[0] <= self.noise[1]:
            raise ValueError(f"noise must be 0 <= low <= high, got {list(self.noise)}")
        if not 0 < self.gamma[0] <= self.gamma[1]:
            raise ValueError(f"gamma must be 0 < low <= high, got {list(self.gamma)}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Pictures, crops and masks of a run."""

    pictures: tuple[str, ...]
    """Folders, file lists, tar shards or patterns of the training pictures."""
    validation_pictures: tuple[str, ...] = ()
    """The same of the validation pictures; empty: some of `pictures` are held out."""
    test_pictures: tuple[str, ...] = ()
    """Pictures never trained on: training pictures with the same content are reported."""
    leave_out: tuple[str, ...] = ()
    """Patterns of keys (names without folder and suffix) that are not used, such as `bsds_*`."""
    masks: tuple[str, ...] = ()
    """The same of mask files (white = hole); empty: all masks are generated."""
    validation_masks: tuple[str, ...] = ()
    """Mask files of the validation, one after the other; empty: drawn once, as in training."""
    size: int = 128
    """Side of the square crops [px]."""
    crop: Crop = "random"
    """`random` place; the `centre` square, resized; the whole picture, resized (`squash`)."""
    resample: Resample = "area"
    """How pictures are resized: OpenCV's area, or Pillow's antialiased bilinear or bicubic."""
    shrink: float = 0.0
    """Share of the pictures that are made smaller before a random crop, in [0, 1]: larger
    context."""
    flip: bool = True
    """Mirror every second picture; the label maps' left and right change places with it."""
    jitter: float = 0.0
    """Largest change of brightness, contrast, saturation (relative) and hue (of the circle)."""
    grey: float = 0.0
    """Share of the pictures that lose their colour, in [0, 1]: for networks that meet grey ones."""
    modes: Mapping[str, float] = field(default_factory=lambda: {"mixed": 1.0})
    """Mask modes and how often each is drawn (see `retouch.data.mask_modes`)."""
    generated: float = 0.4
    """Share of the `mixed` masks that are generated (strokes, boxes), in [0, 1]; others are
    files."""
    shares: tuple[float, float] = (0.03, 0.6)
    """Least and greatest hole share of a mask."""
    mask_augment: tuple[MaskAugment, ...] = ()
    """`flip`; `quarter-turns`; `turn`: 0 to 45 degrees, then grown by a pixel (PEN-Net); `grow`:
    every fourth mask file by 1 to 5 px (structure)."""
    one_mask_per_batch: bool = False
    """All pictures of a step share their mask."""
    labels: bool = False
    """Pictures come with label maps: `KEY.label.png` beside the picture."""
    blur: BlurConfig | None = None
    """Deblurring: how the pictures are blurred; None: pictures come with `KEY.blur.png`, if the
    network's task is deblurring."""
    validation: int = 64
    """Pictures held out for validation: of those whose key's sha256 modulo 20 is 0, at most so
    many."""
    cache_gb: float = 8.0
    """Decoded pictures are kept in memory up to so many GB; sets beyond it are decoded at each
    use."""
    check: bool = True
    """Decode every picture before step 1, so that broken ones are listed at once."""
    threads: int = 2
    """Threads that decode pictures and make samples."""

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ValueError(f"size must be at least 16, got {self.size}")
        for name in ("generated", "grey", "shrink"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.jitter <= 0.5:
            raise ValueError(f"jitter must lie in [0, 0.5], got {self.jitter}")
        if not 0 <= self.shares[0] < self.shares[1] <= 1:
            raise ValueError(f"shares must be 0 <= low < high <= 1, got {list(self.shares)}")
        if self.threads < 1 or self.validation < 0 or self.cache_gb < 0:
            raise ValueError("threads must be positive, validation and cache_gb not negative")
        self._check_modes()

    def _check_modes(self) -> None:
        known = MaskMode.__args__
        if unknown := set(self.modes) - set(known):
            raise ValueError(f"modes has no {sorted(unknown)}; there are {', '.join(known)}")
        if not self.modes or min(self.modes.values()) < 0 or sum(self.modes.values()) <= 0:
            raise ValueError(f"modes need weights of at least 0 and one above, got {self.modes}")
        if not sum(weight for mode, weight in self.modes.items() if mode != "none"):
            raise ValueError("modes need one beside none, or nothing would be learned")
        needy = [mode for mode in _NEEDS_FILES if self.modes.get(mode)]
        if needy and not self.masks:
            raise ValueError(f"mask modes {', '.join(needy)} need mask files in `masks`")
