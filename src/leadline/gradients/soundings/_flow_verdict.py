"""The verdict on the gradient flow of one layer, and notes on the details."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from leadline.gradients.soundings._flow import (
    LN10,
    LayerFlow,
    median,
    median_slope,
    overflow,
    underflow,
)

KEEPS = 10.0
"""A gradient that changes by less than this factor over the whole sequence keeps its size."""

LARGEST_LOG = 700.0
"""Larger logarithms are cut off, since float64 overflows at 709.8."""

DIGITS = 15
"""Number of decimal digits that float64 holds."""


@dataclass(frozen=True, eq=False)
class Course:
    """The gradient of each sample in the order in which the layer reads the sequence.

    The gradient enters at the latest timestep that receives any, and runs back to the first one.
    """

    log_total: Float[np.ndarray, "B T"]
    """ln ‖dL/dh_t‖; NaN for padding, ``-inf`` for no gradient or a lost one."""
    is_lost: Bool[np.ndarray, "B T"]
    """True where the floating point of a hand-written loop cannot hold the gradient."""
    num_timesteps: Int[np.ndarray, " B"]
    """Timesteps of each sample."""
    near: Int[np.ndarray, " B"]
    """Index of the latest timestep that receives gradient; -1 for none."""
    start: Int[np.ndarray, " B"]
    """Index of the first timestep that is no padding."""

    @classmethod
    def of(cls, layer: LayerFlow) -> "Course":
        """Return the course of a layer's gradient."""
        is_lost = np.zeros_like(layer.log_total, bool) if layer.lost is None else layer.lost
        log_total = np.where(is_lost, -np.inf, layer.log_total)
        if layer.direction == "reverse":
            log_total = log_total[:, ::-1]
            is_lost = is_lost[:, ::-1]
        is_present = ~np.isnan(log_total)
        arrives = is_present & (log_total > -np.inf)
        latest = log_total.shape[1] - 1 - np.argmax(arrives[:, ::-1], axis=1)
        near = np.where(arrives.any(axis=1), latest, -1)
        start = np.argmax(is_present, axis=1)
        return cls(log_total, is_lost, is_present.sum(axis=1), near, start)

    @property
    def num_dead(self) -> Int[np.ndarray, " B"]:
        """Timesteps at the far end of each sample, without a gap, that receive no gradient."""
        return self._from_start((self.log_total == -np.inf) & ~self.is_lost)

    @property
    def num_lost(self) -> Int[np.ndarray, " B"]:
        """Timesteps at the far end of each sample, without a gap, whose gradient is lost."""
        return self._from_start(self.is_lost)

    @property
    def num_unread(self) -> int:
        """Timesteps after the latest one that receives gradient, in the median sample."""
        after = self.start + self.num_timesteps - 1 - self.near
        return int(np.median(after[self.near >= 0]))

    def _from_start(self, where: np.ndarray) -> Int[np.ndarray, " B"]:
        holds = where | np.isnan(self.log_total)
        first_gap = np.argmin(holds, axis=1) - self.start
        return np.where(holds.all(axis=1), self.num_timesteps, first_gap)


def describe_flow(layer: LayerFlow) -> str:
    """Return the change of a layer's gradient on its way back, for the median sample."""
    if not layer.log_total.size:
        return "the batch is empty"
    course = Course.of(layer)
    return _without_change(layer, course) or _change(layer, course)


