"""The representation room: train an autoencoder on corrupted rows, and probe its encoder."""

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
    of_run,
    silent,
)
from leadline.explore.server._jobs import Jobs, Progress
from leadline.explore.server._uploads import LARGEST_FILE, uploads
from leadline.sounding import Sounding

MOST_RUNS = 2
"""Largest number of runs at the same time; a machine with few cores cannot do more."""

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
    if RUNS.get(settings.job) != of_run(settings):
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


FOLLOWS = (
    ("status", "children"),
    ("progress", "value"),
    ("train", "disabled"),
    ("stop", "disabled"),
    ("back", "disabled"),
    ("encoder", "disabled"),
)


def follow(settings: Settings) -> Sequence[Any]:
    """Return the values of ``FOLLOWS``: status text, progress, and disabled buttons."""
    run = run_of(settings)
    is_known = settings.job in RUNS
    status = run.status if run is not None else None
    share = 0.0
    if run is not None and epochs_of(run):
        share = (
            1.0 if is_probing(run) else max(epoch.epoch / epoch.epochs for epoch in epochs_of(run))
        )
    goes_on = status == "running"
    return (
        _told(settings, run, material(settings)),
        f"{share:.3f}",
        goes_on,
        not goes_on,
        run is not None or not is_known,
        status != "done",
    )


def _told(settings: Settings, run: Progress | None, rows: Material) -> str:
    trained_on = len(rows.roles[0].pretrain_train)
    seeds = settings.seeds
    few = (
        "Two seeds are few: there is no interval."
        if seeds == 2
        else "Three seeds are few: intervals are wide."
    )
    if run is None and settings.job in RUNS:
        going = " and goes on" if jobs().progress(settings.job).status == "running" else ""
        return f"The run in the address was begun with other settings{going}. Train anew, or go back to it."
    if run is None and settings.job:
        return (
            "The run in the address ended with the server that began it. Train once more: every draw has its seed, and "
            "gives the same."
        )
    if run is None:
        probed = "" if rows.y is not None else " They have no labels: nothing will be probed."
        return (
            f"{len(rows.X):,} rows of {rows.X.shape[1]} numbers, {trained_on:,} of them to train on; {seeds} seeds."
            + probed
        )
    if run.status == "failed":
        return run.error
    if run.status == "stopped":
        return "Stopped; what was trained is not kept."
    if run.status == "running" and not epochs_of(run):
        return "A process of its own begins…"
    if run.status == "running":
        return "Probing…" if is_probing(run) else f"Training on {trained_on:,} rows…"
    if rows.y is None:
        return "Trained. The rows have no labels: nothing was probed."
    return f"Trained and probed. {few}"


def connect(app: Dash) -> None:
    """Add the callbacks of the buttons and of the upload to the application."""
    fields = fields_of(Settings)
    held = [State(ROOM.id(field.name), "value") for field in fields]
    job = Output(ROOM.id("job"), "value", allow_duplicate=True)
    trouble = Output(ROOM.id("trouble"), "children", allow_duplicate=True)

    @app.callback(
        job, trouble, Input(ROOM.id("train"), "n_clicks"), *held, prevent_initial_call=True
    )
    def train(presses: Any, *values: Any) -> tuple[Any, Any]:
        if not presses:
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
    def stop(presses: Any, name: Any) -> None:
        if presses and isinstance(name, str) and name in RUNS:
            # During a run the page sends requests, so it sees that the run has stopped.
            jobs().stop(name)

    @app.callback(
        *(Output(ROOM.id(field.name), "value", allow_duplicate=True) for field in fields),
        Input(ROOM.id("back"), "n_clicks"),
        *held,
        prevent_initial_call=True,
    )
    def back(presses: Any, *values: Any) -> Sequence[Any]:
        now = dict(zip((field.name for field in fields), values, strict=True))
        job = now["job"]
        if not presses or not isinstance(job, str) or job not in RUNS:
            return [no_update] * len(fields)
        then = replace(RUNS[job], job=job)
        return [getattr(then, field.name) for field in fields]

    @app.callback(
        Output(ROOM.id("download"), "data", allow_duplicate=True),
        Input(ROOM.id("encoder"), "n_clicks"),
        *held,
        prevent_initial_call=True,
    )
    def encoder(presses: Any, *values: Any) -> Any:
        try:
            run = run_of(from_values(Settings, values)) if presses else None
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
    set_then = of_run(settings)
    name = jobs().start(
        WORK, {"settings": asdict(set_then), "path": path, "threads": torch.get_num_threads()}
    )
    RUNS[name] = set_then
    return name


CLOSE = {"margin": {"l": 92, "r": 8, "t": 6, "b": 6}}
"""Margins of the strip, which has no axes."""

ROOM = Room(
    name="representation",
    title="What is this representation worth?",
    lead="Corrupt rows, let an autoencoder restore them, throw its decoder away, and see how many labels its encoder "
    "saves against the rows themselves and PCA.",
    settings=Settings,
    cards={
        "strip": Card(
            "What the encoder is shown, and what comes back", 230, wide=True, layout=CLOSE
        ),
        "curves": Card(
            "Training",
            340,
            lines=6,
            empty="Press train: the error of each epoch is drawn here as it comes.",
        ),
        "efficiency": Card(
            "What a label is worth",
            340,
            lines=6,
            empty="After training, where rows have labels: how accurate a classifier of the codes is, by how many "
            "labels it is given, beside one of the rows themselves and one of PCA.",
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
        "letters, half in the dark": Settings(
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
    follows=FOLLOWS,
    follow=follow,
    extra=extra,
    connect=connect,
)
