"""The sentence that says what the gradient of one layer does on its way back from the loss."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from leadline.gradients.soundings._flow import LN10, LayerFlow, median, overflow, underflow

KEEPS = 10.0
"""A gradient that changes by less than this factor over the whole sequence keeps its size."""


@dataclass(frozen=True, eq=False)
class Ends:
    """Where the gradient of each sample enters on its way back, and where its way ends."""

    reading: Float[np.ndarray, "B T"]
    """ln ‖dL/dh_t‖ in the order in which the layer has read the sequence; NaN where padded."""
    steps: Int[np.ndarray, " B"]
    """Timesteps of each sample."""
    enters: Int[np.ndarray, " B"]
    """Index of the latest timestep, in the same order, that receives gradient; -1 for none."""
    begins: Int[np.ndarray, " B"]
    """Index of the first timestep."""

    @classmethod
    def of(cls, layer: LayerFlow) -> "Ends":
        """The ends of a flow. What was lost reads ``-inf``."""
        log_total = (
            layer.log_total
            if layer.lost is None
            else np.where(layer.lost, -np.inf, layer.log_total)
        )
        reading = log_total if layer.direction == "forward" else log_total[:, ::-1]
        is_there = ~np.isnan(reading)
        arrives = is_there & (reading > -np.inf)
        latest = reading.shape[1] - 1 - np.argmax(arrives[:, ::-1], axis=1)
        enters = np.where(arrives.any(axis=1), latest, -1)
        return cls(reading, is_there.sum(axis=1), enters, np.argmax(is_there, axis=1))

    def unread(self) -> int:
        """How many timesteps behind the latest one that receives gradient the median sample has."""
        behind = self.begins + self.steps - 1 - self.enters
        return int(np.median(behind[self.enters >= 0]))


def describe_flow(layer: LayerFlow) -> str:
    """What the gradient of one layer does on its way back, the median sample speaking for the batch."""
    if not layer.log_total.size:
        return "the batch is empty"
    ends = Ends.of(layer)
    reading = ends.reading
    start, end = ("first", "last") if layer.direction == "forward" else ("last", "first")
    present = ~np.isnan(reading)
    lost = np.zeros_like(present) if layer.lost is None else layer.lost  # loops are read forwards
    if not np.isfinite(reading).any():
        return (
            "nothing of the loss arrives"
            if (reading[present] == -np.inf).all()
            else "the gradient is infinite"
        )
    typical_steps = int(np.median(ends.steps))
    infinite = np.median((reading == np.inf).sum(axis=1))
    if infinite >= 1:
        return f"the gradient is infinite at {int(infinite)} of {typical_steps} timesteps"
    # The far steps, from the far end on without a gap, that receive nothing, and those whose gradient was lost.
    dead = _from_far_end((reading == -np.inf) & ~lost, ends)
    below = _from_far_end(lost, ends)
    if np.median(dead) >= 1:
        return f"the gradient dies: of {typical_steps} timesteps the {start} {int(np.median(dead))} get none"
    reached = int(np.median(np.isfinite(reading).sum(axis=1)))
    if reached < 2 <= typical_steps:
        return f"the loss reaches {reached} of {typical_steps} timesteps, which tells no change"
    sample = np.flatnonzero(ends.enters >= 0)
    nearest = ends.enters[sample]
    farthest = ends.begins[sample] + below[sample]
    near, far = reading[sample, nearest], reading[sample, farthest]
    unread = ends.unread()
    where = (
        f"the {end} timestep"
        if not unread
        else f"the {end} timestep that it reaches, {unread} before the end"
    )
    if unread and layer.direction == "reverse":
        where = f"the {end} timestep that it reaches, {unread} behind the beginning"
    hidden = int(np.median(below))
    there = f"the {start}" if not hidden else f"timestep {int(np.median(farthest)) + 1}"
    sizes = f"from {_power(near)} at {where} to {_power(far)} at {there}"
    lost_part = _lost_part(layer, start, hidden) if hidden else ""
    slopes = layer.slope()
    slopes = slopes[np.isfinite(slopes)]
    if typical_steps < 2 or not len(slopes):
        return f"how the gradient changes cannot be told from {typical_steps} timestep; {sizes}{lost_part}"
    slope = float(np.median(slopes))
    change = f"{'grows' if slope > 0 else 'shrinks'} {fold(abs(slope))}-fold per step back"
    is_larger = bool(np.median(far) > np.median(near))
    if is_larger != (slope > 0):  # a few steps beside an end weigh little in the line
        change += f" by the line of best fit, though it is {'larger' if is_larger else 'smaller'} in the end"
    is_kept = _keeps_its_size(near, far, slope * (np.median(nearest - farthest)))
    change = _turn(layer.log_known[sample], near, far) or ("keeps its size" if is_kept else change)
    is_fed = (
        change == "keeps its size"
        and (np.isfinite(layer.log_direct).sum(axis=1) > ends.steps / 2).any()
    )
    # A sum over terms keeps its size even where each of them dies within a few steps.
    fed = (
        ", and the loss enters at every timestep: tape.influence() shows how far each term reaches"
        if is_fed
        else ""
    )
    others = _other_samples(ends, dead)
    leaving = lost_part or _leaving(layer)
    return f"the gradient {change}, {sizes}{leaving}{_of_cells(layer)}{others}{fed}"


def _lost_part(layer: LayerFlow, start: str, count: int) -> str:
    precision = layer.precision or "the loop's precision"
    return f", where {precision} loses it: the {start} {count} timesteps get less than {precision} can hold"


def _of_cells(layer: LayerFlow) -> str:
    """The way of dL/dc, which may reach farther than dL/dh."""
    if layer.log_cell_total is None:
        return ""
    log = layer.log_cell_total if layer.direction == "forward" else layer.log_cell_total[:, ::-1]
    lost = (
        None
        if layer.lost is None
        else layer.lost
        if layer.direction == "forward"
        else layer.lost[:, ::-1]
    )
    is_known = np.isfinite(log) if lost is None else np.isfinite(log) & ~lost
    sample = np.flatnonzero(is_known.any(axis=1))
    if not len(sample) or log.shape[1] < 2:
        return ""
    nearest = log.shape[1] - 1 - np.argmax(is_known[sample, ::-1], axis=1)
    farthest = np.argmax(is_known[sample], axis=1)
    return f", dL/dc goes from {_power(log[sample, nearest])} to {_power(log[sample, farthest])}"


def _other_samples(ends: Ends, dead: np.ndarray) -> str:
    """The samples, fewer than half, whose gradient does what the median sample's does not."""
    count = len(dead)
    is_infinite = (ends.reading == np.inf).any(axis=1)
    found = ""
    if is_infinite.any():
        found += f", in {int(is_infinite.sum())} of {count} samples it is infinite somewhere"
    if (dead >= 1).any():
        found += f", in {int((dead >= 1).sum())} of {count} samples it dies on the way"
    return found


