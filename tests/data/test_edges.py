"""Edges and gradients against scikit-image and the official code, and what a hole may tell."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from retouch.data import edges as edges_module
from retouch.data.edges import GRAY, canny, edges, sobel


def pictures(recipe: Any, *names: str) -> Tensor:
    found = np.stack([recipe.picture(name, 256, 256) for name in names])
    return torch.from_numpy(found.astype(np.float32) / np.float32(255)).permute(0, 3, 1, 2)


def bits(fixture: dict[str, NDArray[Any]], side: int) -> NDArray[Any]:
    return np.unpackbits(fixture[f"edge_bits_{side}"], axis=1).reshape(-1, 1, side, side)


def test_edges_equal_the_generator_fixture(parity: Any, recipe: Any):
    fixture = load_file(parity.folder / "structure_generator.safetensors")
    found = edges(pictures(recipe, "image"))
    np.testing.assert_array_equal(found.numpy(), bits(fixture, 256))


@pytest.mark.parametrize(("side", "first", "step"), [(256, 0, 1), (128, 1, 2), (64, 2, 4)])
def test_edges_equal_the_training_loader(
    parity: Any, recipe: Any, side: int, first: int, step: int
):
    fixture = load_file(parity.folder / "structure_losses.safetensors")
    image = pictures(recipe, "image", "image_b")[:, :, first::step, first::step]
    np.testing.assert_array_equal(edges(image).numpy(), bits(fixture, side))


@pytest.mark.parametrize(("side", "step"), [(256, 1), (128, 2), (64, 4)])
def test_edges_equal_the_readme_loss(parity: Any, recipe: Any, side: int, step: int):
    fixture = load_file(parity.folder / "structure_pyramid_loss.safetensors")
    image = pictures(recipe, "image", "image_b")[:, :, ::step, ::step] * 2 - 1
    np.testing.assert_array_equal(edges(image).numpy(), bits(fixture, side))


@pytest.mark.parametrize("seed", range(12))
def test_canny_equals_scikit_image(seed: int):
    feature = pytest.importorskip("skimage.feature", reason="scikit-image is an optional extra")
    rng = np.random.default_rng(seed)
    h, w = (int(n) for n in rng.integers(5, 80, 2))
    gray = ndimage.gaussian_filter(rng.random((h, w)), seed % 3) * (1 + seed % 4)
    known = ndimage.gaussian_filter(rng.random((h, w)), 3) > 0.5 if seed % 2 else None
    expected = feature.canny(gray, sigma=1.5, mask=known)
    found = canny(gray[None], known=None if known is None else known[None])
    np.testing.assert_array_equal(found[0], expected)


def test_every_picture_of_a_stack_is_on_its_own():
    rng = np.random.default_rng(5)
    stack: np.ndarray = ndimage.gaussian_filter(rng.random((3, 30, 40)), (0, 1, 1)) * 3
    alone = np.concatenate([canny(picture[None]) for picture in stack])
    assert alone.any()
    np.testing.assert_array_equal(canny(stack), alone)


def test_flat_pictures_have_no_edges():
    assert not canny(np.full((1, 20, 20), 0.5)).any()
    assert not canny(np.ones((1, 20, 20)), known=np.zeros((1, 20, 20), dtype=bool)).any()


def test_weights_of_gray_sum_to_one():
    assert sum(GRAY) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"gray": np.zeros((4, 4))}, r"\(n, h, w\)"),
        ({"gray": np.zeros((1, 4, 4)), "known": np.ones((1, 4, 5), dtype=bool)}, r"\(1, 4, 5\)"),
        ({"gray": np.zeros((1, 4, 4)), "low": 0.3}, "low <= high, got 0.3 and 0.2"),
    ],
)
def test_canny_refuses(arguments: dict[str, Any], match: str):
    with pytest.raises(ValueError, match=match):
        canny(**arguments)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31))
def test_guides_tell_nothing_of_the_hole(seed: int):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, 24, 32, generator=generator)
    mask = (torch.rand(2, 1, 24, 32, generator=generator) > 0.8).float()
    other = torch.where(mask > 0, torch.rand(image.shape, generator=generator) * 100, image)
    assert torch.equal(edges(image, mask), edges(other, mask))
    assert torch.equal(sobel(image, mask), sobel(other, mask))


def test_no_guide_lies_on_or_beside_the_hole():
    image = torch.rand(1, 3, 40, 40)
    mask = torch.zeros(1, 1, 40, 40)
    mask[:, :, 10:20, 15:30] = 1
    ring = functional.max_pool2d(mask, 3, stride=1, padding=1)
    assert not (edges(image, mask) * ring).any()
    assert not (sobel(image, mask) * ring).any()


def test_sobel_without_a_hole_near_is_the_plain_gradient():
    image = torch.rand(1, 3, 20, 20)
    mask = torch.zeros(1, 1, 20, 20)
    mask[:, :, :4, :4] = 1
    far = sobel(image, mask)[:, :, 5:, 5:]
    torch.testing.assert_close(far, sobel(image)[:, :, 5:, 5:], rtol=0, atol=0)


def test_sobel_matches_the_loops():
    """Correlation with the textbook kernels over a reflected border; down comes before right."""
    image = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    padded = np.pad(image.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    down = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], dtype=float)
    expected = np.zeros((2, 6, 5, 6))
    for c in range(3):
        for turn, kernel in enumerate((down, down.T)):
            for i in range(5):
                for j in range(6):
                    window = padded[:, c, i : i + 3, j : j + 3]
                    expected[:, 2 * c + turn, i, j] = (window * kernel).sum((1, 2))
    np.testing.assert_allclose(sobel(image).numpy(), expected, atol=1e-14)


def test_edges_keep_dtype_and_carry_no_gradient():
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    found = edges(image)
    assert found.dtype == image.dtype
    assert not found.requires_grad
    assert edges(image.detach().bfloat16()).dtype == torch.bfloat16


def test_edges_are_traced_as_one_operator():
    image, mask = torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    torch.library.opcheck(torch.ops.retouch.canny.default, (image, mask, 1.5))


@pytest.mark.parametrize("seed", range(4))
def test_the_form_for_graphs_finds_the_same_edges(seed: int):
    rng = np.random.default_rng(seed)
    h, w = rng.integers(30, 90, 2)
    pixels = rng.integers(0, 256, (2, h // 4 + 1, w // 4 + 1, 3)).repeat(4, 1).repeat(4, 2)
    image = torch.from_numpy(pixels[:, :h, :w]).permute(0, 3, 1, 2).float() / 255
    mask = torch.zeros(2, 1, h, w)
    mask[:, :, 5:12, 8:25] = 1
    for hole in (None, mask):
        found = edges_module._edges_in_graph(image, hole, 1.5)
        assert torch.equal(found, edges(image, hole))
        assert found.any()
