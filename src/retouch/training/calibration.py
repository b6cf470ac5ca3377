"""What the papers' content and style weights become with the unit-mean VGG-19.

The papers' weights belong to the activations of the VGG-19 that they used. The file with each
channel scaled to unit mean activation gives other values: equal weights would silently be other
weights. `FACTORS` are the quotients (theirs / unit-mean) of each term before the first step,
medians over eight photos of 256 px, by `benchmarks/calibration.py`. Their file was not at hand:
torchvision's VGG-16, the backbone of LPIPS, stood in for its VGG-19 (same training, same widths,
three convolutions fewer). From photo to photo the quotients vary by a factor of two.
"""

import logging
from collections.abc import Mapping

from retouch.layers.vgg import Scaling

FACTORS: Mapping[str, Mapping[str, float]] = {
    "isnet": {"content": 0.45, "style": 0.15},
    "semnet": {"content": 0.50, "style": 0.14},
    "structure": {"content": 0.34, "style": 0.14},
    "semantic": {"coarse_content": 1.2, "content": 1.2},
}
"""Factors of the published weights by network and term; networks that are not here have weights
that were found with the unit-mean file, or none."""

log = logging.getLogger(__name__)


def calibrated(network: str, weights: Mapping[str, float], scaling: Scaling) -> dict[str, float]:
    """Fit an objective's published weights to the VGG-19 at hand, and say so.

    Args:
        network: Name of the network whose objective it is.
        weights: Weight of each generator term, as published.
        scaling: Of the VGG-19 file.

    Returns:
        The weights to train with.
    """
    factors = FACTORS.get(network, {}) if scaling == "unit-mean" else {}
    changed = {key: weights[key] * factor for key, factor in factors.items() if weights.get(key)}
    if changed:
        told = ", ".join(f"{key} {weights[key]:g} -> {value:.3g}" for key, value in changed.items())
        log.info("weights of %s fitted to the unit-mean VGG-19: %s", network, told)
    return {**weights, **changed}
