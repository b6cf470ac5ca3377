"""What is measured and how: our own strict protocol, and those of the five papers' code.

The papers' numbers cannot be compared with each other: they crop, threshold, round, window and
average differently. A protocol says all of it as data; `retouch evaluate --protocol NAME` follows
it and prints it above the table. Where the code of a paper does something odd, the protocol does it
too and says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["LIU_BINS", "PROTOCOLS", "Bin", "MaskRule", "Preparation", "Protocol", "bin_of"]

Filter = Literal["nearest", "bilinear", "bicubic"]


@dataclass(frozen=True)
class Bin:
    """Hole shares above `low` up to `high`; the first of a list holds its own `low` as well."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.low:.0f}-{100 * self.high:.0f} %"


LIU_BINS = tuple(
    Bin(low, high)
    for low, high in ((0.01, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6))
)
"""Liu et al., ECCV 2018, Sec. 4: six bins of hole share."""


def bin_of(share: float, bins: tuple[Bin, ...]) -> str:
    """Name the bin of a hole share; `other` if it lies in none."""
    for number, candidate in enumerate(bins):
        above = share >= candidate.low if number == 0 else share > candidate.low
        if above and share <= candidate.high:
            return str(candidate)
    return "other"


@dataclass(frozen=True, kw_only=True)
class MaskRule:
    """How a mask file becomes a hole."""

    resize: Filter | None = None
    """Filter that brings it to the picture's size; None refuses other sizes."""
    hole: Literal["from-128", "nonzero", "all-255"] = "from-128"
    """Which grey values are hole, after resizing."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How a picture file becomes the truth."""

    crop: bool = False
    """Cut the centred square of the shorter side."""
    side: int | None = None
    """Then resize to this square [px]; None keeps the size."""
    filter: Filter = "bicubic"
    mask: MaskRule = MaskRule()
    blurred: bool = False
    """Pictures have blurred twins and no masks."""

    def __str__(self) -> str:
        picture = "pictures as they are"
        if self.side is not None:
            cut = "centre-cropped to a square, " if self.crop else ""
            picture = f"pictures {cut}resized to {self.side}x{self.side} ({self.filter})"
        if self.blurred:
            return f"{picture}, with their blurred twins"
        words = {
            "from-128": "values from 128",
            "nonzero": "all values but 0",
            "all-255": "only 255",
        }
        resized = (
            "of the same size" if self.mask.resize is None else f"resized ({self.mask.resize})"
        )
        return f"{picture}; masks {resized}, hole = {words[self.mask.hole]}"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to measure, whole."""

    name: str
    what: str
    """Whose protocol it is."""
    columns: tuple[str, ...]
    """Scores per picture, see `retouch.evaluation.metrics`."""
    sets: tuple[str, ...] = ()
    """Scores per set."""
    bins: tuple[Bin, ...] = LIU_BINS
    """Hole shares that get rows of their own; the mean over all pairs is always there."""
    preparation: Preparation = Preparation()
    centre_square: bool = False
    """Whether the hole is the centred square of half the side if no masks are given."""
    task: Literal["fill", "deblur"] = "fill"
    """Whether holes are filled, or blur is taken away."""
    prediction: Literal["pipeline", "network"] = "pipeline"
    """`pipeline`: what `retouch fill` gives. `network`: the network's bare prediction."""
    notes: tuple[str, ...] = ()
    """Oddities kept, things unknown."""


_RETOUCH = Protocol(
    name="retouch",
    what="Retouch's own: fixed pairs, whole product, 8-bit composites",
    columns=(
        *("psnr_rgb", "ssim_rgb_gaussian11", "ms_ssim_rgb", "l1_percent", "lpips_alex"),
        *("psnr_rgb.hole", "l1_percent.hole"),
    ),
    sets=("fid", "kid_paired"),
)

_ISNET = Protocol(
    name="isnet",
    what="ISNet's test code (GuardSkill/Large-Scale-Feature-Inpainting @ 49b9b0b)",
    columns=(
        *("psnr_rgb.truncated", "ssim_rgb_gaussian11_zero_padded.unrounded"),
        "l1_percent.unrounded",
    ),
    bins=LIU_BINS[1:5],
    preparation=Preparation(
        crop=True,
        side=256,
        filter="bilinear",
        mask=MaskRule(resize="bilinear", hole="all-255"),
    ),
    prediction="network",
    notes=(
        "Its code takes any mask value above 0 as known (white = known there), so resized or "
        "JPEG-compressed masks lose hole pixels; kept here, without effect on clean 256 px masks.",
        "Its tables quote other methods from EdgeConnect, whose PSNR and SSIM are of grey pictures "
        "and whose L1 is a quotient: add --metrics psnr_grey ssim_grey_uniform51 relative_l1_grey.",
        "Identical pictures count 0 dB in its code and 100 dB here.",
    ),
)

