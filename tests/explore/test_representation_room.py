"""The representation room, tested in Python and in a browser."""

import dataclasses
import io
import re
import tempfile
import time
import zipfile
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from playwright.sync_api import expect

from leadline.autoencoders import Encoder
from leadline.data import Dataset, load
from leadline.errors import InputError
from leadline.explore import representation
from leadline.explore.page._settings import Between, fields_of, to_query
from leadline.explore.rooms import _representation as representation_room
from leadline.explore.rooms._representation import (
    ROOM,
    RUNS,
    begin,
    extra_values,
    jobs,
    run_of,
    stage,
)
from leadline.explore.rooms._representation_settings import Settings
from leadline.explore.server import _uploads as uploads_module
from leadline.explore.server._server import Server
from leadline.explore.server._uploads import LARGEST_ARRAYS, Uploads, uploads
from tests.explore.browser import Visitor, chromium, needs_chromium, settled, words

TINY = Settings(rows=200, epochs=2, seeds=2, hidden=8, bottleneck=4)


def ended(settings: Settings) -> None:
    deadline = time.monotonic() + 150
    while stage(settings) is not None:
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def packed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=True, **arrays)
    return file.getvalue()


def as_sent(content: bytes) -> str:
    return "data:application/octet-stream;base64," + b64encode(content).decode()


def load_bytes(content: bytes) -> Dataset:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.npz"
        file.write_bytes(content)
        return load(file)


rng = np.random.default_rng(0)
GOOD = packed(X=rng.uniform(size=(220, 6, 4)).astype("float32"), y=np.arange(220) % 3)
ROWS_ONLY = packed(X=rng.normal(size=(220, 5)))


@pytest.fixture(scope="module")
def trained():
    """Settings of a finished run."""
    settings = dataclasses.replace(TINY, job=begin(TINY))
    ended(settings)
    return settings


def same_table(mine, theirs) -> bool:
    return all(
        np.array_equal(mine[c], theirs[c], equal_nan=mine[c].dtype.kind == "f")
        for c in theirs.columns
    ) and list(mine.columns) == list(theirs.columns)


def test_the_code_makes_the_same_soundings(trained):
    taken, there = ROOM.take(trained), {}
    exec(compile(ROOM.code(trained), "code", "exec"), there)
    assert list(taken) == ["strip", "curves", "efficiency"]
    for name, sounding in taken.items():
        assert same_table(sounding.table(), there[name].table()), name


@pytest.mark.parametrize("name", ROOM.presets)
def test_each_preset_shows_the_same_examples_as_its_code(name, tmp_path, monkeypatch):
    settings = dataclasses.replace(ROOM.presets[name], rows=200)
    taken, there = ROOM.take(settings), {}
    assert list(taken) == ["strip"]
    short = dataclasses.replace(settings, epochs=1, seeds=2, hidden=8)
    exec(compile(ROOM.code(short).partition("\nif y is not None")[0], "code", "exec"), there)
    assert np.array_equal(taken["strip"].table()["shown"], there["strip"].table()["shown"])