def _from_far_end(where: np.ndarray, ends: Ends) -> Int[np.ndarray, " B"]:
    """For each sample, the number of timesteps at its far end, without a gap, at which ``where`` is true."""
    holds = where | np.isnan(ends.reading)
    first_gap = np.argmin(holds, axis=1) - ends.begins
    return np.where(holds.all(axis=1), ends.steps, first_gap)


def fold(log: float) -> str:
    """The factor of a logarithm as text, with as many digits as show that it is not 1.

    >>> fold(0.5), fold(0.0005), fold(-0.0005), fold(0.0)
    ('1.65', '1.0005', '0.9995', '1')
    """
    factor = math.exp(min(log, 700))
    text = f"{factor:.3g}"
    if log == 0 or float(text) != 1:
        return text
    leading_zeros = math.ceil(-math.log10(abs(log)))
    return f"{factor:.{min(leading_zeros + 2, 15)}g}"


def _keeps_its_size(near: np.ndarray, far: np.ndarray, by_fit: float) -> bool:
    """True if the whole change, from end to end and by the line of best fit, stays within a factor of ``KEEPS``."""
    limit = math.log(KEEPS)
    return abs(by_fit) < limit and float(np.median(abs(far - near))) < limit


def _power(log: np.ndarray) -> str:
    return f"10^{round(float(np.median(log)) / LN10, 1) + 0.0:.1f}"  # + 0.0 makes -0.0 a zero


def _turn(log_total: np.ndarray, near: np.ndarray, far: np.ndarray) -> str | None:
    """Where the gradient is much smaller, or much larger, than at both ends: its way is no straight line."""
    is_known = np.isfinite(near) & np.isfinite(far)
    if not is_known.any():
        return None
    finite = np.where(np.isfinite(log_total), log_total, np.nan)[is_known]
    near, far = near[is_known], far[is_known]
    low, high = np.nanmin(finite, axis=1), np.nanmax(finite, axis=1)
    turns = (
        ("dips", low, np.minimum(near, far) - low),
        ("swells", high, high - np.maximum(near, far)),
    )
    for what, extreme, beyond in turns:
        if np.median(beyond) > max(LN10, np.median(abs(far - near))):
            t = int(np.median(np.argmax(finite == extreme[:, None], axis=1))) + 1
            return f"{what} to {_power(extreme)} around timestep {t}"
    return None


def _leaving(layer: LayerFlow) -> str:
    """Where float32 loses the median gradient."""
    told, typical = "", median(layer.log_known)[None]
    for what, find in (("underflows", underflow), ("overflows", overflow)):
        (t,) = find(typical, layer.direction)
        told += f", and float32 {what} at timestep {t}" if t else ""
    return told
