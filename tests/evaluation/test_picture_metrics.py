"""Pixel and similarity metrics against scikit-image, pytorch-msssim, sewar and the oracles."""

import zlib
from functools import partial
from typing import Any

import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from streams import pair

from retouch.evaluation import pixels, similarity

TRUTH, PICTURE = pair(180, 192)


@pytest.mark.parametrize("index", range(4))
def test_agrees_with_the_parity_oracles(parity: Any, index: int):
    seeded = parity.recipe
    expected = parity.json("metrics.json")["pairs"][index]
    h, w = expected["size"]
    truth = seeded.picture(f"metric{index}", h, w)
    noise = (2 + 5 * index) * seeded.normal(f"metric{index}/noise", (h, w, 3))
    noisy = np.clip(np.floor(truth + noise + 0.5), 0, 255)
    hole = seeded.holes(f"metric{index}/mask", h, w)[..., None] > 0
    picture = np.where(hole, np.floor(0.8 * noisy + 30), noisy).astype(np.uint8)
    crc = zlib.crc32(picture.tobytes(), zlib.crc32(truth.tobytes()))
    assert f"{crc:08x}" == expected["pixels_crc"]

    exact = {
        "psnr_rgb_255": pixels.psnr,
        "psnr_grey_01": pixels.psnr_grey,
        "ssim_rgb_gaussian11_valid": similarity.ssim_gaussian11,
        "ssim_rgb_gaussian11_zero_padding": similarity.ssim_gaussian11_zero_padded,
        "ssim_rgb_uniform7_255": similarity.ssim_uniform,
        "ssim_rgb_uniform51_255": partial(similarity.ssim_uniform, size=51),
        "ssim_grey_uniform51": similarity.ssim_grey_uniform51,
        "ms_ssim_rgb": similarity.ms_ssim,
    }
    for name in exact.keys() & expected.keys():
        assert exact[name](truth, picture) == pytest.approx(expected[name], abs=1e-9), name
    assert pixels.l1(truth, picture) / 100 == pytest.approx(expected["l1_mean_01"], abs=1e-9)
    quotients = {
        "relative_l1_grey": pixels.relative_l1_grey,
        "relative_l1_rgb_255": pixels.relative_l1,
    }
    for name, metric in quotients.items():  # float32 in the reference
        assert metric(truth, picture) / 100 == pytest.approx(expected[name], abs=3e-5)
    close = {
        "psnr_rgb_255_tf": pixels.psnr,
        "ssim_rgb_gaussian11_valid_tf": similarity.ssim_gaussian11,
        "ssim_rgb_gaussian11_zero_padding_isnet_torch": similarity.ssim_gaussian11_zero_padded,
        "ms_ssim_rgb_255_tf": similarity.ms_ssim,
    }
    for name in close.keys() & expected.keys():
        assert close[name](truth, picture) == pytest.approx(expected[name], abs=3e-5), name


