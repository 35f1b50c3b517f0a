"""The representation room: train an autoencoder on corrupted rows, and probe its codes."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import torch
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from leadline import autoencoders
from leadline.errors import LeadlineError, describe
from leadline.explore.page._room import Card, Room
from leadline.explore.page._settings import fields_of, from_values
from leadline.explore.rooms._representation_run import (
    ENCODER,
    WORK,
    efficiency_of,
    epochs_of,
    is_probing,
    pretrained_of,
)
from leadline.explore.rooms._representation_settings import (
    Material,
    Settings,
    code,
    corruption,
    material,
    run_settings,
    silent,
)
from leadline.explore.server._jobs import Jobs, Progress
from leadline.explore.server._uploads import LARGEST_FILE, uploads
from leadline.sounding import Sounding

MOST_RUNS = 2
"""Largest number of runs at the same time; more would slow down a machine with few cores."""

RUNS: dict[str, Settings] = {}
"""Settings of each run that this process started, by the name of the run."""


def jobs() -> Jobs:
    """Return the jobs of this process; the first request creates the object, even among threads."""
    with _making:
        return _jobs()


_making = threading.Lock()


@cache
def _jobs() -> Jobs:
    return Jobs(most=MOST_RUNS)


def run_of(settings: Settings) -> Progress | None:
    """Return the state of the run with these settings; ``None`` if there is no such run."""
    if RUNS.get(settings.job) != run_settings(settings):
        return None
    return jobs().progress(settings.job)


def soundings(settings: Settings) -> Iterator[tuple[str, Sounding]]:
    """Yield the corrupted examples, and the results of the run that exist so far.

    Training curves come during a run; reconstructions and label efficiency come after it.
    """
    rows = material(settings)
    run = run_of(settings)
    is_done = run is not None and run.status == "done"
    corrupt = corruption(settings, rows.image_size, rows.channels)
    yield (
        "strip",
        autoencoders.corrupt_examples(
            rows.shown,
            corrupt,
            pretrained_of(run) if run is not None and is_done else None,
            seed=settings.examples,
            image_size=rows.image_size,
            channels=rows.channels,
        ),
    )
    if run is not None and epochs_of(run):
        yield "curves", autoencoders.TrainingCurves.from_epochs(epochs_of(run))
    efficiency = efficiency_of(run) if run is not None and is_done else None
    if efficiency is not None:
        yield "efficiency", efficiency


def stage(settings: Settings) -> int | None:
    """Return the number of records of a running run; ``None`` if no run is running."""
    run = run_of(settings)
    return len(run.metrics) if run is not None and run.status == "running" else None


def extra(settings: Settings) -> Sequence[Component]:
    """Return the upload button, and the buttons and the progress bar of a run."""
    return [
        html.Div(
            [
                dcc.Upload(
                    html.Button("upload .npz", type="button", id=ROOM.id("choose")),
                    id=ROOM.id("file"),
                    accept=".npz",
                    max_size=LARGEST_FILE,
                    className="file",
                ),
                html.Button("train", id=ROOM.id("train"), type="button", className="main"),
                html.Button("stop", id=ROOM.id("stop"), type="button", disabled=True),
                html.Button("back to the run", id=ROOM.id("back"), type="button", disabled=True),
                html.Button(
                    "download the encoder", id=ROOM.id("encoder"), type="button", disabled=True
                ),
                html.Progress(
                    id=ROOM.id("progress"),
                    value="0",
                    max="1",
                    **{"aria-label": "Training"},  # type: ignore[arg-type]
                ),
            ],
            className="run",
        ),
        html.P(id=ROOM.id("status"), className="status", role="status"),
    ]


EXTRA_PROPERTIES = (
    ("status", "children"),
    ("progress", "value"),
    ("train", "disabled"),
    ("stop", "disabled"),
    ("back", "disabled"),
    ("encoder", "disabled"),
)
"""Properties of the components above the cards that each answer sets."""


def extra_values(settings: Settings) -> Sequence[Any]:
    """Return the values of :data:`EXTRA_PROPERTIES`: text, progress, and disabled buttons."""
    run = run_of(settings)
    has_run_in_address = settings.job in RUNS
    status = run.status if run is not None else None
    is_running = status == "running"
    return (
        _status(settings, run, material(settings)),
        f"{_share_of_training(run):.3f}",
        is_running,
        not is_running,
        run is not None or not has_run_in_address,
        status != "done",
    )


def _share_of_training(run: Progress | None) -> float:
    """Return the finished share of the training epochs, from 0 to 1."""
    if run is None or not epochs_of(run):
        return 0.0
    if is_probing(run):
        return 1.0
    return max(epoch.epoch / epoch.epochs for epoch in epochs_of(run))


def _status(settings: Settings, run: Progress | None, rows: Material) -> str:
    """Return the text below the buttons."""
    if run is None:
        return _status_without_run(settings, rows)
    if run.status == "failed":
        return run.error
    if run.status == "stopped":
        return "Stopped. The unfinished results were deleted."
    if run.status == "running":
        if not epochs_of(run):
            return "Starting the training process…"
        if is_probing(run):
            return "Probing…"
        return f"Training on {len(rows.roles[0].pretrain_train):,} rows…"
    if rows.y is None:
        return "Trained. The rows have no labels, so no probe was trained."
    if settings.seeds == 2:
        return "Trained and probed. With two seeds there is no interval."
    return "Trained and probed. With three seeds the intervals are wide."


def _status_without_run(settings: Settings, rows: Material) -> str:
    """Return the text below the buttons while no run has the settings of the page."""
    if settings.job in RUNS:
        is_running = jobs().progress(settings.job).status == "running"
        state = "is still running" if is_running else "has ended"
        return (
            "The run in the address was started with other settings, and "
            f"{state}. Press train for a new run, or back to the run."
        )
    if settings.job:
        return (
            "The run in the address ended when its server ended. Press train to repeat it; every "
            "seed is fixed, so the results are the same."
        )
    size = f"{len(rows.X):,} rows of {rows.X.shape[1]} numbers"
    training = f"{len(rows.roles[0].pretrain_train):,} of them for training"
    text = f"{size}, {training}; {settings.seeds} seeds."
    return text if rows.y is not None else f"{text} They have no labels, so no probe is trained."


def connect(app: Dash) -> None:
    """Add the callbacks of the buttons and of the upload to the application."""
    fields = fields_of(Settings)
    states = [State(ROOM.id(field.name), "value") for field in fields]
    job = Output(ROOM.id("job"), "value", allow_duplicate=True)
    trouble = Output(ROOM.id("trouble"), "children", allow_duplicate=True)

    @app.callback(
        job, trouble, Input(ROOM.id("train"), "n_clicks"), *states, prevent_initial_call=True
    )
    def train(clicks: Any, *values: Any) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        try:
            return begin(from_values(Settings, values)), ""
        except LeadlineError as error:
            return no_update, describe(error)

    @app.callback(
        Input(ROOM.id("stop"), "n_clicks"),
        State(ROOM.id("job"), "value"),
        prevent_initial_call=True,
    )
    def stop(clicks: Any, name: Any) -> None:
        if clicks and isinstance(name, str) and name in RUNS:
            # During a run the page sends requests, so it sees that the run has stopped.
            jobs().stop(name)

    @app.callback(
        *(Output(ROOM.id(field.name), "value", allow_duplicate=True) for field in fields),
        Input(ROOM.id("back"), "n_clicks"),
        *states,
        prevent_initial_call=True,
    )
    def back(clicks: Any, *values: Any) -> Sequence[Any]:
        values_by_name = dict(zip((field.name for field in fields), values, strict=True))
        job = values_by_name["job"]
        if not clicks or not isinstance(job, str) or job not in RUNS:
            return [no_update] * len(fields)
        settings = replace(RUNS[job], job=job)
        return [getattr(settings, field.name) for field in fields]

    @app.callback(
        Output(ROOM.id("download"), "data", allow_duplicate=True),
        Input(ROOM.id("encoder"), "n_clicks"),
        *states,
        prevent_initial_call=True,
    )
    def encoder(clicks: Any, *values: Any) -> Any:
        try:
            run = run_of(from_values(Settings, values)) if clicks else None
        except LeadlineError:  # invalid settings, so no run has them
            run = None
        if run is None or run.status != "done":
            return no_update
        return dcc.send_file(run.folder / ENCODER, f"encoder-{values[-1]}.safetensors")  # type: ignore[arg-type]

    @app.callback(
        Output(ROOM.id("upload"), "value", allow_duplicate=True),
        Output(ROOM.id("data"), "value", allow_duplicate=True),
        trouble,
        Input(ROOM.id("file"), "contents"),
        prevent_initial_call=True,
    )
    def upload(sent: Any) -> tuple[Any, Any, Any]:
        if not sent:
            return no_update, no_update, no_update
        try:
            return uploads().keep(sent), "upload", ""
        except LeadlineError as error:
            return no_update, no_update, describe(error)


def begin(settings: Settings) -> str:
    """Start a run, and return its name.

    Raises:
        InputError: the largest number of runs is active, or training with these settings is
            impossible.
        SaveError: the folder or the process of the run could not be created.
    """
    rows = material(settings)
    corruption(settings, rows.image_size, rows.channels)
    path = str(uploads().path(settings.upload)) if settings.data == "upload" else ""
    run = run_settings(settings)
    name = jobs().start(
        WORK, {"settings": asdict(run), "path": path, "threads": torch.get_num_threads()}
    )
    RUNS[name] = run
    return name


NARROW_MARGINS = {"margin": {"l": 92, "r": 8, "t": 6, "b": 6}}
"""Margins of the strip, which has no axes."""

ROOM = Room(
    name="representation",
    title="What is this representation worth?",
    lead="Corrupt the rows and train an autoencoder to restore them. Then see how many labels its "
    "codes save, compared with raw rows and with PCA.",
    settings=Settings,
    cards={
        "strip": Card(
            "Examples: original, corrupted, reconstructed", 230, wide=True, layout=NARROW_MARGINS
        ),
        "curves": Card(
            "Training curves",
            340,
            lines=6,
            empty="Press train. Each epoch then adds its error to this figure.",
        ),
        "efficiency": Card(
            "Accuracy by number of labels",
            340,
            lines=6,
            empty="After training, this figure shows the accuracy of a classifier of the codes for "
            "several numbers of labels, compared with classifiers of raw rows and of PCA. It needs "
            "labels.",
        ),
    },
    soundings=soundings,
    code=code,
    presets={
        "vanilla": Settings(kind="vanilla"),
        "denoising": Settings(kind="denoising", noise=0.5),
        "masked pixels": Settings(kind="masked pixels", ratio=0.5),
        "masked patches": Settings(kind="masked patches", ratio=0.5, patch="2"),
        "too narrow a bottleneck": Settings(kind="vanilla", bottleneck=2),
        "overcomplete with noise": Settings(
            kind="denoising", noise=0.5, hidden=256, bottleneck=256
        ),
        "letters, half of the patches hidden": Settings(
            data="glyphs", kind="masked patches", ratio=0.5, patch="4"
        ),
        "photographs, no labels": Settings(
            data="photographs", kind="masked patches", ratio=0.5, patch="4"
        ),
    },
    groups={
        "Rows": ("data", "rows", "upload"),
        "Corruption": ("kind", "noise", "ratio", "patch", "examples"),
        "Autoencoder": ("hidden", "bottleneck"),
        "Training": ("epochs", "seeds", "job"),
    },
    silent=silent,
    stage=stage,
    extra_properties=EXTRA_PROPERTIES,
    extra_values=extra_values,
    extra=extra,
    connect=connect,
)