def flow_notes(layer: LayerFlow) -> list[str]:
    """Return sentences on the range of float32, the cells, unusual samples and the loss."""
    if not layer.log_total.size or not np.isfinite(layer.log_total).any():
        return []
    course = Course.of(layer)
    notes = []
    end = "last" if layer.direction == "forward" else "first"
    if (course.near >= 0).any() and course.num_unread:
        notes.append(f"the loss does not reach the {end} {course.num_unread} timesteps")
    notes += _range_notes(layer, course)
    notes += _cell_notes(layer)
    count = len(course.near)
    is_infinite = (course.log_total == np.inf).any(axis=1)
    if is_infinite.any():
        samples = f"{int(is_infinite.sum())} of {count} samples"
        notes.append(f"the gradient is infinite at some timestep in {samples}")
    dies = course.num_dead >= 1
    if dies.any():
        notes.append(f"the gradient dies on the way in {int(dies.sum())} of {count} samples")
    enters = np.isfinite(layer.log_direct).sum(axis=1)
    if (enters > course.num_timesteps / 2).any():
        # A sum over loss terms keeps its size even if each term dies within a few steps.
        notes.append(
            "the loss enters at more than half of the timesteps; tape.influence() shows how far "
            "each term reaches"
        )
    return notes


def fold(log: float) -> str:
    """Return the factor of a logarithm as text, with enough digits to show that it is not 1.

    >>> fold(0.5), fold(0.0005), fold(-0.0005), fold(0.0)
    ('1.65', '1.0005', '0.9995', '1')
    """
    factor = math.exp(min(log, LARGEST_LOG))
    text = f"{factor:.3g}"
    if log == 0 or float(text) != 1:
        return text
    leading_zeros = math.ceil(-math.log10(abs(log)))
    return f"{factor:.{min(leading_zeros + 2, DIGITS)}g}"


def _without_change(layer: LayerFlow, course: Course) -> str | None:
    """Describe a gradient that is zero, infinite, dead or too short; ``None`` for any other."""
    log_total = course.log_total
    num_timesteps = int(np.median(course.num_timesteps))
    if not np.isfinite(log_total).any():
        is_zero = (log_total[~np.isnan(log_total)] == -np.inf).all()
        return "no gradient of the loss arrives" if is_zero else "the gradient is infinite"
    num_infinite = int(np.median((log_total == np.inf).sum(axis=1)))
    if num_infinite:
        return f"the gradient is infinite at {num_infinite} of {num_timesteps} timesteps"
    num_dead = int(np.median(course.num_dead))
    if num_dead:
        start = "first" if layer.direction == "forward" else "last"
        return f"the gradient dies: the {start} {num_dead} of {num_timesteps} timesteps get none"
    num_reached = int(np.median(np.isfinite(log_total).sum(axis=1)))
    if num_reached < 2 or math.isnan(median_slope(layer)):
        return f"the loss reaches {num_reached} of {num_timesteps} timesteps, too few for a change"
    return None


def _change(layer: LayerFlow, course: Course) -> str:
    """Describe the change of the gradient from the loss back to the far end."""
    sample = np.flatnonzero(course.near >= 0)
    near_index = course.near[sample]
    far_index = course.start[sample] + course.num_lost[sample]
    near = course.log_total[sample, near_index]
    far = course.log_total[sample, far_index]
    is_known = ~np.isposinf(near) & ~np.isposinf(far)
    if is_known.any():
        # Samples with an infinite end are counted in a note.
        sample = sample[is_known]
        near_index = near_index[is_known]
        far_index = far_index[is_known]
        near = near[is_known]
        far = far[is_known]
    slope = median_slope(layer)
    by_fit = slope * np.median(near_index - far_index)
    is_larger = bool(np.median(far) > np.median(near))
    fitted = "grows" if slope > 0 else "shrinks"
    note = ""
    turn = _turn(layer.log_known[sample], near, far)
    if turn is not None:
        change = turn
    elif _keeps_its_size(near, far, by_fit):
        change = "keeps its size"
    elif is_larger == (slope > 0):
        change = f"{fitted} {fold(abs(slope))}-fold per step back"
    else:
        # A few timesteps near one end weigh little in the fitted line.
        change = "grows" if is_larger else "shrinks"
        note = f", though its fitted line {fitted}"
    if int(np.median(course.num_lost)):
        precision = layer.precision or "the loop's precision"
        timestep = int(np.median(far_index)) + 1
        return f"the gradient {change}, until {precision} loses it before timestep {timestep}"
    time = layer.log_total.shape[1]
    near_place = _place(near_index, time, layer.direction, "end")
    far_place = _place(far_index, time, layer.direction, "start")
    separator = " " if note else ", "
    sizes = f"from {_power(near)} ({near_place}) to {_power(far)} ({far_place})"
    return f"the gradient {change}{separator}{sizes}{note}"


