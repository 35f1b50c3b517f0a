"""Declared sizes are compared with the file and the free memory before memory is allocated."""

import io
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leadline import InputError
from leadline.data import _memory as memory
from leadline.data import load, read
from leadline.data.files import _tables as tables
from leadline.data.files._arrays import map_npy, read_npz


def refusal(path: Path, labels: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load(path, labels)
    return str(caught.value)


def header(text: str, version: int = 1) -> bytes:
    """Return the beginning of an array in NumPy's format, with any text as its header."""
    content = text.encode("latin1")
    return (
        b"\x93NUMPY" + bytes([version, 0]) + len(content).to_bytes(2 * version, "little") + content
    )


def described(shape: str, dtype: str = "'<f8'") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n"


def write_both(folder: Path, content: bytes) -> tuple[Path, Path]:
    """Write an array as a separate file and as the member X of an archive."""
    single = folder / "a.npy"
    single.write_bytes(content)
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", content)
    return single, folder / "a.npz"


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (
            "(1000000000000,)",
            "declares the shape (1000000000000,), float64, which takes 8000000000",
        ),
        ("(10**30,)", "must be readable"),
        (f"({10**30}, 2)", "takes about 10^31 bytes"),
        (f"({10**400}, {10**400})", "takes about 10^80"),
        ("(True, 3)", "declares the shape (True, 3)"),
        ("(-1, -3)", "declares the shape (-1, -3)"),
        ("(3.0, 1)", "must be readable"),
        ("3", "must be readable"),
        ("(" + "1, " * 40 + ")", "declares the shape"),
        ("(3, 2)", "takes 104 bytes; the file holds 81"),
        ("(2, 1)", "must agree with the file"),
    ],
)
def test_a_declared_shape_must_agree_with_the_size_of_the_file(tmp_path: Path, shape, text):
    content = header(described(shape)) + bytes(24)
    for path in write_both(tmp_path, content):
        message = refusal(path)
        if text.startswith("takes 104"):
            assert "must agree with the file" in message
        else:
            assert text in message


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 1",
        "(((((((((",
        "[" * 5000,
        "{'descr': '<f8'}",
        "'''",
        "\x00",
        "{'descr': '<f8', 'fortran_order': 7, 'shape': (3, 1), }",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (3, 1), }",
        "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (3, 1), }",
        "{'descr': ('<f8', (3,)), 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (3, 1), }",
        "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }",
        "1 if 1else 2",
        " " * 70_000,
    ],
)
def test_a_broken_header_raises_an_error(tmp_path: Path, text):
    for version in (1, 2) if len(text) < 2**16 else (2,):
        for path in write_both(tmp_path, header(text, version) + bytes(24)):
            assert "X" in refusal(path) or "a.npy" in refusal(path)


def test_object_arrays_are_never_unpickled(tmp_path: Path):
    for dtype in ("'|O'", "'O'", "[('a', 'O')]"):
        for path in write_both(tmp_path, header(described("(3, 1)", dtype)) + b"\x80\x04]\x94."):
            assert "pickled objects can run code and are never loaded" in refusal(path)


