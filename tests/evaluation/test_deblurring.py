"""Deblurring is measured: shifted scores, Wiener filters and true kernels against oracles."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import convolve, map_coordinates
from skimage import restoration
from streams import blocks, stream

from retouch import models
from retouch.cli.evaluate import evaluate
from retouch.data import blur
from retouch.evaluation import blurred, methods, run, wiener
from retouch.evaluation.metrics import Column
from retouch.evaluation.pairs import EvaluationError
from retouch.evaluation.pixels import ScoreError, psnr
from retouch.evaluation.protocols import PROTOCOLS
from retouch.evaluation.shifted import aligned, psnr_shifted, ssim_shifted
from retouch.evaluation.similarity import ssim_gaussian11
from retouch.weights import files


def soft(seed: int, side: int) -> np.ndarray:
    """A smooth picture (side, side, 3), uint8."""
    return np.asarray(Image.fromarray(blocks(seed, 12, 12)).resize((side, side), 3))


def shaken(sharp: np.ndarray, kernel: np.ndarray, gamma: float) -> np.ndarray:
    """A picture convolved in light, mirrored at its borders."""
    light = (sharp / 255) ** gamma
    made = np.stack([convolve(light[..., c], kernel, mode="mirror") for c in range(3)], -1)
    return np.round(np.clip(made, 0, 1) ** (1 / gamma) * 255).astype(np.uint8)


def levin(truth: np.ndarray, picture: np.ndarray) -> float:
    """Their script, word by word: every quarter pixel of [-5, 5], bilinear; least squared error."""
    target = truth[15:-15, 15:-15].astype(float)
    rows, columns = np.mgrid[15 : truth.shape[0] - 15, 15 : truth.shape[1] - 15].astype(float)
    least = np.inf
    for y in np.arange(-5, 5.01, 0.25):
        for x in np.arange(-5, 5.01, 0.25):
            found = [
                map_coordinates(picture[..., c].astype(float), [rows + y, columns + x], order=1)
                for c in range(3)
            ]
            least = min(least, float(((np.stack(found, -1) - target) ** 2).mean()))
    return 10 * np.log10(255**2 / least)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -5.0), (-1.25, 2.5), (0.6, -0.3)])
def test_shifted_psnr_is_that_of_levins_search(shift: tuple[float, float]):
    truth = soft(1, 56)
    grid = np.mgrid[0:56, 0:56] - np.array(shift)[:, None, None]
    moved = [
        map_coordinates(truth[..., c].astype(float), grid, order=1, mode="nearest")
        for c in range(3)
    ]
    picture = np.clip(np.stack(moved, -1) + 4 * stream(3, 56, 56, 3), 0, 255).astype(np.uint8)
    assert psnr_shifted(truth, picture) == pytest.approx(levin(truth, picture), abs=1e-4)


def test_shifted_scores_forgive_whole_pixels_only_inside_the_reach():
    truth = soft(2, 64)
    for shift, perfect in (((4, -3), True), ((6, 0), False)):
        picture = np.roll(truth, shift, (0, 1))
        assert (psnr_shifted(truth, picture) == 100) == perfect
        assert (ssim_shifted(truth, picture) == pytest.approx(1)) == perfect
    inner, found = aligned(truth, truth // 2)
    assert inner.shape == (34, 34, 3)
    assert ssim_shifted(truth, truth // 2) == pytest.approx(ssim_gaussian11(inner, found))
    with pytest.raises(ScoreError, match="at least 41 px"):
        psnr_shifted(truth[:40], truth[:40])


def test_the_wiener_filter_is_scikit_images():
    picture = stream(1, 48, 40, 1)
    kernel = blur.kernel(blur.trajectory(np.random.default_rng(0), 9)).astype(float)
    ours = wiener.wiener(picture, kernel, 0.02)[..., 0]
    theirs: np.ndarray = restoration.wiener(picture[..., 0], kernel, 0.02, clip=False)  # pyright: ignore
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_true_kernels_undo_what_they_did():
    rng = np.random.default_rng(1)
    kernel = blur.kernel(blur.trajectory(rng, 9)).astype(float)
    sharp = blocks(3, 160, 160)
    picture = shaken(sharp, kernel, 2.2)
    result = wiener.deconvolve(picture, wiener.Blur(kernel=kernel, gamma=2.2), 1e-5) * 255
    inner = (slice(32, -32), slice(32, -32))
    assert psnr(sharp[inner], result[inner]) > psnr(sharp[inner], picture[inner]) + 7
    assert psnr(sharp, result) > psnr(sharp, picture) + 4


@pytest.mark.parametrize("gamma", [1.0, 2.2])
def test_kernels_are_found_whatever_their_turn_and_shift(gamma: float):
    rng = np.random.default_rng(5)
    kernels = [blur.kernel(blur.trajectory(rng, 9)) for _ in range(3)]
    used = np.rot90(kernels[1], 1)[:, ::-1].astype(float)
    sharp = np.asarray(Image.fromarray(blocks(4, 96, 96)))
    picture = np.roll(shaken(sharp, used, gamma), (2, -1), (0, 1))
    found = wiener.explain(sharp, picture, kernels)
    assert found.gamma == gamma
    reach = (found.kernel.shape[0] - used.shape[0]) // 2
    expected = np.roll(np.pad(used, reach), (2, -1), (0, 1))
    np.testing.assert_allclose(found.kernel, expected, atol=1e-6)
    with pytest.raises(ValueError, match="candidates"):
        wiener.explain(sharp, sharp, [])


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Four pairs of two kinds with their kernel, as a tar like the research pack."""
    rng = np.random.default_rng(2)
    kernel = blur.kernel(blur.trajectory(rng, 7))
    path = tmp_path / "pairs.tar"
    with tarfile.open(path, "w") as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        held = io.BytesIO()
        np.save(held, kernel)
        add("kernels/k.npy", held.getvalue())
        for number in range(4):
            kind = "real" if number < 2 else "made"
            sharp = soft(number, 64)
            for half, picture in (("sharp", sharp), ("blur", shaken(sharp, kernel, 1))):
                file = io.BytesIO()
                Image.fromarray(picture).save(file, "PNG")
                add(f"{kind}_{half}/p{number}.png", file.getvalue())
    return path


