"""Image files are read upright and without transparency, and every error names the file."""

import io
import os
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leadline import InputError
from leadline.data import _memory as memory
from leadline.data import load
from leadline.data._pixels import DIVIDED
from leadline.data.files._pictures import DIVIDED_16, FORMATS, MOST_PIXELS, ON_WHITE, UPRIGHT
from leadline.errors import describe

UPRIGHT_PIXELS = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)


def refusal(folder: Path, name: str) -> str:
    """Return the message of the error, which must name the file."""
    with pytest.raises(InputError) as caught:
        load(folder)
    message = describe(caught.value)
    assert str(folder / name) in message.replace(f"where: while reading {folder}", "")
    return message


def grey(folder: Path) -> list[list[float]]:
    """Return the pixels of the only image of a folder, from 0 to 255."""
    return (load(folder).images[0, 0] * 255).round(2).tolist()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.png", "PNG"),
        ("a.gif", "GIF"),
        ("a.bmp", "BMP"),
        ("a.tif", "TIFF"),
        ("a.ppm", "PPM"),
        ("a.pgm", "PPM"),
        ("a.jpg", "PNG"),
        ("a.webp", "BMP"),
        ("a.png", "TIFF"),
    ],
)
def test_allowed_formats_are_read_under_any_name(tmp_path: Path, name, form):
    Image.fromarray(UPRIGHT_PIXELS).save(tmp_path / name, format=form)
    assert grey(tmp_path) == UPRIGHT_PIXELS.tolist()
    assert load(tmp_path).notes == (DIVIDED,)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "MPO"])
def test_lossy_formats_keep_a_flat_image(tmp_path: Path, form):
    Image.new("RGB", (16, 16), (200, 100, 50)).save(tmp_path / "a.jpg", format=form, quality=100)
    mean = load(tmp_path).images[0].mean(axis=(1, 2)) * 255
    np.testing.assert_allclose(mean, [200, 100, 50], atol=2)


def test_postscript_starts_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from PIL import EpsImagePlugin

    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    subprocess.run(["gs"], check=True)
    assert (tmp_path / "started").exists(), "the program in place of Ghostscript works"
    (tmp_path / "started").unlink()

    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 3\n%%EndComments\nshowpage\n%%EOF\n"
    )
    assert "no image in one of the formats PNG, JPEG" in refusal(folder, "x.png")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    "form", ["EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "DDS", "ICNS", "JPEG2000", "PALM"]
)
def test_other_formats_raise_an_error_under_any_name(tmp_path: Path, form):
    if form not in Image.SAVE:
        Image.init()
    if form not in Image.SAVE:
        pytest.skip("this installation of Pillow cannot write the format")
    mode = "1" if form == "PALM" else "RGB"
    Image.new(mode, (16, 16)).save(tmp_path / "a.png", format=form)
    assert ", ".join(FORMATS) in refusal(tmp_path, "a.png")


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, UPRIGHT_PIXELS),
        (2, np.fliplr(UPRIGHT_PIXELS)),
        (3, np.rot90(UPRIGHT_PIXELS, 2)),
        (4, np.flipud(UPRIGHT_PIXELS)),
        (5, UPRIGHT_PIXELS.T),
        (6, np.rot90(UPRIGHT_PIXELS, 1)),
        (7, np.rot90(UPRIGHT_PIXELS, 2).T),
        (8, np.rot90(UPRIGHT_PIXELS, -1)),
        (9, UPRIGHT_PIXELS),
    ],
)
def test_images_are_rotated_by_their_exif_orientation(tmp_path: Path, orientation, stored, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", format=form, exif=exif)
    assert grey(tmp_path) == UPRIGHT_PIXELS.tolist()
    assert (UPRIGHT in load(tmp_path).notes) == (2 <= orientation <= 8)


def test_images_need_equal_sizes_after_rotation(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(UPRIGHT_PIXELS).copy()).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(UPRIGHT_PIXELS).save(tmp_path / "b.png")
    assert load(tmp_path).image_size == (2, 3)
    Image.fromarray(np.rot90(UPRIGHT_PIXELS).copy()).save(tmp_path / "c.png")
    assert "a.png is 3 x 2 and " in refusal(tmp_path, "c.png")


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), [255, 255, 255]),
        ("RGBA", (0, 0, 0, 51), [204, 204, 204]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("LA", (0, 0), [255]),
        ("LA", (100, 255), [100]),
        ("LA", (0, 51), [204]),
    ],
)
def test_transparent_pixels_become_white(tmp_path: Path, mode, value, expected):
    Image.new(mode, (2, 2), value).save(tmp_path / "a.png")
    data = load(tmp_path)
    assert (data.images[0, :, 0, 0] * 255).round(3).tolist() == expected
    assert data.channels == len(expected)
    assert (ON_WHITE in data.notes) == (value[-1] < 255)


