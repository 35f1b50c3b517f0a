import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline import Interval, Protocol, SaveError, Verdict, storage
from leadline.statistics import Effect

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(values)
def test_pack_and_unpack_are_inverse(value):
    arrays = {}
    tree = json.loads(storage.canonical_json(storage.pack(value, arrays, "value")))
    assert storage.unpack(tree, arrays) == value


@dataclass(frozen=True)
class Stranger:
    x: int


def test_records_and_arrays_are_loaded_as_saved(tmp_path: Path):
    interval = Interval(1.0, -np.inf, np.inf)
    effect = Effect("gain", interval, interval, float("nan"), 12)
    storage.save(effect, tmp_path)
    back = storage.load(tmp_path, Effect)
    assert back.interval == interval
    assert np.isnan(back.detectable)

    arrays = {}
    tree = storage.pack(
        {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x", "y"])}, arrays, "root"
    )
    assert storage.unpack(tree, arrays)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert storage.unpack(tree, arrays)["b"].tolist() == ["x", "y"]


@pytest.mark.parametrize(
    "settings",
    [
        {"a.b": np.zeros(2), "a": {"b": np.ones(2)}},
        {1: np.zeros(2), "1": np.ones(2)},
        {
            "scalar": np.array(3.0),
            "empty": np.zeros((0, 2)),
            "turned": np.arange(6).reshape(2, 3).T,
        },
        {"texts": np.array([["a", "b"]])},
    ],
)
def test_arrays_keep_their_field_shape_and_values(tmp_path: Path, settings):
    storage.save(Protocol(settings), tmp_path)
    back = storage.load(tmp_path, Protocol).settings

    def leaves(value):
        return [
            leaf
            for item in value.values()
            for leaf in (leaves(item) if isinstance(item, dict) else [item])
        ]

    for ours, theirs in zip(leaves(back), leaves(settings), strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array([1j]), "record.settings.x is an array of complex128"),
        (np.array([None]), "record.settings.x is an array of object"),
        (np.zeros(2, np.longdouble), "cannot be saved"),
        (object(), "record.settings.x is a object"),
        ({(1, 2): 3}, r"has the key \(1, 2\)"),
    ],
)
def test_an_error_names_the_value_that_cannot_be_saved(tmp_path: Path, value, text):
    with pytest.raises(TypeError, match=text):
        storage.save(Protocol({"x": value}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_changed_arrays_raise_an_error(tmp_path: Path):
    storage.save(Protocol({"x": np.full(50, 3.0)}), tmp_path)
    (path,) = tmp_path.glob("arrays-*")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(SaveError, match="has changed since it was written"):
        storage.load(tmp_path, Protocol)


def test_an_interrupted_write_leaves_no_unfinished_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        storage.write(tmp_path / "x", "new")
    assert list(tmp_path.iterdir()) == []


def test_loading_creates_only_records_of_leadline(tmp_path: Path):
    with pytest.raises(TypeError, match="a Stranger, which has no name in files"):
        storage.save(Stranger(1), tmp_path)
    for name in (
        "os:system",
        "os.system",
        "leadline.storage:write",
        "leadline.storage:np",
        "leadline.errors:InputError",
        "sounding.math",
        "worksheet.subprocess",
    ):
        with pytest.raises(ValueError, match="not one of Leadline's records"):
            storage.unpack({"$type": name, "fields": {}}, {})


def test_a_second_save_replaces_the_first_and_its_arrays(tmp_path: Path):
    storage.save(Protocol({"a": np.zeros(3)}), tmp_path)
    storage.save(Protocol({"a": np.ones(3)}), tmp_path)
    assert len(list(tmp_path.glob("arrays-*"))) == 1
    assert storage.load(tmp_path, Protocol).settings["a"].tolist() == [1, 1, 1]


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "result.json"
    storage.write(target, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match=r"could not write .*result\.json: No space left on device"):
        storage.write(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_written_files_have_the_users_permissions(tmp_path: Path):
    storage.write(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "does not exist"),
        ("", "no readable sounding"),
        ("[1]", "no readable sounding"),
        ('{"schema": 99, "record": null}', "schema 99"),
        ('{"schema": 1}', r"written by Leadline 0\.1.*measure again"),
        ('{"schema": 2}', "damaged"),
        ('{"schema": 1, "record": 3}', "holds a int, not a Verdict"),
        (
            '{"schema": 1, "record": {"$type": "leadline.sounding:Verdict", "fields": {"x": 1}}}',
            r"written by Leadline 0\.1",
        ),
        ('{"schema": 2, "record": {"$type": "sounding.Verdict", "fields": {"x": 1}}}', "damaged"),
        ('{"schema": 2, "record": {"$who": 1}}', "damaged"),
        (
            '{"schema": 1, "record": null, "arrays": "../../secret"}',
            "is not the name of its arrays",
        ),
        (
            '{"schema": 1, "record": null, "arrays": "arrays-0123456789abcdef.safetensors"}',
            "does not exist",
        ),
        ('{"schema": 1, "record": null, "arrays": 3}', "is not the name of its arrays"),
        ("[" * 100_000, "nested too deeply"),
        ("\xff", "no readable sounding"),
    ],
)
def test_damaged_folders_raise_an_error(tmp_path: Path, content, text):
    if content is not None:
        (tmp_path / "sounding.json").write_text(content)
    with pytest.raises(SaveError, match=text):
        storage.load(tmp_path, Verdict)


def test_a_record_of_version_0_1_is_found_by_the_name_of_its_class():
    tree = {"$type": "leadline.sounding:Verdict", "fields": {"sentence": "a", "outcome": None}}
    assert storage.unpack(tree, {}) == Verdict("a")
    tree = {"$type": "leadline.recurrent.flow:GradientFlow", "fields": {}}
    # The class exists, but its fields are missing.
    with pytest.raises(TypeError, match="missing"):
        storage.unpack(tree, {})


def test_two_classes_cannot_share_a_name():
    with pytest.raises(ValueError, match="two classes"):
        storage.record("sounding.Verdict")(Stranger)
    with pytest.raises(ValueError, match="needs a package and a name"):
        storage.record("Verdict")