def _place(index: np.ndarray, time: int, direction: str, end: str) -> str:
    """Name a timestep that all samples share; otherwise an end of each sample.

    Args:
        index: position of each sample's timestep in the order in which the layer reads.
        time: timesteps of the longest sample.
        direction: direction in which the layer reads.
        end: ``"start"`` or ``"end"`` of the part that the layer has read.
    """
    if (index != index[0]).any():
        opposite = {"start": "end", "end": "start"}[end]
        return f"each sample's {end if direction == 'forward' else opposite}"
    timestep = index[0] + 1 if direction == "forward" else time - index[0]
    return f"timestep {timestep}"


def _keeps_its_size(near: np.ndarray, far: np.ndarray, by_fit: float) -> bool:
    """True if the change from end to end and along the fitted line is below ``KEEPS``-fold."""
    limit = math.log(KEEPS)
    return abs(by_fit) < limit and float(np.median(abs(far - near))) < limit


def _turn(log_total: np.ndarray, near: np.ndarray, far: np.ndarray) -> str | None:
    """Describe a gradient that is much smaller, or much larger, than at both ends."""
    is_known = np.isfinite(near) & np.isfinite(far)
    if not is_known.any():
        return None
    finite = np.where(np.isfinite(log_total), log_total, np.nan)[is_known]
    near = near[is_known]
    far = far[is_known]
    low = np.nanmin(finite, axis=1)
    high = np.nanmax(finite, axis=1)
    turns = (
        ("dips", low, np.minimum(near, far) - low),
        ("swells", high, high - np.maximum(near, far)),
    )
    for verb, extreme, excess in turns:
        if np.median(excess) > max(LN10, np.median(abs(far - near))):
            timestep = int(np.median(np.argmax(finite == extreme[:, None], axis=1))) + 1
            return f"{verb} to {_power(extreme)} around timestep {timestep}"
    return None


def _range_notes(layer: LayerFlow, course: Course) -> list[str]:
    """Name the timesteps at which the median gradient leaves the range of its floating point."""
    notes = []
    num_lost = int(np.median(course.num_lost))
    if num_lost:
        precision = layer.precision or "the loop's precision"
        notes.append(f"{precision} cannot hold the gradient of the first {num_lost} timesteps")
    typical = median(layer.log_known)[None]
    for verb, find in (("underflows", underflow), ("overflows", overflow)):
        (timestep,) = find(typical, layer.direction)
        if timestep:
            notes.append(f"float32 {verb} at timestep {timestep}")
    return notes


def _cell_notes(layer: LayerFlow) -> list[str]:
    """Describe dL/dc, which may reach farther than dL/dh."""
    if layer.log_cell_total is None:
        return []
    log = layer.log_cell_total
    is_known = np.isfinite(log) if layer.lost is None else np.isfinite(log) & ~layer.lost
    if layer.direction == "reverse":
        log = log[:, ::-1]
        is_known = is_known[:, ::-1]
    sample = np.flatnonzero(is_known.any(axis=1))
    if not len(sample) or log.shape[1] < 2:
        return []
    near = log.shape[1] - 1 - np.argmax(is_known[sample, ::-1], axis=1)
    far = np.argmax(is_known[sample], axis=1)
    return [f"dL/dc goes from {_power(log[sample, near])} to {_power(log[sample, far])}"]


def _power(log: np.ndarray) -> str:
    # Adding 0.0 turns -0.0 into 0.0.
    return f"10^{round(float(np.median(log)) / LN10, 1) + 0.0:.1f}"
