"""The list of metrics: each name carries its definition, and a column says what it is applied to.

A column is a metric's name followed by dotted choices, in any order:

- `hole`: only the pixels of the hole (for SSIM: windows centred there), not the whole picture;
- `raw`: the prediction as the network painted it instead of the composite with the known pixels;
- `truncated` or `unrounded`: how a prediction in [0, 1] becomes 0..255, instead of rounding to the
  nearest 8-bit value.

Unless a column says otherwise: the prediction is brought to 8 bits by floor(255 x + 0.5), known
pixels are copied from the truth, the metric is computed per picture, and the table shows the mean
over pictures.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from retouch.evaluation import pixels, shifted, similarity
from retouch.evaluation.lpips import LPIPS
from retouch.evaluation.pixels import Hole, Picture, ScoreError

__all__ = ["CONVENTIONS", "METRICS", "SET_METRICS", "Column", "Metric", "Scorer", "composite"]

Compute = Callable[[Picture, Picture, Hole], float]

CONVENTIONS = (
    "8-bit RGB; predictions in [0, 1] are rounded to 8 bits by floor(255 x + 0.5); known pixels "
    "are copied from the truth before scoring; scores are computed per picture and averaged over "
    "pictures; [low, high] is the 95 % bootstrap interval of that mean."
)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One way to compare a picture with the truth."""

    definition: str
    """What is computed, exactly, in words."""
    better: Literal["higher", "lower"]
    """Which direction is good."""
    unit: str = ""
    """`dB`, `%` or nothing."""
    decimals: int = 4
    """Digits after the point in tables."""
    build: Callable[[str], Compute] | None = None
    """Makes the function for a device; None for metrics of whole sets."""
    hole: bool = True
    """Whether it can be restricted to the hole."""


def _plain(compute: Compute) -> Callable[[str], Compute]:
    return lambda _: compute


def _whole(compute: Callable[[Picture, Picture], float]) -> Callable[[str], Compute]:
    return lambda _: lambda truth, picture, _hole: compute(truth, picture)


def _lpips(backbone: Literal["alex", "vgg"]) -> Callable[[str], Compute]:
    def build(device: str) -> Compute:
        metric = LPIPS.from_store(backbone).to(device)

        def compute(truth: Picture, picture: Picture, hole: Hole) -> float:
            if min(truth.shape[:2]) < metric.smallest:
                raise ScoreError(
                    f"LPIPS ({backbone}) needs sides of at least {metric.smallest} px, got "
                    f"{truth.shape[:2]}"
                )
            a, b = (_tensor(p).to(device) for p in (truth, picture))
            region = None
            if hole is not None:
                region = torch.from_numpy(hole)[None, None].to(a)
            with torch.inference_mode():
                return float(metric(a, b, region))

        return compute

    return build


def _tensor(picture: Picture) -> torch.Tensor:
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(planes)[None] / 255


