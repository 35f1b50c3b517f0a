import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from leadline import InputError
from leadline.data import load, read
from leadline.errors import describe

X = np.array([[0.5, 1], [2, 3], [4, 5]])


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def picture(path: Path, size=(4, 3), mode="L", value: int | tuple[int, ...] = 51) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def refusal(path: Path, labels: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load(path, labels)
    assert describe(caught.value).splitlines()[-1] == f"  where: while reading {path}"
    return describe(caught.value)


def test_npz_archives_are_loaded(tmp_path: Path):
    np.savez(tmp_path / "a.npz", X=X, y=[1, 0, 1], species=["b", "a", "c"])
    assert load(tmp_path / "a.npz").labels.tolist() == [1, 0, 1]
    data = load(str(tmp_path / "a.npz"), labels="species")
    assert (data.name, data.labels.tolist(), data.class_names) == ("a", [1, 0, 2], ("a", "b", "c"))
    np.savez_compressed(tmp_path / "b.npz", X=X)
    assert load(tmp_path / "b.npz").y is None
    assert "'X' and" not in refusal(tmp_path / "b.npz", "speces")
    assert "labels = 'speces'" in refusal(tmp_path / "a.npz", "speces")
    assert "cure:  one of 'species', 'y', 'X'" in refusal(tmp_path / "a.npz", "speces").replace(
        "'X', 'y'", "'y', 'X'"
    )
    np.savez(tmp_path / "c.npz", data=X)
    assert "an .npz file must hold the features as the array X\n  got:   arrays 'data'" in refusal(
        tmp_path / "c.npz"
    )
    np.savez(tmp_path / "d.npz", X=X, y=[0, 1])
    assert "2 labels in y for 3 rows" in refusal(tmp_path / "d.npz")


def test_files_are_never_unpickled(in_tmp_path: Path):
    bomb = np.array([Bomb()], dtype=object)
    np.save("a.npy", bomb, allow_pickle=True)
    np.savez("b.npz", X=bomb)
    np.savez("c.npz", X=X, y=bomb)
    Path("d.npy").write_bytes(b"\x80\x04]\x94.")
    for name, what in (("a.npy", "a.npy"), ("b.npz", "X"), ("c.npz", "y"), ("d.npy", "d.npy")):
        message = refusal(Path(name))
        assert "pickled objects can run code and are never loaded" in message
        assert f"{what} is an object array, or a pickle" in message
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "a.parquet"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY\x01\x00", b"\xff\xfe\x00\x01\n,,\x00"]
)
def test_damaged_files_raise_an_error(tmp_path: Path, name, content):
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name)


