"""Camera shake of our own making: random trajectories, their kernels, pictures blurred by them.

A trajectory is a walk whose velocity changes at random and is pulled back to the start, with a few
sudden jerks, as a hand does in the time of one exposure (the model of Boracchi and Foi, "Modeling
the Performance of Image Restoration from Motion Blur", TIP 2012, in words; parameters are ours).
"""

import cv2
import numpy as np
from numpy.random import Generator

from retouch.data.config import BlurConfig

_STEPS = 256


def trajectory(rng: Generator, extent: float) -> np.ndarray:
    """Draw the path of a camera during one exposure.

    Args:
        rng: Source of randomness.
        extent: Longer side of the path's bounding box [px].

    Returns:
        (256, 2) positions y, x [px], centred on their mean.
    """
    angle = rng.uniform(0, 2 * np.pi)
    velocity = np.array([np.sin(angle), np.cos(angle)])
    restless, jerky = rng.uniform(0.01, 0.25), rng.uniform(0, 0.03)
    points = np.zeros((_STEPS, 2))
    for step in range(1, _STEPS):
        if rng.random() < jerky:
            turn = rng.uniform(0.5, 1.5) * np.pi
            rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            velocity = rotation @ velocity
        pull = -0.004 * rng.random() * points[step - 1]
        velocity = velocity + restless * rng.normal(size=2) + pull
        velocity = velocity / max(1e-6, float(np.hypot(*velocity)))
        points[step] = points[step - 1] + velocity
    spread = float(np.ptp(points, axis=0).max())
    return (points - points.mean(axis=0)) * (extent / max(spread, 1e-6))


def kernel(path: np.ndarray) -> np.ndarray:
    """Share of the exposure spent at each pixel offset.

    Args:
        path: (n, 2) positions y, x [px] around 0.

    Returns:
        float32 (k, k), k odd, sum 1; the centre is offset 0.
    """
    reach = int(np.ceil(np.abs(path).max())) + 1
    side = 2 * reach + 1
    canvas = np.zeros((side, side), np.float32)
    below = np.floor(path).astype(int)
    part = path - below
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
            np.add.at(canvas, (below[:, 0] + dy + reach, below[:, 1] + dx + reach), weight)
    return canvas / canvas.sum()


def reach(config: BlurConfig) -> int:
    """How far the longest trajectory carries light [px]: what a crop must see round itself."""
    return int(np.ceil(config.extent[1])) + 1


def shaken(rng: Generator, picture: np.ndarray, config: BlurConfig) -> np.ndarray:
    """Blur a picture along a random trajectory, in linear light or near it, and add noise.

    Args:
        rng: Source of randomness.
        picture: uint8 RGB (h, w, 3).
        config: How strong.

    Returns:
        uint8 RGB (h, w, 3).
    """
    drawn = kernel(trajectory(rng, rng.uniform(*config.extent)))
    gamma = rng.uniform(*config.gamma)
    linear = (picture.astype(np.float32) / 255) ** gamma
    # filter2D correlates: the kernel is turned to convolve.
    turned = np.ascontiguousarray(drawn[::-1, ::-1])
    soft = cv2.filter2D(linear, -1, turned, borderType=cv2.BORDER_REFLECT_101)
    soft = np.clip(soft, 0, 1) ** (1 / gamma)
    noise = rng.normal(0, rng.uniform(*config.noise), picture.shape)
    return np.clip(np.round((soft + noise) * 255), 0, 255).astype(np.uint8)
