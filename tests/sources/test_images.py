"""Image files of every kind, whole and broken."""

import io
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from distillgrad.errors import SourceError
from distillgrad.sources import images
from distillgrad.sources.images import MAX_PIXELS, read_image

RAMP = np.linspace(0, 255, 12 * 8).reshape(8, 12).astype(np.uint8)
COLOUR = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=2)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def pixels(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_rgb_is_read_as_it_is(tmp_path):
    assert np.array_equal(pixels(saved(tmp_path / "a.png", Image.fromarray(COLOUR))), COLOUR)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    for name in ("a.png", "a.tiff"):
        assert np.array_equal(pixels(saved(tmp_path / name, deep))[..., 0], RAMP)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_sensors_of_fewer_bits_in_files_of_sixteen_are_told_by_their_values(tmp_path, bits):
    values = np.arange(2**bits, dtype=np.uint16).reshape(2 ** (bits // 2), -1)
    path = saved(tmp_path / "ct.png", Image.fromarray(values))
    with pytest.warns(UserWarning, match=f"its values take {bits}"):
        found = pixels(path)[..., 0]
    assert len(np.unique(found)) == 256
    assert found.max() == 255


def test_palette_grey_and_cmyk_are_converted(tmp_path):
    flat = Image.fromarray(COLOUR).quantize(16)
    assert np.array_equal(pixels(saved(tmp_path / "a.png", flat)), np.asarray(flat.convert("RGB")))
    grey = pixels(saved(tmp_path / "b.png", Image.fromarray(RAMP)))
    assert np.array_equal(grey, np.repeat(RAMP[..., None], 3, axis=2))
    black_and_white = Image.fromarray(RAMP).convert("1")
    assert set(np.unique(pixels(saved(tmp_path / "c.png", black_and_white)))) == {0, 255}
    cmyk = saved(tmp_path / "d.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=95)
    red = pixels(cmyk).mean((0, 1))
    assert red[0] > 240
    assert red[1:].max() < 20


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(tmp_path, mode):
    image = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    image.putpixel((0, 0), (10, 10, 10, 255))
    found = pixels(saved(tmp_path / "a.png", image.convert(mode)))
    assert found[3, 3].tolist() == [255, 255, 255]
    assert found[0, 0].tolist() == [10, 10, 10]


def test_exif_turns_the_image_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    path = saved(tmp_path / "a.png", Image.fromarray(COLOUR), exif=exif)
    assert np.array_equal(pixels(path), np.rot90(COLOUR, -1))


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert pixels(path)[0, 0].tolist() == [255, 0, 0]


def png_that_claims(width, height):
    """A PNG of a few bytes whose header names any size."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + checksum

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"not an image at all", "not an image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "truncated.jpg": (encoded(Image.fromarray(COLOUR).resize((300, 300)), "JPEG")[:900], "truncated"),
    "truncated.png": (encoded(Image.fromarray(COLOUR).resize((300, 300)), "PNG")[:200], "truncated"),
    "one pixel": (encoded(Image.new("RGB", (1, 1)), "PNG"), "1×1"),
    "strip": (encoded(Image.new("RGB", (2, 900)), "PNG"), "strip"),
    "bomb": (png_that_claims(30_000, 30_000), "pixels"),
    "big": (png_that_claims(MAX_PIXELS // 8_000 + 1, 8_000), "pixels"),
    "no pixels": (png_that_claims(64, 64), "broken or truncated"),
    "float": (encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), "8 or 16 bits"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_with_the_reason(tmp_path, name):
    content, words = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        read_image(path)
    assert name in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"no such image: .*nothing\.png"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(SourceError, match="not a file"):
        read_image(tmp_path)


def test_threads_that_decode_leave_the_warning_filters_as_they_were(tmp_path, monkeypatch):
    """The first thread to come in is the first to leave, while the second is still inside."""
    second_is_in, first_is_out = threading.Event(), threading.Event()
    convert = images._to_rgb

    def at_its_time(image):
        if image.width == 11:
            assert second_is_in.wait(10)
        else:
            second_is_in.set()
            assert first_is_out.wait(10)
        return convert(image)

    monkeypatch.setattr(images, "_to_rgb", at_its_time)
    paths = [saved(tmp_path / f"{width}.png", Image.new("RGB", (width, 9))) for width in (11, 12)]
    before = list(warnings.filters)
    with ThreadPoolExecutor(2) as threads:
        first, second = (threads.submit(read_image, path) for path in paths)
        first.result()
        first_is_out.set()
        second.result()
    assert list(warnings.filters) == before