_SEMNET = Protocol(
    name="semnet",
    what="SEM-Net's test code (ChrisChen1023/SEM-Net @ 1a5dcd0)",
    columns=(
        *("psnr_rgb.truncated", "ssim_rgb_uniform7.truncated", "l1_percent.unrounded"),
        "lpips_vgg.unrounded",
    ),
    sets=("fid",),
    bins=LIU_BINS,
    preparation=Preparation(
        crop=True, side=256, filter="bicubic", mask=MaskRule(resize="bicubic", hole="nonzero")
    ),
    prediction="network",
    notes=(
        "Its code prints one mean over all pictures and computes no FID (clean-fid is among its "
        "requirements); bins and FID are ours.",
        "Masks that are resized grow: every value but 0 is hole after bicubic filtering.",
    ),
)

_SRPNET = Protocol(
    name="srpnet",
    what="SRPNet's tables as far as the paper says, else PEN-Net's code (@ 8721a55)",
    columns=(
        *("l1_percent.truncated", "relative_l1_rgb.truncated", "psnr_rgb.truncated"),
        *("ms_ssim_rgb.truncated", "ssim_rgb_uniform51.truncated"),
        *("l1_percent.raw.truncated", "psnr_rgb.raw.truncated", "ms_ssim_rgb.raw.truncated"),
    ),
    sets=("fid",),
    preparation=Preparation(
        side=256, filter="bicubic", mask=MaskRule(resize="nearest", hole="from-128")
    ),
    centre_square=True,
    prediction="network",
    notes=(
        "The paper leaves its L1 undefined and says that outputs are scored directly: both L1 "
        "definitions, composite and raw, are given.",
        "PEN-Net's SSIM (51-pixel window) and FID are not in SRPNet's tables.",
        "Pictures are stretched to a square, as PEN-Net's loader does.",
    ),
)

_STRUCTURE = Protocol(
    name="structure",
    what="the structure model's evaluation (YoungGod/sturcture-inpainting @ c3a067e)",
    columns=(
        *("l1_percent.unrounded", "psnr_rgb.unrounded", "ssim_rgb_gaussian11.unrounded"),
        *("uqi_grey_sewar", "vif_grey"),
        *("psnr_grey", "ssim_grey_uniform51", "relative_l1_grey"),
    ),
    sets=("fid",),
    preparation=Preparation(crop=True, side=256, filter="bilinear"),
    prediction="network",
    notes=(
        "Its L1 is on 0..255: 2.55 times l1_percent.",
        "Its pictures for FID, UQI and VIF are stretched to their own minimum and maximum by "
        "scipy.misc.imsave; that is not repeated here.",
        "No table of the paper could be read; its code prints one mean over all pictures.",
    ),
)

_SEMANTIC = Protocol(
    name="semantic",
    what="the semantic-guidance paper's tables: centred 128x128 hole at 256 px",
    columns=("psnr_rgb", "ssim_rgb_gaussian11"),
    sets=("fid",),
    bins=(),
    preparation=Preparation(crop=True, side=256, filter="bicubic"),
    centre_square=True,
    notes=(
        "The paper does not define its SSIM; Wang's of 2004 is taken.",
        "Its best rows use the true label maps, the others predicted ones: say which.",
    ),
)

_DEBLUR = Protocol(
    name="deblur",
    what="motion deblurring: sharp pictures and their blurred twins",
    columns=("psnr_rgb", "ssim_rgb_gaussian11", "psnr_rgb_shifted", "ssim_rgb_gaussian11_shifted"),
    bins=(),
    preparation=Preparation(blurred=True),
    task="deblur",
    notes=(
        "Nothing is known of the truth: every pixel counts as hole.",
        "Real camera shake is not registered to the sub-pixel: the shifted scores are the ones to "
        "compare there.",
        "wiener-true is told which kernel blurred the picture (the one among --kernels, turned and "
        "mirrored, that explains the pair best, in light or in stored values): an upper bound.",
    ),
)

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (_RETOUCH, _SEMNET, _ISNET, _SRPNET, _STRUCTURE, _SEMANTIC, _DEBLUR)
}
