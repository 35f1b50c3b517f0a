"""Readers of damaged files of every format return rows, or raise an error of Leadline.

The mutations are the same in every run. Some flip bits, cut the file or move blocks. Others edit
the structure: headers of arrays in archives with correct checksums, entries of archives, chunks of
PNG files, and numbers in text.
"""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from leadline.data import read
from leadline.errors import LeadlineError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3)).round(3)
Y = np.array(["lead", "rope", "é"] * 4)
PIXELS = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)

WORDS = (
    b"-1",
    b"0",
    b"1e9",
    b"999999999999",
    b"1" + b"0" * 30,
    b"True",
    b"None",
    b"nan",
    b"'",
    b"(",
    b"[" * 300,
    b"\x00",
    b"\xff",
    b"|O",
    b"<U9",
    b">f8",
    b"<c16",
    b"<M8[ns]",
    b"V3",
    b"<f2",
    b"2O",
    b"0x7f",
    b"_",
)
"""Replacements for words in headers and tables."""


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    return saved(lambda file: np.lib.format.write_array(file, array, version))


def csv(**settings) -> bytes:
    return (
        pd.DataFrame(X, columns=["a", "b", "c"])
        .assign(y=Y)
        .to_csv(index=False, **settings)
        .encode()
    )


def parquet(**settings) -> bytes:
    return saved(
        lambda file: (
            pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=Y).to_parquet(file, **settings)
        )
    )


def image(form: str, **settings) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(
        lambda file: Image.fromarray(PIXELS).save(file, format=form, exif=exif, **settings)
    )


FILES = {
    "plain.npz": saved(lambda file: np.savez(file, X=X, y=Y)),
    "deflated.npz": saved(lambda file: np.savez_compressed(file, X=X, y=Y)),
    "floats.npy": npy(X),
    "images.npy": npy(PIXELS[None], (2, 0)),
    "commas.csv": csv(),
    "semicolons.csv": csv(sep=";", decimal=","),
    "numbers.csv": saved(lambda file: np.savetxt(file, X, delimiter=",", fmt="%.3f")),
    "snappy.parquet": parquet(),
    "plain.parquet": parquet(compression=None, use_dictionary=False),
    "image.png": image("PNG"),
    "image.jpg": image("JPEG"),
    "image.gif": image("GIF"),
    "image.bmp": image("BMP"),
    "image.webp": image("WEBP", lossless=True),
    "image.tif": image("TIFF"),
    "deflated.tif": image("TIFF", compression="tiff_adobe_deflate"),
    "image.ppm": image("PPM"),
}
"""One good file for each format and layout."""

CASES = 240
"""Number of mutations of each file."""


def mutations(name: str, content: bytes, cases: int) -> Iterator[bytes]:
    """Yield mutations of a file. Half of them edit its structure."""
    rng = np.random.default_rng(list(name.encode()))
    structured = STRUCTURES.get(name.rpartition(".")[2])
    for case in range(cases):
        if structured is not None and case % 2:
            yield structured(rng, content)
        else:
            yield any_bytes(rng, content)


def any_bytes(rng: np.random.Generator, content: bytes) -> bytes:
    """Flip bits, cut the file, or remove, repeat or overwrite a block."""
    changed = bytearray(content)
    kind = rng.integers(6)
    start = int(rng.integers(len(content)))
    stop = min(len(content), start + int(rng.integers(1, 40)))
    if kind <= 1:
        for place in rng.integers(len(content), size=rng.integers(1, 5)):
            changed[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        del changed[start:]
    elif kind == 3:
        del changed[start:stop]
    elif kind == 4:
        changed[start:start] = content[start:stop] * int(rng.integers(1, 20))
    else:
        changed[start:stop] = bytes([int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))]) * (stop - start)
    return bytes(changed)


def words(rng: np.random.Generator, content: bytes) -> bytes:
    """Replace one or two words or signs of a text."""
    for _ in range(int(rng.integers(1, 3))):
        found = list(re.finditer(rb"[\w.]+|[^\w\s]|\s", content))
        if found:
            place = found[int(rng.integers(len(found)))]
            content = (
                content[: place.start()]
                + WORDS[int(rng.integers(len(WORDS)))]
                + content[place.end() :]
            )
    return content


def array_header(rng: np.random.Generator, content: bytes) -> bytes:
    """Replace the header of an array by another header of the right length."""
    width = 2 if content[6] == 1 else 4
    end = 8 + width + int.from_bytes(content[8 : 8 + width], "little")
    header = words(rng, content[8 + width : end].rstrip())
    return content[:8] + len(header).to_bytes(width, "little") + header + content[end:]


def archive(rng: np.random.Generator, content: bytes) -> bytes:
    """Replace a member and its checksum, or change a field of an entry."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    kind = rng.integers(4)
    chosen = str(rng.choice(list(members)))
    if kind == 0:
        members[chosen] = array_header(rng, members[chosen])
    elif kind == 1:
        members[chosen] = any_bytes(rng, members[chosen])
    elif kind == 2:
        members[chosen] = members[chosen][: int(rng.integers(20))]
    else:
        place = content.rindex(b"PK\x01\x02") + int(rng.integers(4, 46))
        return content[:place] + bytes([int(rng.integers(256))]) + content[place + 1 :]
    method = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA][
        int(rng.integers(4))
    ]

    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", method) as target:
            for name, part in members.items():
                target.writestr(name, part)

    return saved(write)


def chunks(rng: np.random.Generator, content: bytes) -> bytes:
    """Change a chunk of a PNG file and its checksum, or the order of the chunks."""
    parts = []
    place = 8
    while place < len(content):
        length = struct.unpack(">I", content[place : place + 4])[0]
        parts.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    chosen = int(rng.integers(len(parts)))
    kind, body = parts[chosen]
    if rng.random() < 0.7 and body:
        parts[chosen] = (kind, any_bytes(rng, body))
    else:
        parts.insert(
            int(rng.integers(len(parts))),
            (bytes(rng.choice([b"tRNS", b"PLTE", b"zTXt", kind])), body),
        )
    joined = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    ]
    return content[:8] + b"".join(joined)


def footer(rng: np.random.Generator, content: bytes) -> bytes:
    """Change only the metadata at the end of a Parquet file."""
    length = int.from_bytes(content[-8:-4], "little")
    metadata = any_bytes(rng, content[-8 - length : -8])
    return content[: -8 - length] + metadata + len(metadata).to_bytes(4, "little") + b"PAR1"


STRUCTURES = {
    "npz": archive,
    "npy": array_header,
    "csv": words,
    "parquet": footer,
    "png": chunks,
    "ppm": words,
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_raise_only_errors_of_leadline(tmp_path: Path, name):
    source = tmp_path / name
    path = source if source.suffix in (".npz", ".npy", ".csv", ".parquet") else tmp_path
    source.write_bytes(FILES[name])
    assert len(read(path)[0]) > 0, "the file without changes is good"
    for case, content in enumerate(mutations(name, FILES[name], CASES)):
        source.write_bytes(content)
        try:
            with suppress(LeadlineError):
                rows, labels = read(path)
                assert np.isfinite(rows.X).all()
                assert labels is None or len(labels.known) == len(rows)
        except Exception as error:
            raise AssertionError(
                f"mutation {case} of {name}: {type(error).__name__}: {error}"
            ) from error