def test_a_truncated_archive_raises_an_error(tmp_path: Path):
    np.savez(tmp_path / "a.npz", X=np.random.default_rng(0).normal(size=(50, 50)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[5000:5010] = b"0123456789"
    (tmp_path / "a.npz").write_bytes(content)
    assert "damaged" in refusal(tmp_path / "a.npz")


def test_single_arrays_and_arrays_of_images_are_loaded(tmp_path: Path):
    path = tmp_path / "a.npy"
    images = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3)
    for array, channels in (
        (images, 3),
        (np.moveaxis(images, -1, 1), 3),
        (images[..., :1], 1),
        (images[..., 0], 1),
    ):
        np.save(path, array)
        data = load(path)
        assert (data.image_size, data.channels) == ((3, 4), channels)
        np.testing.assert_allclose(
            data.images, np.moveaxis(images, -1, 1)[:, :channels] / 255, rtol=1e-6
        )
    for array, expected in (
        (np.array([[0, 255]], "u1"), [[0, 1]]),
        (np.array([[0, 1]], "u1"), [[0, 1]]),
        (np.array([[0, 255]], "i8"), [[0, 255]]),
        (np.array([[[0, 1]]]), [[0, 1]]),
        (np.array([[[0.0, 200.0]]]), [[0, 200]]),
    ):
        np.save(path, array)
        assert load(path).X.tolist() == expected
    np.save(path, images * 1000)
    assert (
        "X must hold values from 0 to 255 if it holds images of whole numbers\n  got:   X[0, 0, 0, "
        "1] = 1000" in refusal(path)
    )
    np.save(path, np.zeros((2, 5, 4, 2)))
    assert "must hold images of 1 or 3 channels" in refusal(path)
    np.save(path, np.array([["a"]]))
    assert "real numbers" in refusal(path)
    np.save(path, np.full((2, 2), np.nan))
    assert "X[0, 0] = nan; 4 such values in 2 of 2 rows" in refusal(path)
    assert "holds one array" in refusal(path, "y")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_csv_and_parquet_tables_are_loaded(tmp_path: Path, suffix):
    path = tmp_path / f"ropes{suffix}"
    table = pd.DataFrame(
        {"length": [1.5, 2, 3], "knots": [1, 2, 3], "y": [3, 7, 3], "kind": ["b", "a", "b"]}
    )

    def write(table):
        table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)

    write(table.drop(columns="kind"))
    data = load(path)
    assert (data.X.tolist(), data.labels.tolist()) == ([[1.5, 1], [2, 2], [3, 3]], [0, 1, 0])
    assert (data.class_names, data.name) == (("3", "7"), "ropes")
    write(table.drop(columns="y"))
    assert load(path, "kind").class_names == ("a", "b")
    found = (
        "row 0 of column 'kind' = 'b'" if suffix == ".csv" else "column 'kind' of type large_string"
    )
    assert found in refusal(path)
    assert "labels='kind'" in refusal(path)
    assert "cure:  one of 'kind', " in refusal(path, "kid")
    write(table.drop(columns=["kind", "y"]))
    assert load(path).y is None
    write(table.assign(knots=[1, np.nan, 3]).drop(columns="kind"))
    assert "X[1, 1] (column 'knots') = nan" in refusal(path)
    write(table.assign(kind=np.array(["a", None, "b"], dtype=object)))
    assert "kind[1] is missing; 1 of 3 rows" in refusal(path, "kind")
    write(table.assign(y=[0.5, 1, 2]).drop(columns="kind"))
    assert "y[0] = 0.5" in refusal(path)
    write(table.iloc[:0])
    assert "at least one row" in refusal(path)
    write(table.assign(y=1).drop(columns="kind"))
    assert "all 3 labels in y are 1" in refusal(path)


def test_csv_headers_are_recognised(tmp_path: Path):
    path = tmp_path / "a.CSV"
    path.write_text("1,2\n3,4\n")
    assert load(path).X.tolist() == [[1, 2], [3, 4]]
    assert load(path, labels="1").labels.tolist() == [0, 1]
    path.write_text("0,1\n3,4\n")
    assert load(path).X.tolist() == [[3, 4]]
    pd.DataFrame({"a": [1, 2]}).to_csv(path)
    assert "to_csv(path, index=False)" in refusal(path)


def test_parquet_without_pyarrow_raises_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'leadline[parquet]'" in refusal(tmp_path / "a.parquet")


def test_folders_of_images_are_loaded(tmp_path: Path):
    for name in ("cat/b.png", "cat/a.PNG", "ant/c.bmp"):
        picture(tmp_path / "animals" / name)
    (tmp_path / "animals" / ".hidden").mkdir()
    (tmp_path / "animals" / "cat" / "readme.txt").write_text("no image")
    data = load(tmp_path / "animals")
    assert (data.name, data.image_size, data.channels) == ("animals", (3, 4), 1)
    assert (data.labels.tolist(), data.class_names) == ([0, 1, 1], ("ant", "cat"))
    assert np.unique(data.X) == np.float32(0.2)

    flat = load(tmp_path / "animals" / "cat")
    assert (len(flat), flat.y, flat.name) == (2, None, "cat")
    assert "labels of a folder" in refusal(tmp_path / "animals", "y")


def test_colour_sixteen_bit_and_mixed_images_are_loaded(tmp_path: Path):
    picture(tmp_path / "a.png", mode="RGB", value=(255, 51, 0))
    picture(tmp_path / "b.png", mode="L", value=51)
    data = load(tmp_path)
    np.testing.assert_allclose(data.images[:, :, 0, 0], [[1, 0.2, 0], [0.2, 0.2, 0.2]], rtol=1e-6)
    Image.fromarray(np.full((3, 4), 13107, np.uint16)).save(tmp_path / "b.png")
    np.testing.assert_allclose(load(tmp_path).images[1, :, 0, 0], 0.2, rtol=1e-6)