def test_agrees_with_scikit_image():
    a, b = rgb2gray(TRUTH), rgb2gray(PICTURE)
    whole = partial(structural_similarity, TRUTH, PICTURE, channel_axis=-1)
    gaussian = whole(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert pixels.psnr(TRUTH, PICTURE) == pytest.approx(
        peak_signal_noise_ratio(TRUTH, PICTURE), abs=1e-9
    )
    assert pixels.psnr_grey(TRUTH, PICTURE) == pytest.approx(
        peak_signal_noise_ratio(a, b, data_range=1), abs=1e-9
    )
    assert similarity.ssim_gaussian11(TRUTH, PICTURE) == pytest.approx(gaussian, abs=1e-9)
    assert similarity.ssim_uniform(TRUTH, PICTURE) == pytest.approx(whole(), abs=1e-9)
    assert similarity.ssim_uniform(TRUTH, PICTURE, size=51) == pytest.approx(
        whole(win_size=51), abs=1e-9
    )
    assert similarity.ssim_grey_uniform51(TRUTH, PICTURE) == pytest.approx(
        structural_similarity(a, b, win_size=51, data_range=1), abs=1e-9
    )


def test_agrees_with_pytorch_msssim():
    # pytorch-msssim 1.0.0: ms_ssim(a, b, data_range=255) and ssim(...) on float64 tensors; its
    # window is float32.
    assert similarity.ms_ssim(TRUTH, PICTURE) == pytest.approx(0.9588540424150693, abs=3e-6)
    assert similarity.ssim_gaussian11(TRUTH, PICTURE) == pytest.approx(0.7600125173437101, abs=3e-6)


def test_agrees_with_sewar():
    # sewar 0.4.10: uqi(a, b) and vifp(a, b) on rgb2gray in [0, 1]
    assert similarity.uqi_grey(TRUTH, PICTURE, sewar=True) == pytest.approx(
        0.9861529849878479, abs=1e-9
    )
    assert similarity.vif_grey(TRUTH, PICTURE) == pytest.approx(0.6447002425984367, abs=1e-9)


def test_uqi_agrees_with_the_formula():
    a, b = (rgb2gray(p)[:20, :20] for p in (TRUTH, PICTURE))
    values = []
    for i in range(13):
        for j in range(13):
            x, y = a[i : i + 8, j : j + 8], b[i : i + 8, j : j + 8]
            covariance = np.mean((x - x.mean()) * (y - y.mean()))
            top = 4 * covariance * x.mean() * y.mean()
            values.append(top / ((x.var() + y.var()) * (x.mean() ** 2 + y.mean() ** 2)))
    value = similarity.uqi_grey(TRUTH[:20, :20], PICTURE[:20, :20])
    assert value == pytest.approx(float(np.mean(values)), abs=1e-9)


@pytest.mark.parametrize(
    ("metric", "best"),
    [
        (pixels.psnr, 100),
        (pixels.psnr_grey, 100),
        (pixels.l1, 0),
        (pixels.relative_l1, 0),
        (pixels.relative_l1_grey, 0),
        (similarity.ssim_gaussian11, 1),
        (similarity.ssim_gaussian11_zero_padded, 1),
        (similarity.ssim_uniform, 1),
        (similarity.ssim_grey_uniform51, 1),
        (similarity.ms_ssim, 1),
        (similarity.uqi_grey, 1),
        (similarity.vif_grey, 1),
    ],
)
def test_equal_pictures_get_the_best_value(metric, best: float):
    assert metric(TRUTH, TRUTH) == pytest.approx(best, abs=1e-7)
    assert metric(TRUTH, PICTURE) != pytest.approx(best, abs=1e-3)


def test_the_hole_alone_counts():
    hole = np.zeros(TRUTH.shape[:2], dtype=bool)
    hole[60:90, 70:100] = True
    outside = np.where(hole[..., None], TRUTH, PICTURE)
    inside = np.where(hole[..., None], PICTURE, TRUTH)
    for metric in (pixels.psnr, pixels.l1, pixels.relative_l1, pixels.psnr_grey):
        assert metric(TRUTH, inside, hole) == pytest.approx(metric(TRUTH, PICTURE, hole))
        assert metric(TRUTH, outside, hole) == metric(TRUTH, TRUTH)
    assert pixels.l1(TRUTH, inside) == pytest.approx(
        pixels.l1(TRUTH, inside, hole) * hole.mean(), rel=1e-12
    )
    for metric in (similarity.ssim_gaussian11, similarity.ssim_uniform):
        assert metric(TRUTH, inside, hole) < metric(TRUTH, inside)


def test_ssim_of_a_hole_outside_all_windows_is_nan():
    hole = np.zeros(TRUTH.shape[:2], dtype=bool)
    hole[:3, :3] = True
    assert np.isnan(similarity.ssim_gaussian11(TRUTH, PICTURE, hole))


@pytest.mark.parametrize(
    ("metric", "side"),
    [
        (similarity.ssim_gaussian11, 11),
        (similarity.ssim_uniform, 7),
        (similarity.ssim_grey_uniform51, 51),
        (similarity.ms_ssim, 176),
    ],
)
def test_too_small_pictures_are_refused(metric, side: int):
    small = TRUTH[: side - 1, : side - 1]
    with pytest.raises(ValueError, match=f"at least {side} px"):
        metric(small, small)
    metric(TRUTH[:side, :side], PICTURE[:side, :side])


def test_ms_ssim_takes_odd_sides():
    assert 0.9 < similarity.ms_ssim(TRUTH[:179, :191], PICTURE[:179, :191]) < 1