METRICS: Mapping[str, Metric] = {
    "psnr_rgb": Metric(
        definition="10 log10(255^2 / mean squared difference) over all RGB values, 8 bit; "
        "equal pictures count 100 dB",
        better="higher",
        unit="dB",
        decimals=2,
        build=_plain(pixels.psnr),
    ),
    "psnr_grey": Metric(
        definition="PSNR of grey (0.2125 R + 0.7154 G + 0.0721 B) on [0, 1], as EdgeConnect's "
        "script; about 2 dB above psnr_rgb",
        better="higher",
        unit="dB",
        decimals=2,
        build=_plain(pixels.psnr_grey),
    ),
    "ssim_rgb_gaussian11": Metric(
        definition="SSIM of Wang 2004 on RGB: 11x11 Gaussian, sigma 1.5, K 0.01 and 0.03, no "
        "padding, mean over channels (tf.image.ssim)",
        better="higher",
        build=_plain(similarity.ssim_gaussian11),
    ),
    "ssim_rgb_gaussian11_zero_padded": Metric(
        definition="the same window with five zeros of padding, whole map (ISNet's code)",
        better="higher",
        build=_plain(similarity.ssim_gaussian11_zero_padded),
    ),
    "ssim_rgb_uniform7": Metric(
        definition="SSIM with scikit-image's defaults on 8-bit RGB: 7x7 uniform window, sample "
        "covariance, border cut off (SEM-Net's code)",
        better="higher",
        build=_plain(similarity.ssim_uniform),
    ),
    "ssim_rgb_uniform51": Metric(
        definition="the same with a 51x51 uniform window (PEN-Net's code)",
        better="higher",
        build=_plain(partial(similarity.ssim_uniform, size=51)),
    ),
    "ssim_grey_uniform51": Metric(
        definition="SSIM of grey on [0, 1], 51x51 uniform window, sample covariance "
        "(EdgeConnect's script)",
        better="higher",
        build=_plain(similarity.ssim_grey_uniform51),
    ),
    "psnr_rgb_shifted": Metric(
        definition="psnr_rgb without 15 px of border, at the best shift of up to 5 px in quarter "
        "pixels (Levin 2009): for pictures that are not registered",
        better="higher",
        unit="dB",
        decimals=2,
        build=_whole(shifted.psnr_shifted),
        hole=False,
    ),
    "ssim_rgb_gaussian11_shifted": Metric(
        definition="ssim_rgb_gaussian11 there, at the same shift",
        better="higher",
        build=_whole(shifted.ssim_shifted),
        hole=False,
    ),
    "ms_ssim_rgb": Metric(
        definition="MS-SSIM of Wang 2003 on RGB: five scales, 11x11 Gaussian, sides of at least "
        "176 px (tf.image.ssim_multiscale)",
        better="higher",
        build=_whole(similarity.ms_ssim),
        hole=False,
    ),
    "l1_percent": Metric(
        definition="100 mean |a - b| / 255 over RGB",
        better="lower",
        unit="%",
        decimals=3,
        build=_plain(pixels.l1),
    ),
    "relative_l1_rgb": Metric(
        definition="100 sum |a - b| / sum (a + b) over RGB (PEN-Net's code)",
        better="lower",
        unit="%",
        decimals=3,
        build=_plain(pixels.relative_l1),
    ),
    "relative_l1_grey": Metric(
        definition="100 sum |a - b| / sum (a + b) over grey (EdgeConnect's script)",
        better="lower",
        unit="%",
        decimals=3,
        build=_plain(pixels.relative_l1_grey),
    ),
    "uqi_grey": Metric(
        definition="universal quality index of grey, 8x8 uniform window (Wang and Bovik 2002)",
        better="higher",
        build=_whole(similarity.uqi_grey),
        hole=False,
    ),
    "uqi_grey_sewar": Metric(
        definition="uqi_grey as the package sewar computes it: means taken for sums, near 1",
        better="higher",
        build=_whole(partial(similarity.uqi_grey, sewar=True)),
        hole=False,
    ),
    "vif_grey": Metric(
        definition="pixel-domain visual information fidelity of grey on [0, 1], four scales, "
        "noise variance 2 (sewar's vifp as the structure model calls it)",
        better="higher",
        build=_whole(similarity.vif_grey),
        hole=False,
    ),
    "lpips_alex": Metric(
        definition="LPIPS v0.1, AlexNet, official linear heads, mean over each layer's map",
        better="lower",
        build=_lpips("alex"),
    ),
    "lpips_vgg": Metric(
        definition="LPIPS v0.1, VGG-16, official linear heads, mean over each layer's map",
        better="lower",
        build=_lpips("vgg"),
    ),
}

SET_METRICS: Mapping[str, Metric] = {
    "fid": Metric(
        definition="Frechet distance of Inception 2015-12-05 pool3 features, TF 1 resize to 299; "
        "biased upwards for few pictures: compare only equal n",
        better="lower",
        decimals=2,
        hole=False,
    ),
    "kid": Metric(
        definition="unbiased squared MMD of the same features, cubic kernel, x 1000; all cross "
        "pairs as usual, so it comes out low (even negative) where truths are shared",
        better="lower",
        unit="x1000",
        decimals=3,
        hole=False,
    ),
    "kid_paired": Metric(
        definition="KID without the pairs of a picture and its own truth, x 1000: unbiased for "
        "inpainting, the figure for small sets",
        better="lower",
        unit="x1000",
        decimals=3,
        hole=False,
    ),
    "u_ids": Metric(
        definition="share of pictures that a linear SVM on the same features misjudges; at least "
        "5,000 pictures",
        better="higher",
        unit="%",
        decimals=2,
        hole=False,
    ),
    "p_ids": Metric(
        definition="share of pairs in which the SVM prefers the made picture; at least 5,000",
        better="higher",
        unit="%",
        decimals=2,
        hole=False,
    ),
}

