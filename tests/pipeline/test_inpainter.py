"""The door: known pixels are sacred, results are repeatable, every form of picture is taken."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retouch import models, pictures
from retouch.pictures import Picture, PictureError
from retouch.pipeline.inpainter import Inpainter, OptionError
from retouch.pipeline.options import FillOptions
from retouch.weights.files import Header

MEADOW = Path(__file__).parents[2] / "examples" / "meadow.jpg"


def make(name: str, **more: object) -> Inpainter:
    torch.manual_seed(0)
    facts = models.card(name)
    config = {**facts.small, **more}
    network = facts.model(facts.config(**config))
    for key, weight in network.named_parameters() if name == "dilated" else ():
        if key.endswith("second.weight"):  # blocks that start at zero would see nothing
            torch.nn.init.normal_(weight, std=0.1)
    return Inpainter(network, Header(network=name, config=config), precision="float32")


@pytest.fixture(scope="module", params=models.names())
def inpainter(request: pytest.FixtureRequest) -> Inpainter:
    return make(request.param)


@pytest.fixture(scope="module")
def local() -> Inpainter:
    return make("dilated")


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    white = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, white + 1, shape).astype(dtype)


def hole(h: int, w: int) -> np.ndarray:
    mask = np.zeros((h, w), bool)
    mask[h // 3 : h // 2 + 1, w // 4 : w // 2 + 1] = True
    return mask


@pytest.mark.parametrize("size", [(64, 64), (97, 61), (40, 131)])
def test_every_network_fills_odd_sizes_and_keeps_known_pixels(
    inpainter: Inpainter, size: tuple[int, int]
):
    image, mask = noise(*size, 3), hole(*size)
    filled = inpainter.fill(image, mask)
    assert filled.shape == image.shape
    assert filled.dtype == image.dtype
    assert np.array_equal(filled[~mask], image[~mask])
    assert (filled[mask] != image[mask]).any()


@settings(max_examples=40, deadline=None)
@given(
    h=st.integers(1, 150),
    w=st.integers(1, 150),
    grey=st.booleans(),
    deep=st.booleans(),
    dilate=st.integers(0, 6),
    feather=st.integers(0, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_known_pixels_are_bit_identical(
    local: Inpainter,
    h: int,
    w: int,
    grey: bool,
    deep: bool,
    dilate: int,
    feather: int,
    seed: int,
):
    rng = np.random.default_rng(seed)
    dtype = np.uint16 if deep else np.uint8
    shape = (h, w) if grey else (h, w, 3)
    image = rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    mask = np.zeros((h, w), bool)
    top, left = rng.integers(0, h), rng.integers(0, w)
    mask[top : top + rng.integers(1, h + 1), left : left + rng.integers(1, w + 1)] = True
    before = image.copy()
    feather = min(feather, dilate)
    filled = local.fill(image, mask, dilate=dilate, feather=feather)
    from retouch.pipeline.compositing import dilate as widen

    outside = ~widen(mask, dilate)
    assert np.array_equal(filled[outside], image[outside])
    assert np.array_equal(image, before)
    again = local.fill(image, mask, dilate=dilate, feather=feather)
    assert np.array_equal(filled, again)


def test_a_consumed_picture_is_filled_in_its_own_array(local: Inpainter):
    pixels, mask = noise(90, 120, 3), hole(90, 120)
    kept = local.fill_picture(Picture(pixels=pixels), mask)
    assert not np.shares_memory(kept.pixels, pixels)
    assert mask.any()
    filled = local.fill_picture(Picture(pixels=pixels), mask.copy(), consume=True)
    assert filled.pixels is pixels
    assert np.array_equal(filled.pixels, kept.pixels)


def test_what_is_under_the_mask_does_not_matter(local: Inpainter):
    image, mask = noise(200, 300, 3), hole(200, 300)
    other = image.copy()
    other[mask] = 7
    assert np.array_equal(local.fill(image, mask), local.fill(other, mask))


def test_an_empty_mask_returns_the_picture(local: Inpainter):
    image = noise(50, 60, 3)
    assert np.array_equal(local.fill(image, np.zeros((50, 60), bool)), image)


def test_a_full_mask_is_filled(local: Inpainter):
    filled = local.fill(noise(50, 60, 3), np.ones((50, 60), bool))
    assert filled.shape == (50, 60, 3)


def test_forms_come_back_as_they_were_given(local: Inpainter, tmp_path: Path):
    image, mask = noise(64, 80, 3), hole(64, 80)
    array = local.fill(image, mask)
    pil = local.fill(Image.fromarray(image), Image.fromarray(mask))
    assert isinstance(pil, Image.Image)
    assert np.array_equal(np.asarray(pil), array)

    tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    filled = local.fill(tensor, torch.from_numpy(mask)[None, None].float())
    known = torch.from_numpy(~mask).expand_as(filled)
    assert filled.shape == tensor.shape
    assert torch.equal(filled[known], tensor[known])

    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    picture = local.fill(tmp_path / "a.png", str(tmp_path / "m.png"))
    pictures.write(tmp_path / "b.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), array)


def test_floats_keep_their_known_values_exactly(local: Inpainter):
    image = np.random.default_rng(0).random((40, 40, 3)).astype(np.float32)
    mask = hole(40, 40)
    filled = local.fill(image, mask)
    assert filled.dtype == np.float32
    assert np.array_equal(filled[~mask], image[~mask])


def test_alpha_is_carried(local: Inpainter):
    image, mask = noise(40, 50, 4), hole(40, 50)
    filled = local.fill(image, mask)
    assert np.array_equal(filled[..., 3], image[..., 3])
    assert np.array_equal(filled[~mask], image[~mask])


def test_large_thick_holes_are_filled_at_full_size(local: Inpainter):
    image, mask = noise(900, 1400, 3), np.zeros((900, 1400), bool)
    mask[200:700, 300:1100] = True
    filled = local.fill(image, mask)
    assert np.array_equal(filled[~mask], image[~mask])
    assert filled[mask].std() > 1


@pytest.mark.parametrize(
    ("name", "more"),
    [("dilated", {}), ("dilated", {"half": 2, "eighth": (1, 2)}), ("isnet", {"isometric": True})],
)
def test_context_is_how_far_gradients_come(name: str, more: dict[str, object]):
    facts = models.card(name)
    config = facts.config(**{**facts.small, **more})
    torch.manual_seed(0)
    network = facts.model(config).double().eval()
    for parameter in network.parameters() if name == "dilated" else ():
        torch.nn.init.normal_(parameter, std=0.1)  # blocks start at zero
    seen, cell = facts.context(config), facts.multiple_of
    assert seen is not None
    first = -(-seen // cell) * cell + cell
    side = 2 * first + cell
    image = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    made = network(image, torch.zeros(1, 1, side, side, dtype=torch.float64))
    one = made[..., first : first + cell, first : first + cell].square().sum()
    (gradient,) = torch.autograd.grad(one, image)
    rows = torch.nonzero(gradient.abs().amax((0, 1, 3))).flatten()
    assert first - int(rows.min()) == seen
    assert int(rows.max()) - (first + cell - 1) <= seen


@pytest.mark.parametrize("name", ["dilated", "isnet"])
def test_tiling_agrees_with_one_piece(monkeypatch: pytest.MonkeyPatch, name: str):
    from retouch.pipeline import tiles

    network = make(name)
    rng = np.random.default_rng(1)
    image = rng.random((1100, 900, 3)).astype(np.float32)
    mask = np.zeros((1100, 900), bool)
    mask[:, 400:440] = True
    whole = network.paint(image, mask)
    monkeypatch.setattr(tiles, "LARGEST", 256)
    tiled = network.predict(image, mask)
    assert np.abs(whole - tiled)[mask].max() < 1 / 255


def test_a_bare_prediction_has_known_pixels_of_its_own():
    image = np.random.default_rng(0).random((256, 256, 3), np.float32)
    mask = np.zeros((256, 256), bool)
    mask[20:40, 20:40] = True
    network = make("dilated")
    bare, fill = network.paint(image, mask), network.predict(image, mask)
    assert np.abs(bare - image)[200:].min() > 0
    assert np.array_equal(fill[200:], image[200:])
    assert np.abs(bare - fill)[mask].max() < 1 / 255


def test_passes_are_counted_before_they_are_made(monkeypatch: pytest.MonkeyPatch):
    network = make("dilated")
    mask = np.zeros((900, 1400), bool)
    mask[430:436, 20:1380] = True
    mask[40:800, 700:706] = True
    made: list[int] = []
    run = network.passes
    monkeypatch.setattr(network, "passes", lambda x, m: made.append(len(x)) or run(x, m))
    expected = network.passes_for(mask)
    network.fill(np.zeros((900, 1400, 3), np.uint8), mask)
    assert expected == len(made) > 2


def test_a_plain_sky_goes_on_into_a_hole_in_the_corner():
    rng, sky = np.random.default_rng(0), np.array([120, 150, 190])
    picture = (sky + rng.normal(0, 6, (560, 700, 1))).clip(0, 255).astype(np.uint8)
    mask = np.zeros((560, 700), bool)
    mask[:150, :190] = True  # its crop has 311 x 351 px, most of which is hole
    corner = Inpainter.load().fill(picture, mask)[:40, :40]
    assert np.abs(corner.mean((0, 1)) - sky).max() < 12  # 63 when crops kept 128 px


@pytest.mark.parametrize("thick", [6, 30, 70])
def test_tiles_of_the_default_weights_see_all_that_is_felt(
    monkeypatch: pytest.MonkeyPatch, thick: int
):
    network = Inpainter.load()
    image = np.asarray(pictures.read(MEADOW).pixels[:680, :640] / 255, np.float32)
    mask = np.zeros((680, 640), bool)
    mask[:, 280 : 280 + thick] = True
    whole = network.paint(image, mask)
    tiles: list[tuple[int, ...]] = []
    run = network.paint
    monkeypatch.setattr(network, "paint", lambda x, m: tiles.append(m.shape) or run(x, m))
    fill = network.predict(image, mask)
    assert max(tiles)[1] <= thick + 2 * (80 + thick + 16)
    assert np.abs(whole - fill)[mask].max() < 1 / 255
    ring = np.zeros_like(mask)
    ring[:, 272:280] = True
    assert np.abs(whole - fill)[ring].max() < 1 / 255  # where the colour step is measured


@pytest.mark.parametrize(("reach", "seen"), [(None, [256]), (64, [224, 112])])
def test_thick_holes_are_filled_smaller_if_the_weights_say_so(
    monkeypatch: pytest.MonkeyPatch, reach: int | None, seen: list[int]
):
    inpainter = make("structure")
    header = replace(inpainter.header, reach=reach)
    inpainter = Inpainter(inpainter.network, header, precision="float32")
    sides: list[int] = []
    run = inpainter.passes
    monkeypatch.setattr(inpainter, "passes", lambda x, m: sides.append(x.shape[-1]) or run(x, m))
    mask = np.zeros((256, 256), bool)
    mask[64:192, 64:192] = True
    inpainter.predict(np.zeros((256, 256, 3), np.float32), mask)
    assert sides == seen


def test_a_wide_feather_agrees_in_blocks(monkeypatch: pytest.MonkeyPatch):
    from retouch.pipeline import blocks

    inpainter = make("dilated")
    image = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    mask = np.zeros((400, 500), bool)
    mask[150:250, 120:380] = True
    fills = []
    for side in (10_000, 100):
        monkeypatch.setattr(blocks, "_SIDE", side)
        fills.append(inpainter.fill(image, mask, dilate=100, feather=100).astype(int))
    assert np.abs(fills[0] - fills[1]).max() <= 1


@pytest.mark.parametrize("kind", ["thick", "thin", "two"])
@pytest.mark.parametrize("name", ["dilated", "structure", "semantic"])
def test_filling_in_blocks_agrees_with_one_piece(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str
):
    from retouch.pipeline import blocks, framing, tiles

    monkeypatch.setattr(tiles, "LARGEST", 256)
    if kind == "two":  # where the second hole's frame is depends on what is known of the first
        monkeypatch.setattr(framing, "find", lambda *_: None)
    inpainter = make(name)
    coarse = torch.from_numpy(np.random.default_rng(1).random((1, 3, 40, 60), np.float32))
    image = torch.nn.functional.interpolate(coarse, (701, 1000), mode="bicubic").clamp(0, 1)
    image = (image[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    mask = np.zeros((701, 1000), bool)
    if kind == "thin":
        mask[20:680, 471:477] = mask[340:350, 60:930] = True
    else:
        mask[100:400, 211:640] = True
        mask[430:440, 650:900] = kind == "two"
    with monkeypatch.context() as large:
        large.setattr(blocks, "_SIDE", 10_000)
        whole = inpainter.fill(image, mask, dilate=5, feather=4, refine=False)
    with monkeypatch.context() as small:
        small.setattr(blocks, "LARGEST", 10_000)
        small.setattr(blocks, "_SIDE", 100)
        before = image.copy()
        parts = inpainter.fill(image, mask, dilate=5, feather=4, refine=False)
        assert np.array_equal(image, before)
    if kind == "two":  # the second hole sees the first fill's rounding: give both the same
        second, begun = mask.copy(), image.copy()
        second[:420] = False
        begun[:420] = parts[:420]
        whole[420:] = inpainter.fill(begun, second, dilate=5, feather=4, refine=False)[420:]
    assert np.abs(whole.astype(int) - parts).max() <= 1
    monkeypatch.setattr(blocks, "LARGEST", 10_000)
    monkeypatch.setattr(blocks, "_SIDE", 100)
    picture = Picture(pixels=image)
    written = inpainter.fill_picture(
        picture, mask.copy(), FillOptions(dilate=5, feather=4, refine=False), consume=True
    )
    assert written.pixels is image
    assert np.array_equal(image, parts)


@pytest.mark.parametrize(
    ("picture", "mask", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9), bool), "9x8 px, the picture 8x8 px"),
        (np.full((8, 8, 3), np.nan, np.float32), np.zeros((8, 8), bool), r"\[0, 1\]"),
        (torch.rand(2, 3, 8, 8), np.zeros((8, 8), bool), "one by one"),
        (np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8), "0 and 1"),
    ],
)
def test_bad_input_says_what_is_wrong(
    local: Inpainter, picture: object, mask: object, message: str
):
    with pytest.raises(PictureError, match=message):
        local.fill(picture, mask)  # pyright: ignore[reportArgumentType]


def test_bad_options_say_what_is_allowed(local: Inpainter):
    with pytest.raises(OptionError, match="dilate must be at least 0 px, got -1"):
        FillOptions(dilate=-1)
    with pytest.raises(OptionError, match="must not be wider than dilate"):
        FillOptions(feather=3)
    with pytest.raises(OptionError, match="no device named 'gpu'"):
        Inpainter(local.network, local.header, device="gpu")
    with pytest.raises(OptionError, match="takes no label map"):
        local.fill_picture(
            pictures.from_array(np.zeros((8, 8, 3), np.uint8)),
            np.ones((8, 8), bool),
            labels=np.zeros((8, 8), np.uint8),
        )


def test_filling_does_not_wait_for_the_compiler():
    code = "import sys, retouch.pipeline.inpainter; sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