def test_a_finished_run_has_an_encoder_and_a_status(trained):
    status, share, no_train, no_stop, no_back, no_encoder = extra_values(trained)
    assert status == "Trained and probed. With two seeds there is no interval."
    assert (share, no_train, no_stop, no_back, no_encoder) == ("1.000", False, True, True, False)
    run = run_of(trained)
    assert run is not None
    assert Encoder.load(run.folder / "encoder.safetensors").output_size == 4
    assert not [path for path in run.folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt")]


def test_other_settings_do_not_show_the_results_of_a_run(trained):
    other = dataclasses.replace(trained, noise=0.7)
    assert list(ROOM.take(other)) == ["strip"]
    status, _, _, _, no_back, no_encoder = extra_values(other)
    assert "was started with other settings, and has ended" in status
    assert (no_back, no_encoder) == (False, True)
    assert list(ROOM.take(dataclasses.replace(trained, examples=5))) == [
        "strip",
        "curves",
        "efficiency",
    ]


def test_a_run_of_another_server_is_reported_as_ended():
    status = extra_values(dataclasses.replace(TINY, job="0123456789ab"))[0]
    assert "ended when its server ended" in status


def test_rows_without_labels_are_not_probed():
    settings = dataclasses.replace(TINY, data="upload", upload=uploads().keep(as_sent(ROWS_ONLY)))
    settings = dataclasses.replace(settings, job=begin(settings))
    ended(settings)
    assert list(ROOM.take(settings)) == ["strip", "curves"]
    assert extra_values(settings)[0] == "Trained. The rows have no labels, so no probe was trained."


def test_many_clicks_at_once_start_only_two_runs(monkeypatch):
    clicks = 12
    monkeypatch.setattr(representation_room, "WORK", "tests.explore.work:never_ends")
    together = Barrier(clicks)

    def click(_: int) -> str:
        together.wait()
        return begin(TINY)

    with ThreadPoolExecutor(clicks) as threads:
        answers = [threads.submit(click, i) for i in range(clicks)]
    refusals = [answer.exception() for answer in answers]
    begun = [
        answer.result()
        for answer, refusal in zip(answers, refusals, strict=True)
        if refusal is None
    ]
    assert len(begun) == representation_room.MOST_RUNS == 2
    for refusal in filter(None, refusals):
        rule = "at most 2 runs can be active at the same time\n  got:   2 active runs"
        assert isinstance(refusal, InputError)
        assert str(refusal).startswith(rule)
    assert {name for name in begun if jobs().progress(name).status == "running"} == set(begun)
    with pytest.raises(InputError, match="at most 2 runs"):
        begin(TINY)
    jobs().stop(begun[0])
    begun.append(begin(TINY))
    for name in begun:
        jobs().stop(name)
        del RUNS[name]


@pytest.mark.parametrize("made", [jobs, uploads])
def test_simultaneous_requests_share_the_same_object(made, monkeypatch):
    inner = {jobs: representation_room, uploads: uploads_module}[made]
    name = f"_{made.__name__}"
    kind = getattr(inner, name).__wrapped__
    kept: list = []
    monkeypatch.setattr(inner, name, cache(lambda: kept.append(kind()) or kept[-1]))
    together = Barrier(8)

    def ask(_: int) -> int:
        together.wait()
        return id(made())

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == len(kept) == 1


def lying(shape: tuple[int, ...]) -> bytes:
    """Return a small file whose header declares a huge array."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("X.npy", header.getvalue())
    return file.getvalue()


HOSTILE = {
    "an object array": (packed(X=np.array([{}, []], dtype=object)), "pickled objects can run code"),
    "zeros that unpack to much": (packed(X=np.zeros((LARGEST_ARRAYS // 64, 17))), "64 MB"),
    "a header that lies": (lying((10**9, 100)), "64 MB"),
    "overflowing sides": (lying((2**40, 2**40)), "features"),
    "many features": (packed(X=np.zeros((2, 5000))), "4,096 features"),
    "no zip": (b"PK\x03\x04 no", "an upload must be an .npz file"),
    "nothing": (b"", "an upload must be an .npz file"),
    "another file in it": (None, "an upload must be an .npz file"),
    "NaN": (packed(X=np.full((3, 2), np.nan)), "X must be finite"),
    "five axes": (packed(X=np.zeros((2, 2, 2, 2, 2))), "matrix"),
    "no X": (packed(Z=np.zeros((2, 2))), "must hold the features as the array X"),
    "labels of other length": (
        packed(X=np.zeros((3, 2)), y=np.arange(4)),
        "must have one label for each row",
    ),
}
_other = io.BytesIO()
with zipfile.ZipFile(_other, "w") as _archive:
    _archive.writestr("../../evil.npy", b"import os")
HOSTILE["another file in it"] = (_other.getvalue(), HOSTILE["another file in it"][1])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_upload_is_refused_and_leaves_no_file(name):
    content, message = HOSTILE[name]
    uploads = Uploads()
    with pytest.raises(InputError, match=re.escape(message)):
        uploads.keep(as_sent(content))
    assert list(uploads._home.glob("*.npz")) == []


def test_uploads_are_named_by_content_and_the_oldest_is_removed(monkeypatch):
    monkeypatch.setattr("leadline.explore.server._uploads.MOST_FILES", 2)
    uploads = Uploads()
    names = [uploads.keep(as_sent(packed(X=np.full((4, 3), float(i))))) for i in range(3)]
    assert uploads.keep(as_sent(packed(X=np.full((4, 3), 2.0)))) == names[2]
    assert uploads.path(names[1]).exists()
    for name in (names[0], "0" * 16, "../x", ""):
        with pytest.raises(InputError, match="must name a file that was uploaded to this server"):
            uploads.path(name)
    assert len(list(uploads._home.glob("*.npz"))) == 2


def test_uploads_with_other_labels_or_shapes_have_different_names():
    X = np.random.default_rng(1).uniform(size=(4, 2, 6)).astype("float32")
    files = {
        "no labels": packed(X=X),
        "words": packed(X=X, y=np.array(["cat", "dog", "cat", "dog"])),
        "other words": packed(X=X, y=np.array(["ant", "bee", "ant", "bee"])),
        "numbers": packed(X=X, y=np.array([0, 1, 0, 1])),
        "other numbers": packed(X=X, y=np.array([3, 7, 3, 7])),
        "other images": packed(X=X.reshape(4, 3, 4), y=np.array(["cat", "dog", "cat", "dog"])),
        "rows": packed(X=X.reshape(4, 12), y=np.array(["cat", "dog", "cat", "dog"])),
    }
    kept = Uploads()
    names = {name: kept.keep(as_sent(content)) for name, content in files.items()}
    assert len(set(names.values())) == len(files)
    for name, content in files.items():
        mine, theirs = load(kept.path(names[name])), load_bytes(content)
        assert (mine.class_names, mine.image_size) == (theirs.class_names, theirs.image_size)
    again = io.BytesIO()
    # The same arrays without compression and in another order have the same name.
    np.savez(again, y=np.array(["cat", "dog", "cat", "dog"]), X=X)
    assert kept.keep(as_sent(again.getvalue())) == names["words"]


def test_unsuitable_patches_are_refused_before_a_run():
    number = len(RUNS)
    for change in (
        {"patch": "7"},
        {"data": "upload", "upload": uploads().keep(as_sent(ROWS_ONLY))},
    ):
        settings = dataclasses.replace(TINY, kind="masked patches", **change)
        for call in (ROOM.take, begin):
            with pytest.raises(InputError):
                call(settings)
    assert len(RUNS) == number


@pytest.fixture(scope="module")
def visitor():
    with chromium() as browser:
        server = Server([ROOM], port=0).start()
        one = Visitor(browser, server)
        yield one
        one.leave()
        server.stop()


@pytest.fixture(scope="module")
def page(visitor):
    """One page for all tests; every test sets the controls that it needs."""
    return visitor.open("representation" + to_query(TINY), viewport={"width": 1280, "height": 1000})


def status(page):
    return page.locator("#representation-status")


def button(page, name: str):
    return page.get_by_role("button", name=name, exact=True)


@needs_chromium
def test_one_click_sets_each_preset_and_a_slider_redraws(page):
    for name, settings in ROOM.presets.items():
        button(page, name).click()
        settled(page, ROOM, to_query(settings))
        expect(words(page, ROOM, "strip")).to_have_text(str(ROOM.take(settings)["strip"]))
    button(page, "masked pixels").click()
    page.locator("#representation-ratio").press("ArrowRight")
    moved = Settings(kind="masked pixels", ratio=0.55)
    settled(page, ROOM, to_query(moved))
    expect(words(page, ROOM, "strip")).to_have_text(str(ROOM.take(moved)["strip"]))
    page.locator("#representation-ratio").press("ArrowRight")
    # The click comes before the server can answer and before Dash sees the slider move.
    button(page, "masked pixels").click()
    settled(page, ROOM, to_query(ROOM.presets["masked pixels"]))
    expect(page.locator("#representation-ratio")).to_have_value("0.5")


SLIDERS = [field.name for field in fields_of(Settings) if isinstance(field.kind, Between)]


@needs_chromium
@pytest.mark.parametrize("name", SLIDERS)
def test_arrow_keys_move_each_slider(page, visitor, name):
    before = dataclasses.replace(TINY, kind="masked pixels" if name == "ratio" else "denoising")
    page.goto(visitor.server.url("representation" + to_query(before)))
    settled(page, ROOM, to_query(before))
    slider = page.locator(f"#representation-{name}")
    slider.press("ArrowRight")
    moved = type(getattr(before, name))(slider.input_value())
    assert moved > getattr(before, name)
    expect(page.locator(f"#representation-{name}-shown")).to_have_text(f"{moved:g}")
    settled(page, ROOM, to_query(dataclasses.replace(before, **{name: moved})))


@needs_chromium
def test_training_shows_its_curves_after_a_reload_and_in_another_tab(page, visitor):
    page.goto(visitor.server.url("representation" + to_query(TINY)))
    expect(status(page)).to_contain_text("200 rows of 64 numbers")
    button(page, "train").click()
    expect(page).to_have_url(re.compile("job="))
    # The training is still running.
    page.reload()
    other = visitor.tab(page.context, page.url)
    for tab in (page, other):
        expect(status(tab)).to_contain_text("Trained and probed", timeout=120_000)
        expect(words(tab, ROOM, "curves")).to_contain_text("epoch 2 of 2, 2 models")
        expect(words(tab, ROOM, "efficiency")).to_contain_text("no interval: 2 seeds")
        expect(tab.locator("#representation-efficiency-figure .main-svg").first).to_be_visible()
    with page.expect_download() as waiting:
        button(page, "download the encoder").click()
    assert Encoder.load(Path(waiting.value.path())).output_size == 4
    other.locator("#representation-noise").press("ArrowRight")
    expect(status(other)).to_contain_text("was started with other settings")
    expect(words(other, ROOM, "curves")).to_have_text(ROOM.cards["curves"].empty)
    expect(status(page)).to_contain_text("Trained and probed")
    button(other, "back to the run").click()
    expect(words(other, ROOM, "curves")).to_contain_text("epoch 2 of 2")
    other.close()


@needs_chromium
def test_the_keyboard_starts_and_stops_a_run(page, visitor):
    long = dataclasses.replace(TINY, epochs=300, rows=2000, hidden=512, data="photographs", seeds=3)
    page.goto(visitor.server.url("representation" + to_query(long)))
    expect(status(page)).to_contain_text("no probe is trained", timeout=60_000)
    page.locator("#representation-bottleneck").focus()
    is_train = "document.activeElement.textContent == 'train'"
    for _ in range(20):
        if page.evaluate(is_train):
            break
        page.keyboard.press("Tab")
    assert page.evaluate(is_train), "Tab leads from the sliders to the button"
    page.keyboard.press("Enter")
    expect(button(page, "stop")).to_be_enabled()
    button(page, "stop").focus()
    page.keyboard.press("Space")
    expect(status(page)).to_contain_text("Stopped", timeout=60_000)
    expect(button(page, "train")).to_be_enabled()
    name = page.url.partition("job=")[2][:12]
    assert jobs().progress(name).status == "stopped"


@needs_chromium
def test_the_page_accepts_valid_uploads_and_refuses_hostile_uploads(page, visitor):
    page.goto(visitor.server.url("representation" + to_query(TINY)))
    settled(page, ROOM, to_query(TINY))
    chooser = page.locator("#representation-file input[type=file]")
    for name, (content, message) in HOSTILE.items():
        if name in ("an object array", "a header that lies", "no zip", "NaN"):
            chooser.set_input_files(
                {"name": f"<img src=x>{name}.npz", "mimeType": "x/y", "buffer": content}
            )
            expect(page.locator("#representation-trouble")).to_contain_text(message)
    assert page.locator("main img").count() == 0
    chooser.set_input_files({"name": "mine.npz", "mimeType": "x/y", "buffer": GOOD})
    expect(status(page)).to_contain_text("200 rows of 24 numbers")
    expect(page).to_have_url(re.compile("data=upload.*upload=[0-9a-f]{16}"))
    expect(page.locator("#representation-trouble")).to_be_hidden()
    page.goto(visitor.server.url("representation?data=upload&upload=" + "0" * 16))
    expect(page.locator("#representation-trouble")).to_contain_text(
        "must name a file that was uploaded to this server"
    )
    button(page, "reset").click()
    expect(page.locator("#representation-trouble")).to_be_hidden()


@needs_chromium
@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_fits_every_width_and_dark_mode_changes_the_strip(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    button(page, "denoising").click()
    settled(page, ROOM, "")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.emulate_media(color_scheme="dark")
    expect(page.locator("#representation-strip-figure .ytick text").first).to_have_css(
        "fill", "rgb(228, 232, 236)"
    )
    page.emulate_media(color_scheme="light")


def test_a_notebook_shows_the_room_in_a_frame():
    room = representation(kind="vanilla", bottleneck=2)
    assert "representation?kind=vanilla&bottleneck=2" in str(room)
    assert "<iframe" in room._repr_html_()
