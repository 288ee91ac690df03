"""Images of lines in any mode, light and rotation; damaged and hostile files."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from memorycell.applications.handwriting.images import read_line
from memorycell.errors import DataError


def page(ink: int = 20, paper: int = 245) -> np.ndarray:
    """A written word as grey [60, 300]."""
    image = Image.new("L", (300, 60), paper)
    ImageDraw.Draw(image).text((20, 8), "hello Wg", fill=ink, font=ImageFont.load_default(size=40))
    return np.asarray(image)


def ink_of(path, image: Image.Image, **options) -> np.ndarray:
    image.save(path, **options)
    return read_line(path).ink


@pytest.fixture
def plain(tmp_path):
    return ink_of(tmp_path / "plain.png", Image.fromarray(page()))


def modes() -> dict[str, Image.Image]:
    grey = page()
    base = Image.fromarray(grey)
    opacity = Image.fromarray(((245 - grey.astype(float)) * 255 / 225).astype(np.uint8))
    clear = {
        name: Image.new("RGBA", base.size, colour)
        for name, colour in {
            "black_on_clear": (0, 0, 0, 0),
            "white_on_clear": (255, 255, 255, 0),
        }.items()
    }
    for image in clear.values():
        image.putalpha(opacity)
    corners = np.array(base.convert("RGBA"))
    corners[:10, :10, 3] = corners[-10:, -30:, 3] = 0
    return clear | {
        "inverted": Image.fromarray(255 - grey),
        "pencil": Image.fromarray(page(ink=195, paper=250)),
        "16 bits": Image.fromarray(grey.astype(np.uint16) * 257),
        "clear corners": Image.fromarray(corners),
        "LA": base.convert("LA"),
        "RGB": base.convert("RGB"),
        "CMYK": base.convert("RGB").convert("CMYK"),
        "YCbCr": base.convert("RGB").convert("YCbCr"),
        "float": Image.fromarray((grey / 255).astype(np.float32)),
        "palette": base.quantize(16),
    }


@pytest.mark.parametrize("mode", modes())
def test_modes_give_the_same_ink(tmp_path, plain, mode):
    suffix = "tif" if mode in ("CMYK", "YCbCr", "float") else "png"
    ink = ink_of(tmp_path / f"a.{suffix}", modes()[mode])
    assert ink.shape == plain.shape
    assert np.abs(ink - plain).mean() < 0.03
    assert ink.max() == 1


def test_one_bit(tmp_path, plain):
    ink = ink_of(tmp_path / "a.png", Image.fromarray(page() > 128))
    assert np.abs(np.subtract(ink.shape, plain.shape)).max() <= 2


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_exif_orientation(tmp_path, plain, orientation):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(page()).transpose(undo[orientation])
    ink = ink_of(tmp_path / "a.jpg", stored, exif=exif, quality=95)
    assert ink.shape == plain.shape
    assert np.abs(ink - plain).mean() < 0.05


def shades() -> dict[str, np.ndarray]:
    y, x = np.mgrid[0:60, 0:300]
    return {
        "from left to right": 1 - 0.7 * x / 300,
        "from top to bottom": 1 - 0.6 * y / 60,
        "an edge": np.where(x < 140, 1.0, 0.5),
        "a lamp": 0.4 + 0.6 * np.exp(-((x - 80) ** 2 + (y - 10) ** 2) / 150**2),
    }


@pytest.mark.parametrize("shade", shades())
def test_a_shadow_is_not_ink(tmp_path, plain, shade):
    light = shades()[shade]
    ink = ink_of(tmp_path / "a.png", Image.fromarray((page() * light).astype(np.uint8)))
    assert ink.shape == plain.shape
    assert np.abs(ink - plain).mean() < 0.06
    noise = np.random.default_rng(0).normal(0, 2, light.shape)
    for empty in (240 * light, 240 * light + noise):
        with pytest.raises(DataError, match="no ink stands out"):
            ink_of(tmp_path / "e.png", Image.fromarray(empty.clip(0, 255).astype(np.uint8)))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_empty_pages_are_refused(tmp_path, value):
    for size in ((1, 1), (3, 40), (200, 60)):
        with pytest.raises(DataError, match="no ink stands out"):
            ink_of(tmp_path / "a.png", Image.new("L", size, value))
    with pytest.raises(DataError, match="no ink stands out"):
        ink_of(tmp_path / "a.png", Image.new("RGBA", (40, 20), (0, 0, 0, 0)))


def test_damaged_and_hostile_files(tmp_path):
    Image.fromarray(page()).save(tmp_path / "cut.jpg")
    data = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    Image.new("1", (30_000, 10)).save(tmp_path / "wide.png")
    Image.new("1", (15_000, 15_000)).save(tmp_path / "bomb.png")
    frames = [Image.fromarray(page(ink)) for ink in (20, 60)]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name, what in {
        "cut.jpg": "the file is truncated",
        "wide.png": "30000 x 10 pixels; the maximum is 20,000",
        "bomb.png": "more pixels than the maximum",
        "pages.tif": "2 pages or frames",
        "a.png": "none of the formats PNG",
    }.items():
        with pytest.raises(DataError, match=what) as error:
            read_line(tmp_path / name)
        assert "\n" not in str(error.value)
    good = (tmp_path / "pages.tif").read_bytes()
    rng = np.random.default_rng(0)
    for k in range(60):
        damaged = bytearray(data if k % 2 else good)
        for at in rng.integers(0, len(damaged), 4):
            damaged[at] = rng.integers(256)
        path = tmp_path / ("d.jpg" if k % 2 else "d.tif")
        path.write_bytes(damaged)
        try:
            assert np.isfinite(read_line(path).ink).all()
        except DataError as error:
            assert "\n" not in str(error)