Rounding = Literal["rounded", "truncated", "unrounded"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A metric and what it is applied to."""

    metric: str
    """A name of `METRICS` or `SET_METRICS`."""
    hole: bool = False
    """Only the hole."""
    raw: bool = False
    """The prediction itself, not the composite."""
    rounding: Rounding = "rounded"
    """How a prediction becomes 0..255."""

    @classmethod
    def parse(cls, text: str) -> "Column":
        """Read `psnr_rgb.hole.raw`.

        Raises:
            ScoreError: If the metric or a choice is unknown, or does not go with the metric.
        """
        metric, *choices = text.split(".")
        facts = METRICS.get(metric) or SET_METRICS.get(metric)
        if facts is None:
            known = ", ".join([*METRICS, *SET_METRICS])
            raise ScoreError(f"no metric {metric!r}; there are {known}")
        rounding: Rounding = "rounded"
        for choice in choices:
            if choice in ("truncated", "unrounded"):
                rounding = cast("Rounding", choice)
            elif choice not in ("hole", "raw"):
                known = "hole, raw, truncated, unrounded"
                raise ScoreError(f"no choice {choice!r} in {text!r}; there are {known}")
        if metric in SET_METRICS and choices:
            raise ScoreError(f"{metric} is computed on 8-bit composites only, got {text!r}")
        if "hole" in choices and not facts.hole:
            raise ScoreError(f"{metric} cannot be restricted to the hole, got {text!r}")
        return cls(metric=metric, hole="hole" in choices, raw="raw" in choices, rounding=rounding)

    def __str__(self) -> str:
        parts = [self.metric]
        parts += ["hole"] * self.hole + ["raw"] * self.raw
        return ".".join(parts + [self.rounding] * (self.rounding != "rounded"))

    @property
    def facts(self) -> Metric:
        """The metric's facts."""
        return METRICS[self.metric] if self.metric in METRICS else SET_METRICS[self.metric]

    @property
    def definition(self) -> str:
        """The metric's definition with this column's choices, for a table's header."""
        words = [self.facts.definition]
        words += ["hole pixels only"] * self.hole + ["raw prediction, not composited"] * self.raw
        if self.rounding != "rounded":
            words.append(f"8-bit values {self.rounding}")
        return "; ".join(words)


def to_255(prediction: Picture, rounding: Rounding) -> Picture:
    """Bring a prediction to the scale 0..255.

    Args:
        prediction: `uint8` (returned as it is) or floats in [0, 1]; values outside are clipped.
        rounding: `rounded` and `truncated` give `uint8`, `unrounded` float64.
    """
    if prediction.dtype == np.uint8:
        return prediction
    scaled = np.clip(prediction.astype(np.float64), 0, 1) * 255
    if rounding == "unrounded":
        return scaled
    return (np.floor(scaled + 0.5) if rounding == "rounded" else scaled).astype(np.uint8)


def composite(truth: NDArray[np.uint8], prediction: Picture, mask: NDArray[np.bool_]) -> Picture:
    """Copy the known pixels from the truth, bit for bit.

    Args:
        truth: (h, w, 3) uint8.
        prediction: (h, w, 3) on 0..255.
        mask: (h, w), True = hole.
    """
    return np.where(mask[..., None], prediction, truth)


class Scorer:
    """Computes a list of columns for one picture after another.

    Args:
        columns: What to compute; columns of set metrics are left to `retouch.evaluation.sets`.
        device: Where networks run: `cpu`, `cuda` ...

    Raises:
        MissingWeightsError: If a metric's network is not in the weight store.
    """

    def __init__(self, columns: Iterable[Column], device: str = "cpu") -> None:
        self.columns = [column for column in columns if column.metric in METRICS]
        self._computes: dict[str, Compute] = {}
        for column in self.columns:
            build = column.facts.build
            if column.metric not in self._computes and build is not None:
                self._computes[column.metric] = build(device)

    def score(
        self, truth: NDArray[np.uint8], prediction: Picture, mask: NDArray[np.bool_]
    ) -> dict[str, float]:
        """Score one prediction.

        Args:
            truth: (h, w, 3) uint8.
            prediction: (h, w, 3), uint8 or floats in [0, 1].
            mask: (h, w), True = hole.

        Returns:
            Column -> value.

        Raises:
            ScoreError: If shapes differ or the picture is too small for a metric.
        """
        if truth.dtype != np.uint8 or prediction.shape != truth.shape or truth.ndim != 3:
            raise ScoreError(
                f"truth must be uint8 (h, w, 3) and the prediction of its shape, got "
                f"{truth.dtype} {truth.shape} and {prediction.shape}"
            )
        if mask.dtype != np.bool_ or mask.shape != truth.shape[:2]:
            raise ScoreError(f"mask must be bool {truth.shape[:2]}, got {mask.dtype} {mask.shape}")
        values: dict[str, float] = {}
        for column in self.columns:
            picture = to_255(prediction, column.rounding)
            if not column.raw:
                picture = composite(truth, picture, mask)
            if column.hole and not mask.any():
                values[str(column)] = float("nan")
                continue
            region = mask if column.hole else None
            values[str(column)] = self._computes[column.metric](truth, picture, region)
        return values
