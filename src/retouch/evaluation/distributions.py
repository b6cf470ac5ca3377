"""Distances between two sets of pictures, from their Inception features: FID, KID, U-IDS, P-IDS.

Papers: Heusel et al., NeurIPS 2017, arXiv:1706.08500 (FID); Binkowski et al., ICLR 2018,
arXiv:1801.01401 (KID); Zhao et al., ICLR 2021, arXiv:2103.10428 (U-IDS, P-IDS).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

__all__ = ["IDS_MINIMUM", "Estimate", "fid", "ids", "kid"]

Features = NDArray[np.floating]

IDS_MINIMUM = 5000
"""Fewer pictures than features can always be separated by a plane, so the scores would be 0."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


def fid(truth: Features, pictures: Features) -> float:
    """Frechet distance of two Gaussians fitted to the features.

    It is biased upwards by a term that falls with the number of pictures, so quote it with n and
    compare only equal n.

    Args:
        truth: (n, d), n at least 2.
        pictures: (m, d).
    """
    a, b = _matrix(truth), _matrix(pictures)
    mean = float(np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2))
    a = (a - a.mean(axis=0)) / np.sqrt(len(a) - 1)
    b = (b - b.mean(axis=0)) / np.sqrt(len(b) - 1)
    # With A'A and B'B the covariances, the trace of sqrt(A'A B'B) is the nuclear norm of A B':
    # exact also where there are fewer pictures than features and the covariances are singular.
    shared = float(np.linalg.svd(_reduce(a) @ _reduce(b).T, compute_uv=False).sum())
    return mean + float(np.sum(a**2) + np.sum(b**2)) - 2 * shared


def _reduce(a: Features) -> Features:
    """Replace a tall matrix by the triangle with the same products A'A."""
    return a if a.shape[0] <= a.shape[1] else np.asarray(np.linalg.qr(a, mode="r"))


def kid(truth: Features, pictures: Features, *, paired: bool = False) -> Estimate:
    """Kernel distance: unbiased squared MMD under the kernel (x.y / d + 1)^3.

    Over all pictures, which is what the mean over random subsets (Binkowski 2018) estimates; the
    interval is normal with the delete-one jackknife's deviation over pictures.

    Args:
        truth: (n, d), n at least 3.
        pictures: (n, d), row i made from the same picture as row i of `truth`.
        paired: Leave out the terms of a picture with its own truth. The usual KID takes the two
            sets for independent; for inpainting they are not, and it comes out too low.
    """
    a, b = _matrix(truth), _matrix(pictures)
    if a.shape != b.shape:
        raise ValueError(f"KID needs as many pictures as truths, got {len(b)} and {len(a)}")
    n = len(a)
    if n < 3:
        raise ValueError(f"KID needs at least 3 pictures, got {n}")
    within = _kernel(a, a) + _kernel(b, b)
    np.fill_diagonal(within, 0)
    across = _kernel(a, b)
    if paired:
        np.fill_diagonal(across, 0)
    # Row sums tell what each picture contributes, so all n leave-one-out values cost no more.
    within_part = within.sum(axis=0) + within.sum(axis=1)
    across_part = across.sum(axis=0) + across.sum(axis=1) - np.diagonal(across)
    value = _mmd(within.sum(), across.sum(), n, paired=paired)
    without = _mmd(within.sum() - within_part, across.sum() - across_part, n - 1, paired=paired)
    spread = np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
    value, margin = float(value), 1.96 * float(spread)
    return Estimate(value=value, low=value - margin, high=value + margin)


def _kernel(a: Features, b: Features) -> Features:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mmd(within: Features, across: Features, n: int, *, paired: bool) -> Features:
    return within / (n * (n - 1)) - 2 * across / (n * (n - 1) if paired else n * n)


def ids(truth: Features, pictures: Features, *, minimum: int = IDS_MINIMUM) -> tuple[float, float]:
    """U-IDS and P-IDS: how often a linear support vector machine is fooled, in percent.

    The machine is scikit-learn's LinearSVC with its defaults (squared hinge, C = 1, penalised
    intercept), whose optimum is unique. It is fitted to the very features that it judges, as in
    the paper's code.

    Args:
        truth: (n, d).
        pictures: (n, d), row i made from the same picture as row i of `truth`.
        minimum: Refuse fewer pictures.

    Returns:
        U-IDS (share of misjudged pictures, 50 = indistinguishable) and P-IDS (share of pairs in
        which the made picture looks more real than the true one) [%].

    Raises:
        ValueError: If there are fewer than `minimum` pictures.
    """
    a, b = _matrix(truth), _matrix(pictures)
    if min(len(a), len(b)) < minimum:
        raise ValueError(
            f"U-IDS and P-IDS need at least {minimum} pictures, got {min(len(a), len(b))}: "
            "fewer can always be told apart by 2048 features"
        )
    x = np.concatenate([a, b])
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    label = np.concatenate([np.ones(len(a)), -np.ones(len(b))])
    score = x @ _separate(x, label)
    real, made = score[: len(a)], score[len(a) :]
    unpaired = (np.mean(real < 0) + np.mean(made > 0)) / 2
    return 100 * float(unpaired), 100 * float(np.mean(made > real))


def _separate(x: Features, label: NDArray[np.floating]) -> NDArray[np.floating]:
    """Minimise |w|^2 / 2 + sum max(0, 1 - label x.w)^2."""

    def objective(w: NDArray[np.floating]) -> tuple[float, NDArray[np.floating]]:
        slack = np.maximum(0, 1 - label * (x @ w))
        return float(w @ w / 2 + slack @ slack), w - 2 * x.T @ (label * slack)

    options = {"maxiter": 5000, "maxfun": 10000, "gtol": 1e-6, "ftol": 1e-14}
    return minimize(objective, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options=options).x


def _matrix(features: Features) -> Features:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features must be (n, d) with n of at least 2, got {features.shape}")
    return features