def test_invalid_folders_raise_an_error(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert f"at least one image\n  got:   no image in {tmp_path / 'empty'}" in refusal(
        tmp_path / "empty"
    )
    picture(tmp_path / "classes" / "a" / "1.png")
    assert "all 1 labels in subfolders are 'a'" in refusal(tmp_path / "classes")
    (tmp_path / "classes" / "b").mkdir()
    assert "at least one image per class" in refusal(tmp_path / "classes")
    picture(tmp_path / "classes" / "b" / "2.png", size=(5, 3))
    message = refusal(tmp_path / "classes")
    assert "1.png is 4 x 3 and " in message
    assert "2.png is 5 x 3 pixels" in message
    (tmp_path / "classes" / "b" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    assert "2.png: " in refusal(tmp_path / "classes")
    picture(tmp_path / "classes" / "3.png")
    assert "image 3.png beside subfolder a" in refusal(tmp_path / "classes")


def test_missing_paths_and_unknown_formats_raise_an_error(tmp_path: Path):
    assert "no file or folder" in refusal(tmp_path / "nothing.csv")
    (tmp_path / "a.pkl").write_bytes(b"")
    assert "'a.pkl'\n  cure:  one of .npz, .npy, .csv, .parquet, or a folder" in refusal(
        tmp_path / "a.pkl"
    )


def test_a_first_line_that_could_be_data_is_never_a_header(tmp_path: Path):
    path = tmp_path / "iris.csv"
    path.write_text("5.1,3.5,setosa\n4.9,3.0,setosa\n6.3,3.3,virginica\n5.8,2.7,virginica\n")
    for labels in (None, "setosa"):
        message = refusal(path, labels)
        assert "the first line must name the columns" in message
        assert "the first line is '5.1', '3.5', 'setosa'" in message
    path.write_text("length,width,kind\n" + path.read_text())
    assert load(path, "kind").X.shape == (4, 2)
    path.write_text("length,2020,2021\n1,2,3\n4,5,6\n")
    assert load(path).X.shape == (2, 3)
    path.write_text("1,2,kind\n1,2,a\n3,4,b\n")
    assert "let no name be a number" in refusal(path, "kind")
    path.write_text("a,b\n1,2,3\n4,5,6\n")
    assert "Expected 2 fields in line 2, saw 3" in refusal(path)
    path.write_text("a,b\n" + "1,2\n" * 30)
    assert load(path).X.shape == (30, 2)


@pytest.mark.parametrize(
    "text", ["a;b;y\n1.5;2;p\n3;4;q\n", "a;b;y\n1,5;2;p\n3;4;q\n", "a\tb\ty\n1.5\t2\tp\n3\t4\tq\n"]
)
def test_other_separators_are_recognised(tmp_path: Path, text):
    (tmp_path / "a.csv").write_text(text)
    data = load(tmp_path / "a.csv")
    assert (data.X.tolist(), data.class_names) == ([[1.5, 2], [3, 4]], ("p", "q"))
    (tmp_path / "a.csv").write_text('a,"b;c",y\n1,2,p\n3,4,q\n')
    assert load(tmp_path / "a.csv").X.tolist() == [[1, 2], [3, 4]]
    (tmp_path / "a.csv").write_text("1,5;2\n3;4,5\n")
    assert load(tmp_path / "a.csv").X.tolist() == [[1.5, 2], [3, 4.5]]


def test_na_is_a_class_name_but_not_a_number(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("a,y\n1,NA\n2,B\n3,NA\n")
    assert load(path).class_names == ("B", "NA")
    path.write_text("a,y\n1,NA\n2,B\n3,\n")
    assert "y[2] is missing; 1 of 3 rows" in refusal(path)
    path.write_text("a,y\n1,0\n2,1\n3,NA\n")
    assert "y[2] is missing; 1 of 3 rows" in refusal(path)
    path.write_text("a,y\nNA,p\n2,q\n")
    assert "X[0, 0] (column 'a') = nan" in refusal(path)


def test_images_of_floats_keep_their_values(tmp_path: Path):
    Image.fromarray(np.array([[0.25, 0.5]], np.float32)).save(tmp_path / "a.tif")
    assert load(tmp_path).X.tolist() == [[0.25, 0.5]]


def test_columns_with_equal_names_raise_an_error(tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    columns = [pyarrow.array([1.0, 2.0])] * 3
    parquet.write_table(pyarrow.Table.from_arrays(columns, ["a", "y", "a"]), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("a,y,a\n1,2,3\n4,5,6\n")
    for name in ("a.parquet", "a.csv"):
        assert "2 columns are named 'a'" in refusal(tmp_path / name)


def test_parquet_columns_of_every_type_are_read_or_raise_an_error(tmp_path: Path):
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "bool": pa.array([True, False, True]),
            "half": pa.array(np.array([0.5, 1, 2], np.float16)),
            "large": pa.array([2**40, 0, 1], pa.int64()),
            "decimal": pa.array([1, 2, 3]).cast(pa.decimal128(25, 2)),
            "y": pa.array(["b", None, "a"]).dictionary_encode(),
        }
    )
    parquet.write_table(table, path)
    rows, labels = read(path)
    assert rows.X.tolist() == [[1, 0.5, 2**40, 1], [0, 1, 0, 2], [1, 2, 1, 3]]
    assert labels is not None
    assert labels.values.tolist() == ["b", None, "a"]
    parquet.write_table(table.append_column("more", pa.array([1, None, 3])), path)
    assert "X[1, 4] (column 'more') = nan" in refusal(path)
    for kind, cells in (
        ("list<", [[1], [2], [3]]),
        ("date32", [1, 2, 3]),
        ("string", ["1", "2", "3"]),
    ):
        array = (
            pa.array(cells, pa.int32()).cast(pa.date32()) if kind == "date32" else pa.array(cells)
        )
        parquet.write_table(table.append_column("more", array), path)
        assert f"column 'more' of type {kind}" in refusal(path)
    parquet.write_table(
        pa.table({"a": [1.0, 2.0], "y": pa.array([1, 2], pa.int32()).cast(pa.date32())}), path
    )
    assert "y[0] = a date" in refusal(path)


def test_parquet_with_damaged_pandas_metadata_raises_an_error(tmp_path: Path):
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": [1.0, 2.0]}, index=pd.Index([7, 8], name="row")).to_parquet(path)
    assert load(path).X.tolist() == [[1], [2]], "row names are no feature"
    for notes in (b"[" * 100_000, b"{", b"\xff", b"3", b'{"index_columns": 3}'):
        parquet.write_table(
            pa.table({"a": [1.0, 2.0]}).replace_schema_metadata({b"pandas": notes}), path
        )
        assert "a.parquet" in refusal(path)
    parquet.write_table(
        pa.table({"a": [1.0, 2.0]}).replace_schema_metadata({b"pandas": b"{}"}), path
    )
    assert load(path).X.tolist() == [[1], [2]]


def test_an_error_names_the_marker_of_a_missing_number(tmp_path: Path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,4\n5,?\n")
    assert "row 2 of column 'b' = '?'" in refusal(tmp_path / "a.csv")


def test_columns_that_pandas_reads_as_text_become_numbers_or_raise_an_error(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text(f"a,b\n{10**30},2\n{-(10**25)},4\n")
    np.testing.assert_allclose(load(path).X, [[1e30, 2], [-1e25, 4]], rtol=1e-6)
    path.write_text("a,b\nTrue,2\n,4\n")
    assert "X[1, 0] (column 'a') = nan; 1 such value in 1 of 2 rows" in refusal(path)
    path.write_text("a,b\n1,2\nTrue,4\n")
    assert "row 1 of column 'a' = 'True'" in refusal(path)
    path.write_text(f"a,b\n1,2\n{'x' * 1000},4\n")
    assert "row 1 of column 'a' = 'xxx" in refusal(path)
    assert len(refusal(path)) < 1000
    path.write_text(f"a,b\n1,2\n1{'0' * 400},4\n")
    assert "X[1, 0] (column 'a') = inf" in refusal(path)


def test_lines_of_different_lengths_raise_an_error(tmp_path: Path):
    path = tmp_path / "a.csv"
    for good in (1, 10, 100, 5000):
        path.write_text("a,b\n" + "1,2\n" * good + "1,2,3\n")
        assert f"Expected 2 fields in line {good + 2}, saw 3" in refusal(path)
        path.write_text("a,b\n" + "1,2\n" * good + "1\n")
        assert f"X[{good}, 1] (column 'b') = nan" in refusal(path)
    path.write_text("")
    assert "a.csv is empty" in refusal(path)
    path.write_text("a,b\n")
    assert "at least one row" in refusal(path)
    path.write_text('a,b\n1,"2\n')
    refusal(path)


def test_labels_in_text_keep_their_type(tmp_path: Path):
    path = tmp_path / "a.csv"
    for cells, known in (
        (["1", "2", "NA"], [1, 2, None]),
        (["1", "2.5", ""], [1, 2.5, None]),
        (["1", "x", "NA"], ["1", "x", "NA"]),
        (["True", "False", ""], ["True", "False", None]),
        (["1_0", "2", "3"], ["1_0", "2", "3"]),
        (["007", "08", "9"], [7, 8, 9]),
        ([str(2**70), "1", "2"], [2**70, 1, 2]),
        (["NA", "NA", ""], ["NA", "NA", None]),
        (['"a,b"', " c", "d"], ["a,b", " c", "d"]),
    ):
        path.write_text("a,y\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)))
        _, labels = read(path)
        assert labels is not None
        assert labels.values.tolist() == known


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.csv", "a.parquet", "a"])
def test_only_regular_files_are_opened(tmp_path: Path, name):
    os.mkfifo(tmp_path / name)
    assert f"{name} is a pipe" in refusal(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    assert f"{name} is a device" in refusal(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("missing")
    assert f"{name} is a link to missing, which does not exist" in refusal(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(name)
    assert "symbolic links" in refusal(tmp_path / name)


def test_an_error_names_a_missing_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "closed").mkdir()
    closed = tmp_path / "closed" / "a.npy"
    np.save(closed, X)
    stat, iterdir, opened = Path.stat, Path.iterdir, Path.open

    def refuse(method):
        def refusing(self: Path, *args, **kwargs):
            if "closed" in self.parts:
                raise PermissionError(13, "Permission denied", str(self))
            return method(self, *args, **kwargs)

        return refusing

    monkeypatch.setattr(Path, "open", refuse(opened))
    assert f"no permission to read {closed}" in refusal(closed)
    monkeypatch.setattr(Path, "iterdir", refuse(iterdir))
    assert f"no permission to read {closed.parent}" in refusal(closed.parent)
    monkeypatch.setattr(Path, "stat", refuse(stat))
    assert f"no permission to read {closed}" in refusal(closed)
    assert "no permission to read" in refusal(tmp_path), "an entry of a folder of images"


def test_long_file_names_raise_an_error(tmp_path: Path):
    path = tmp_path / ("n" * 251 + ".npy")
    np.save(path, X)
    assert load(path).name == "n" * 251
    assert "File name too long" in refusal(tmp_path / ("n" * 252 + ".npy"))
    assert "no file or folder" in refusal(tmp_path / "a.npy" / "b.npy")


def test_arguments_of_a_wrong_type_raise_an_error(tmp_path: Path):
    np.save(tmp_path / "a.npy", X)
    for wrong in (None, 3, b"a.npy", "", "a\0.npy", X):
        with pytest.raises(InputError, match="path must be a path to a file or folder"):
            load(wrong)  # type: ignore[arg-type]
    for wrong in (3, ["y"], ""):
        with pytest.raises(InputError, match="labels must be text"):
            load(tmp_path / "a.npy", wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", ["csv", "parquet", "npy", "npz"])
def test_a_column_that_float32_would_blur_stays_float64(ending: str, tmp_path: Path):
    for offset, dtype in ((0.0, np.float32), (1.7e9, np.float64)):
        table = pd.DataFrame({"time": offset + np.arange(40), "height": np.linspace(0, 1, 40)})
        path = tmp_path / f"rows.{ending}"
        if ending == "csv":
            table.to_csv(path, index=False)
        elif ending == "parquet":
            table.to_parquet(path, index=False)
        elif ending == "npy":
            np.save(path, table.to_numpy())
        else:
            np.savez(path, X=table.to_numpy())
        found = load(path)
        assert found.X.dtype == dtype
        np.testing.assert_array_equal(found.X[:, 0], table["time"].to_numpy())
        assert not any("rounded" in note for note in found.notes)