def network(tmp_path: Path) -> Path:
    """Random weights of a small deblurring network."""
    config = {"task": "deblur", "channels": 4, "blocks": (1, 1, 1, 1)}
    header = files.Header(network="semnet", config=config, name="semnet-random")
    path = tmp_path / "semnet-random.safetensors"
    files.save(path, header, models.build("semnet", **config).state_dict())
    return path


def test_a_network_that_says_nothing_returns_the_blurred_picture():
    network = models.build("semnet", task="deblur", channels=4, blocks=(1, 1, 1, 1))
    torch.nn.init.zeros_(network.get_parameter("output.weight"))
    image = torch.rand(1, 3, 16, 32)
    assert torch.equal(network(image), image)


def test_deblurring_is_evaluated_by_kind(pack: Path, tmp_path: Path):
    output = tmp_path / "out"
    evaluate(
        pictures=(pack,),
        output=output,
        weights=(network(tmp_path),),
        baselines=("all",),
        kernels=(pack,),
        protocol="deblur",
        device="cpu",
    )
    text = (output / "report.md").read_text()
    for said in ("real (n=2)", "made (n=2)", "wiener-true", "psnr_rgb_shifted [dB] ↑ by kind"):
        assert said in text, said
    html = (output / "report.html").read_text()
    assert "By kind" in html
    assert "% hole (" not in html
    found = blurred.make([pack], blurred.read_kernels([pack]))
    assert [pair.picture for pair in found.manifest.pairs] == [
        "made/p2",
        "made/p3",
        "real/p0",
        "real/p1",
    ]
    job = run.Job(
        pairs=found,
        methods=tuple(methods.baseline(name, task="deblur") for name in wiener.BASELINES),
        columns=(Column.parse("psnr_rgb"),),
        protocol=PROTOCOLS["deblur"],
        output=tmp_path / "own",
    )
    rows = run.evaluate_rows(job)
    truth, _ = found.open(0)
    blurred_twin = found.shown(0, truth, np.ones(truth.shape[:2], bool))
    assert rows["blurred"][0].scores["psnr_rgb"] == pytest.approx(psnr(truth, blurred_twin))
    best = [row.scores["psnr_rgb"] for row in rows["wiener-true"]]
    assert np.mean(best) > np.mean([row.scores["psnr_rgb"] for row in rows["blurred"]]) + 3