def test_characters_beyond_unicode_raise_an_error(tmp_path: Path):
    good = np.array(["lead", "rope"])
    for code in (0x110000, 0xFFFFFFFF, 0xD800):
        for order in "<>":
            names = good.astype(f"{order}U4")
            names.view(f"{order}u4")[2] = code
            np.savez(tmp_path / "a.npz", X=np.eye(2), y=names)
            assert f"y holds the code point {code:#x}" in refusal(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", X=np.eye(2), y=good.astype(">U9"))
    assert load(tmp_path / "a.npz").class_names == ("lead", "rope")


def test_members_that_are_not_arrays_raise_an_error(tmp_path: Path):
    for name, content in (
        ("X", b"text"),
        ("X.npy", b""),
        ("X.npy", b"\x93NUM"),
        ("X.npy", b"\x80\x04]\x94."),
    ):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr(name, content)
        assert "X" in refusal(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("X.npy", npy(np.eye(2)))
        archive.writestr("X", npy(np.eye(3)))
    assert "two arrays named 'X'" in refusal(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"PK\x05\x06" + bytes(18))
    assert "an archive without arrays" in refusal(tmp_path / "a.npz")


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_encrypted_archives_and_unknown_compressions_raise_an_error(tmp_path: Path):
    path = tmp_path / "a.npz"
    for method, number in ((zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("X.npy", npy(np.eye(2)))
        assert f"X is compressed by method {number}" in refusal(path)
    np.savez(path, X=np.eye(2))
    content = bytearray(path.read_bytes())
    for place in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[place] |= 1
    path.write_bytes(content)
    assert "X is encrypted" in refusal(path)
    content[content.index(b"PK\x01\x02") + 10] = 77
    path.write_bytes(content)
    refusal(path)


def test_several_arrays_in_one_npy_file_raise_an_error(tmp_path: Path):
    (tmp_path / "a.npy").write_bytes(npy(np.eye(2)) + npy(np.eye(2)))
    assert "several arrays in one file" in refusal(tmp_path / "a.npy")


def test_arrays_without_axes_raise_an_error(tmp_path: Path):
    np.savez(tmp_path / "a.npz", X=np.float32(3), y=[0, 1])
    assert "X of shape ()" in refusal(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", X=np.eye(2), y=np.int64(1))
    assert "y of shape ()" in refusal(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", X=np.eye(2), y=[0, 1, 2])
    with pytest.raises(InputError, match="3 labels in y for 2 rows"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", ["?", "i1", ">i8", "f2", ">f4", "f8", "g"])
def test_numbers_of_every_dtype_and_byte_order_are_read(tmp_path: Path, dtype):
    X = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    for array in (X, np.asfortranarray(X), np.ascontiguousarray(X.T).T):
        np.savez_compressed(tmp_path / "a.npz", X=array)
        assert np.array_equal(load(tmp_path / "a.npz").X, X.astype(np.float32))
        np.save(tmp_path / "a.npy", array)
        assert np.array_equal(load(tmp_path / "a.npy").X, X.astype(np.float32))


def test_all_arrays_of_an_archive_are_read(tmp_path: Path):
    arrays = {
        "x": np.arange(24.0).reshape(2, 3, 4),
        "n": np.int64(3),
        "names": np.array(["a", "b"]),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    np.savez(tmp_path / "a.npz", good=np.eye(2), bad=np.array([None]))
    with pytest.raises(InputError, match="bad is an object array"):
        read_npz(tmp_path / "a.npz")


def test_a_memory_map_equals_the_loaded_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.npy"
    monkeypatch.setattr(memory, "free_memory", lambda: 0)
    for array in (
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12).reshape(3, 4)),
        np.eye(3, dtype=">f4"),
    ):
        np.save(path, array)
        mapped = map_npy(path)
        assert isinstance(mapped, np.memmap)
        assert np.array_equal(mapped, array)
        assert not mapped.flags.writeable
    for content in (
        b"",
        header(described("(10**12,)")),
        header(described("(1000000000000,)")),
        npy(np.zeros((0, 3))),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npy"):
            map_npy(path)
    np.save(path, np.array(["text"]))
    with pytest.raises(InputError, match="must hold real numbers"):
        map_npy(path)


def test_archives_that_expand_too_much_raise_an_error(tmp_path: Path):
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("X.npy", "w", force_zip64=True) as member,
    ):
        member.write(header(described("(300, 131072)")))
        for _ in range(300):
            member.write(bytes(2**20))
    message = refusal(tmp_path / "a.npz")
    assert "at most 100 times as large as their file\n  got:   X: 300.0 MiB from 2" in message
    assert "np.savez instead of np.savez_compressed" in message
    content = bytearray((tmp_path / "a.npz").read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 20 : entry + 24] = (2**31).to_bytes(4, "little")
    (tmp_path / "a.npz").write_bytes(content)
    assert "X: 300.0 MiB from 2" in refusal(tmp_path / "a.npz"), (
        "the entry claims that it takes 2 GiB on disk"
    )


def test_parquet_tables_that_expand_too_much_raise_an_error(tmp_path: Path):
    from pyarrow import Table, parquet

    rows = 2**22
    table = Table.from_pydict({f"column {i}": np.zeros(rows) for i in range(9)})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert f"{rows} rows of 9 features: 288.0 MiB from " in refusal(tmp_path / "a.parquet")


def test_data_must_fit_into_the_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    X = np.random.default_rng(0).normal(size=(1000, 20))
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "a.npz", X=X)
    pd.DataFrame(X).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame(X, columns=list(map(str, range(20)))).to_parquet(tmp_path / "a.parquet")
    for suffix in ("npy", "npz", "csv", "parquet"):
        path = tmp_path / f"a.{suffix}"
        monkeypatch.setattr(memory, "free_memory", lambda: 100_000)
        assert "data must fit into the free memory" in refusal(path)
        assert "KiB" in refusal(path)
        monkeypatch.setattr(memory, "free_memory", lambda: 10_000_000)
        assert len(load(path)) == 1000


def test_the_free_memory_is_known(monkeypatch: pytest.MonkeyPatch):
    free = memory.free_memory()
    assert 2**20 < free < 2**50
    group = {
        "memory.max": "1000000",
        "memory.current": "900000",
        "memory.stat": "active_file 3000\ninactive_file 400\n",
    }
    read_text = Path.read_text
    with monkeypatch.context() as patch:
        patch.setattr(
            Path,
            "read_text",
            lambda self: group[self.name] if self.name in group else read_text(self),
        )
        assert memory.free_memory() == 103400, "what cached files take is given back"
        group["memory.max"] = "max"
        assert memory.free_memory() > 2**20
    for part in ("_machine", "_container", "_process"):
        monkeypatch.setattr(memory, part, lambda: None)
    assert memory.free_memory() == memory.UNKNOWN


def test_sizes_are_printed_with_a_unit():
    sizes = {
        0: "0 bytes",
        1023: "1023 bytes",
        1024: "1.0 KiB",
        2**40: "1.0 TiB",
        10**30: "more than 1,024 EiB",
    }
    assert {count: memory.size(count) for count in sizes} == sizes


def peak(path: Path) -> tuple[str, float]:
    """Read a bad file in a separate process. Return the error and the peak memory in MiB."""
    code = (
        "import sys; from pathlib import Path; from leadline.data import load\n"
        "try: load(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    *message, size = done.stdout.splitlines()
    return "\n".join(message), int(size) / 1024


def test_tables_of_commas_need_little_memory(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"," * 20_000_000)
    message, size = peak(path)
    assert "a line of a table must have at most 16777216 characters" in message
    assert size < 400
    path.write_bytes(b"1,2\n" * 40 + (b"," * 99 + b"\n") * 200_000)
    assert "Expected 2 fields in line 41, saw 100" in peak(path)[0]
    path.write_bytes((b"1," * 99 + b"2\n") * 40 + (b"," * 99 + b"\n") * 200_000)
    message, size = peak(path)
    assert "X[40, 0] (column '0') = nan" in message
    assert size < 500


def test_tables_have_a_maximum_number_of_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.csv"
    path.write_bytes(b"1," * tables.MOST_COLUMNS + b"1\n")
    assert (
        f"at most 200000 columns\n  got:   the first line of a.csv has {tables.MOST_COLUMNS + 1}"
        in refusal(path)
    )
    wide = np.random.default_rng(0).integers(0, 9, (3, 20_000))
    path.write_text("\n".join(",".join(map(str, row)) for row in wide))
    assert np.array_equal(load(path).X, wide)


def test_the_size_of_the_blocks_does_not_change_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.csv"
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=["a", "b", "c"])
    table["flag"] = np.arange(50) % 2 == 0
    table["kind"] = ["NA", "lead", ""] * 16 + ["rope", "nan"]
    table.to_csv(path, index=False)
    whole, names = read(path, "kind")
    monkeypatch.setattr(tables, "BLOCK_CELLS", 20)
    parts, same = read(path, "kind")
    assert np.array_equal(whole.X, parts.X)
    np.testing.assert_allclose(parts.X[:, :3], table[["a", "b", "c"]], rtol=1e-6)
    assert parts.X[:, 3].tolist() == [1, 0] * 25
    assert names is not None
    assert same is not None
    assert (
        same.values.tolist() == names.values.tolist() == ["NA", "lead", None] * 16 + ["rope", "nan"]
    )
    path.write_text(path.read_text() + "1,2,x,True,rope\n")
    assert "row 50 of column 'c' = 'x'" in refusal(path, "kind")
    path.write_text(path.read_text().replace("1,2,x,", "1,2,,"))
    assert "X[50, 2] (column 'c') = nan" in refusal(path, "kind")


def test_the_memory_limit_of_the_process_counts():
    code = (
        "import resource; from leadline.data import _memory as memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "print(memory.free_memory() < 2**31)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 2**31, "only the other process was limited"
