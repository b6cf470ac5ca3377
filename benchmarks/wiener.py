"""Chooses the constants of `retouch.evaluation.wiener` on validation photos.

Photos are blurred as the deblurring recipe blurs them (`retouch.data.blur`, in light, with noise);
the fixed Gaussian and the two ratios are those of the best mean PSNR. No test pair is read, and
BSDS photos, which the synthetic test pairs were made of, are left out.

    python benchmarks/wiener.py ../shared/data/natural_scenes/train-*.tar
"""

import sys
from collections.abc import Iterator
from itertools import product

import numpy as np

from retouch.data import blur, sources
from retouch.data.config import BlurConfig
from retouch.evaluation.pixels import psnr
from retouch.evaluation.wiener import Blur, deconvolve, gaussian

PHOTOS = 20
SIGMAS = (0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0)
RATIOS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


def blurred(places: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield held-out photos, what shake made of them, and its kernel."""
    _, held = sources.split(sources.entries(places), part=0)
    config = BlurConfig(gamma=(2.2, 2.2))
    chosen = [entry for entry in held if not entry.key.startswith("bsds")]
    for number, entry in enumerate(chosen[:: max(1, len(chosen) // PHOTOS)][:PHOTOS]):
        sharp = sources.decode(entry)
        rng = np.random.default_rng([0, number])  # `shaken` draws the same kernel from this seed
        kernel = blur.kernel(blur.trajectory(rng, rng.uniform(*config.extent)))
        yield sharp, blur.shaken(np.random.default_rng([0, number]), sharp, config), kernel


def main() -> None:
    """Print the best settings and what they gain."""
    photos = list(blurred(sys.argv[1:]))
    nothing = np.mean([psnr(sharp, soft) for sharp, soft, _ in photos])
    print(f"{len(photos)} photos; doing nothing {nothing:.2f} dB")

    def score(ratio: float, sigma: float | None) -> float:
        values = []
        for sharp, soft, kernel in photos:
            drawn = kernel.astype(float) if sigma is None else gaussian(sigma)
            result = deconvolve(soft, Blur(kernel=drawn, gamma=2.2), ratio)
            values.append(psnr(sharp, np.floor(result * 255 + 0.5)))
        return float(np.mean(values))

    fixed = {(ratio, sigma): score(ratio, sigma) for ratio, sigma in product(RATIOS, SIGMAS)}
    ratio, sigma = max(fixed, key=fixed.__getitem__)
    print(f"one Gaussian: sigma {sigma}, ratio {ratio}: {fixed[ratio, sigma]:.2f} dB")
    true = {ratio: score(ratio, None) for ratio in RATIOS}
    best = max(true, key=true.__getitem__)
    print(f"true kernels: ratio {best}: {true[best]:.2f} dB")


if __name__ == "__main__":
    main()