def test_pairs_of_a_report_are_scored_again_and_checked(pack: Path, tmp_path: Path):
    first = blurred.make([pack])
    first.manifest.save(tmp_path / "pairs.json")
    again = blurred.rebuild(tmp_path / "pairs.json", [pack])
    assert again.manifest == first.manifest
    text = (tmp_path / "pairs.json").read_text()
    (tmp_path / "pairs.json").write_text(text.replace(first.manifest.pairs[1].mask_sha256, "0"))
    with pytest.raises(EvaluationError, match=r"asks for made/p3, which is not there or has chan"):
        blurred.rebuild(tmp_path / "pairs.json", [pack])


def test_mistakes_are_one_line(pack: Path, tmp_path: Path):
    given = {"pictures": (pack,), "output": tmp_path / "out", "baselines": ("blurred",)}
    with pytest.raises(EvaluationError, match="takes no --masks and no --seed"):
        evaluate(**given, masks=("centre",), protocol="deblur")
    with pytest.raises(EvaluationError, match="goes with --protocol deblur, not with retouch"):
        evaluate(**given, masks=("centre",), kernels=(pack,))
    Image.fromarray(soft(1, 64)).save(tmp_path / "alone.png")
    with pytest.raises(EvaluationError, match=r"1 of 1 pictures have no blurred twin.*alone"):
        blurred.make([tmp_path / "alone.png"])
    np.save(tmp_path / "even.npy", np.full((4, 4), 1 / 16))
    with pytest.raises(EvaluationError, match="is no kernel: expected an odd square of sum 1"):
        blurred.read_kernels([tmp_path / "even.npy"])
    with pytest.raises(EvaluationError, match="wiener-true needs --kernels"):
        methods.chosen_baselines(["wiener-true"], blurred.make([pack]))
    chosen, left = methods.chosen_baselines(["all"], blurred.make([pack]))
    assert [method.name for method in chosen] == ["blurred", "wiener-gaussian"]
    assert left == ["wiener-true: it needs --kernels"]
    with pytest.raises(EvaluationError, match="no baseline 'telea' for deblurring"):
        methods.chosen_baselines(["telea"], blurred.make([pack]))
    with pytest.raises(EvaluationError, match="takes blur away: it needs --protocol deblur"):
        methods.network(network(tmp_path))
    with pytest.raises(EvaluationError, match="fills holes: it needs another than"):
        methods.network("dilated-photos", task="deblur")


def test_the_packs_kernels_are_recognised_by_their_pictures(shared: Path):
    place = shared / "data" / "deblur" / "pairs-000.tar"
    kernels = blurred.read_kernels([place])
    found = blurred.make([place], kernels)
    assert len(found) == 44
    for key, gamma in (("levin/im02_ker03", 1.0), ("synth/62096_k1", 2.2)):
        blurring = found.true_blur(key)
        number = int(key[-1]) - 1
        assert blurring.gamma == gamma
        assert np.sort(blurring.kernel[blurring.kernel > 0]) == pytest.approx(
            np.sort(kernels[number][kernels[number] > 0])
        )