def test_a_transparent_colour_becomes_white(tmp_path: Path):
    Image.fromarray(UPRIGHT_PIXELS).save(tmp_path / "a.png", transparency=50)
    assert grey(tmp_path) == [[0, 255, 100], [150, 200, 250]]
    black_and_white = Image.fromarray(UPRIGHT_PIXELS).convert("1", dither=Image.Dither.NONE)
    black_and_white.save(tmp_path / "a.png", transparency=0)
    assert grey(tmp_path) == [[255] * 3] * 2
    colours = Image.fromarray(np.stack([UPRIGHT_PIXELS] * 3, axis=-1))
    colours.save(tmp_path / "a.png", transparency=(50, 50, 50))
    assert grey(tmp_path) == [[0, 255, 100], [150, 200, 250]]
    palette = colours.convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "a.gif", transparency=int(np.asarray(palette)[0, 1]))
    (tmp_path / "a.png").unlink()
    assert grey(tmp_path)[0][1] == 255
    assert load(tmp_path).notes == (DIVIDED, ON_WHITE)


def test_pixels_of_more_than_eight_bits_are_scaled_or_raise_an_error(tmp_path: Path):
    Image.fromarray(np.full((2, 2), 13107, np.uint16)).save(tmp_path / "a.png")
    assert load(tmp_path).notes == (DIVIDED_16,)
    assert np.unique(load(tmp_path).X).tolist() == [np.float32(0.2)]
    Image.fromarray(np.array([[70000, 1]], np.int32)).save(tmp_path / "a.png", format="TIFF")
    assert "has values from 1 to 70000" in refusal(tmp_path, "a.png")
    Image.fromarray(np.array([[np.nan, 1]], np.float32)).save(tmp_path / "a.png", format="TIFF")
    assert "pixels must be finite" in refusal(tmp_path, "a.png")
    Image.fromarray(np.array([[0.5, 1]], np.float32)).save(tmp_path / "a.png", format="TIFF")
    assert load(tmp_path).notes == ()


def png(width: int, height: int, compressed: bytes) -> bytes:
    """Return a grey PNG of one bit per pixel with any declared size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", compressed)
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9460, 13000, 30000, 2**31 - 1])
def test_an_image_that_expands_too_much_raises_an_error_before_decoding(tmp_path: Path, side):
    (tmp_path / "a.png").write_bytes(png(side, side, b""))
    message = refusal(tmp_path, "a.png")
    assert f"{side} x {side}" in message or "pixels" in message


def test_too_many_images_raise_an_error_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(png(9000, 9000, b"cannot be decoded"))
    monkeypatch.setattr(memory, "free_memory", lambda: 2**30)
    with pytest.raises(InputError, match=r"3 images of 81000000 pixels, which needs 1\.5 GiB"):
        load(tmp_path)
    monkeypatch.setattr(memory, "free_memory", lambda: 2**40)
    refusal(tmp_path, "a.png")
    assert 9000**2 < MOST_PIXELS < 9460**2


def test_several_images_in_one_file_raise_an_error(tmp_path: Path):
    frames = [Image.new("L", (4, 4), value) for value in (0, 100)]
    for form in ("GIF", "TIFF", "PNG", "WEBP"):
        frames[0].save(tmp_path / "a.png", format=form, save_all=True, append_images=frames[1:])
        assert "holds several, as an animation or as pages" in refusal(tmp_path, "a.png")
    frames[0].convert("RGB").save(
        tmp_path / "a.png", format="MPO", save_all=True, append_images=frames[1:]
    )
    assert load(tmp_path).image_size == (4, 4), "the second image of a camera's JPEG is left out"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_a_truncated_image_raises_an_error(tmp_path: Path, form):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).save(content, format=form)
    whole = content.getvalue()
    for share in (0, 0.01, 0.1, 0.5):
        (tmp_path / "a.png").write_bytes(whole[: int(share * len(whole))])
        refusal(tmp_path, "a.png")


def test_an_image_name_that_is_not_a_file_raises_an_error(tmp_path: Path):
    Image.fromarray(UPRIGHT_PIXELS).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("missing.png")
    assert "b.png is a link to missing.png, which does not exist" in refusal(tmp_path, "b.png")
    (tmp_path / "b.png").unlink()
    os.mkfifo(tmp_path / "b.png")
    assert "b.png is a pipe" in refusal(tmp_path, "b.png")
    (tmp_path / "b.png").unlink()
    (tmp_path / "notes").symlink_to("missing")
    os.mkfifo(tmp_path / "pipe")
    assert len(load(tmp_path)) == 1
