"""Wiener deconvolution: what deblurring networks are measured against, from below and from above.

From below, one fixed Gaussian for every picture, its width and the noise-to-signal ratio chosen
once on validation photos (`benchmarks/wiener.py`), never on test pairs. From above, the kernel that
blurred the very picture, which nobody has outside a laboratory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BASELINES",
    "GAUSSIAN",
    "TRUE_RATIO",
    "Blur",
    "deconvolve",
    "explain",
    "fixed",
    "gaussian",
    "wiener",
]

Map = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Blur:
    """How a picture was blurred."""

    kernel: Map
    """(k, k), sum 1; the centre is offset 0."""
    gamma: float
    """Values ** gamma were blurred: 1 for stored values, 2.2 for light."""
    error: float = 0.0
    """Mean squared difference to the blurred picture, values in [0, 1]."""


def gaussian(sigma: float) -> Map:
    """Make a Gaussian kernel of a standard deviation [px], cut at four of them."""
    reach = max(1, int(np.ceil(4 * sigma)))
    offset = np.arange(-reach, reach + 1)
    line = np.exp(-(offset**2) / (2 * sigma**2))
    kernel = np.outer(line, line)
    return kernel / kernel.sum()


GAUSSIAN = {"sigma": 1.0, "ratio": 0.03, "gamma": 2.2}
"""The fixed Gaussian: width [px], ratio and gamma (see `benchmarks/wiener.py`)."""
TRUE_RATIO = 0.003
"""The ratio that goes with true kernels (see `benchmarks/wiener.py`)."""

BASELINES: Mapping[str, str] = {
    "blurred": "nothing is done",
    "wiener-gaussian": (
        f"Wiener deconvolution with one Gaussian for all, sigma {GAUSSIAN['sigma']} px, ratio "
        f"{GAUSSIAN['ratio']}, in light (gamma {GAUSSIAN['gamma']}); chosen on validation photos"
    ),
    "wiener-true": (
        f"Wiener deconvolution with the true kernel, ratio {TRUE_RATIO}: an upper bound, since it "
        "knows what blurred the picture"
    ),
}
"""Methods without weights, by name: what they do."""


def fixed(picture: NDArray[np.uint8]) -> Map:
    """Undo the one Gaussian that every picture is taken to be blurred with."""
    blur = Blur(kernel=gaussian(GAUSSIAN["sigma"]), gamma=GAUSSIAN["gamma"])
    return deconvolve(picture, blur, GAUSSIAN["ratio"])


def deconvolve(picture: NDArray[np.uint8], blur: Blur, ratio: float) -> Map:
    """Undo a blur: `conj(K) / (|K|^2 + ratio |L|^2)` per frequency, L the Laplacian.

    The Laplacian stands for pictures whose power falls with the square of the frequency. Borders
    are mirrored by a kernel's size and tapered, so that opposite sides meet.

    Args:
        picture: (h, w, 3).
        blur: What blurred it.
        ratio: Noise to signal.

    Returns:
        (h, w, 3) in [0, 1].
    """
    margin = blur.kernel.shape[0]
    light = (picture.astype(np.float64) / 255) ** blur.gamma
    padded = np.pad(light, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    sharp = wiener(_tapered(padded, blur.kernel, margin), blur.kernel, ratio)
    h, w = picture.shape[:2]
    return np.clip(sharp[margin : margin + h, margin : margin + w], 0, 1) ** (1 / blur.gamma)


def wiener(picture: Map, kernel: Map, ratio: float) -> Map:
    """Filter a periodic picture (h, w, c); agrees with scikit-image's `wiener`."""
    size = (picture.shape[0], picture.shape[1])
    transfer = _transfer(kernel, size)
    laplacian = _transfer(np.array([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]), size)
    factor = np.conj(transfer) / (np.abs(transfer) ** 2 + ratio * np.abs(laplacian) ** 2)
    return _filtered(picture, factor)


def _transfer(kernel: Map, size: tuple[int, int]) -> NDArray[np.complex128]:
    """Fourier transform of a kernel whose centre lies at the origin."""
    canvas = np.zeros(size)
    canvas[: kernel.shape[0], : kernel.shape[1]] = kernel
    middle = (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2))
    return np.fft.rfft2(np.roll(canvas, middle, (0, 1)))


def _filtered(picture: Map, factor: NDArray[np.inexact]) -> Map:
    spectrum = np.fft.rfft2(picture, axes=(0, 1)) * factor[..., None]
    return np.fft.irfft2(spectrum, s=picture.shape[:2], axes=(0, 1))


def _tapered(picture: Map, kernel: Map, margin: int) -> Map:
    """Fade the margins into the periodically blurred picture, whose opposite sides meet."""
    round_trip = _filtered(picture, _transfer(kernel, (picture.shape[0], picture.shape[1])))
    weight = np.ones(picture.shape[:2])
    for axis, side in enumerate(picture.shape[:2]):
        rise = np.clip((np.arange(side) + 0.5) / margin, 0, 1)
        line = np.minimum(rise, rise[::-1])
        weight *= line[:, None] if axis == 0 else line[None]
    return picture * weight[..., None] + round_trip * (1 - weight[..., None])


def explain(
    sharp: NDArray[np.uint8],
    blurred: NDArray[np.uint8],
    kernels: Sequence[NDArray[np.floating]],
    gammas: Sequence[float] = (1.0, 2.2),
) -> Blur:
    """Find which kernel, how it is turned, moved by how many pixels, and in which light.

    Args:
        sharp: (h, w, 3).
        blurred: The same shape.
        kernels: Candidates; each is tried at all eight turns and mirrorings.
        gammas: See `Blur.gamma`.

    Returns:
        The blur of least squared difference, its kernel moved so that nothing shifts.

    Raises:
        ValueError: If there are no kernels.
    """
    if not kernels:
        raise ValueError("a true kernel needs candidates, got none")
    found: list[Blur] = []
    for gamma in gammas:
        before, after = (
            (picture.astype(np.float64) / 255).mean(axis=2) ** gamma for picture in (sharp, blurred)
        )
        turned = (turn for kernel in kernels for turn in _turns(kernel.astype(np.float64)))
        found += [_placed(before, after, kernel, gamma) for kernel in turned]
    return min(found, key=lambda blur: blur.error)


def _turns(kernel: Map) -> Iterator[Map]:
    for quarter in range(4):
        turned = np.rot90(kernel, quarter)
        yield turned
        yield turned[:, ::-1]


def _placed(before: Map, after: Map, kernel: Map, gamma: float) -> Blur:
    """Move a kernel by whole pixels to where it explains the blur best."""
    reach = kernel.shape[0] // 2 + 1
    made = cv2.filter2D(before, cv2.CV_64F, np.ascontiguousarray(kernel[::-1, ::-1]))
    inner = made[2 * reach : -2 * reach, 2 * reach : -2 * reach]
    seen = after[reach:-reach, reach:-reach]
    costs = cv2.matchTemplate(seen.astype(np.float32), inner.astype(np.float32), cv2.TM_SQDIFF)
    least, _, (left, top), _ = cv2.minMaxLoc(costs)
    canvas = np.zeros([side + 2 * reach for side in kernel.shape])
    canvas[top : top + kernel.shape[0], left : left + kernel.shape[1]] = kernel
    return Blur(kernel=canvas, gamma=gamma, error=least / inner.size)
