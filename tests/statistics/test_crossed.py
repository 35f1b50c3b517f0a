"""The crossed interval agrees with loops over all pairs of cells, and refuses small studies."""

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from leadline import storage
from leadline.errors import InputError
from leadline.statistics import POINTS, crossed_interval
from leadline.statistics._crossed import CrossedInterval, _ends
from leadline.statistics._crossed_design import GROUP_EFFECTS, Design, units_of_rows


@dataclass(frozen=True)
class Study:
    """A tiny study."""

    values: np.ndarray
    trained: np.ndarray
    groups: np.ndarray | None = None
    classes: np.ndarray | None = None

    def interval(self, **settings) -> CrossedInterval:
        return crossed_interval(
            self.values, self.trained, groups=self.groups, classes=self.classes, **settings
        )

    def design(self) -> Design:
        tested = ~np.isnan(self.values[:, 0])
        units = units_of_rows(self.groups, self.classes, tested.shape[1])
        return Design(self.values, tested, self.trained, units)


def make_study(
    seed: int,
    *,
    seeds: int = 6,
    subsets: int = 2,
    rows: int = 14,
    kind: str = "numbers",
    has_groups: bool = False,
    has_classes: bool = False,
) -> Study:
    """Return random values with effects of rows and seeds; groups have 1 to 3 rows."""
    draw = np.random.default_rng(seed)
    groups = np.repeat(np.arange(rows), draw.integers(1, 4, rows)) if has_groups else None
    unit = np.arange(rows) if groups is None else groups
    role = draw.permuted(np.tile(np.arange(rows) % 3, (seeds, 1)), axis=1)
    tested = (role == 0)[:, unit]
    pool = (role > 0)[:, unit]
    trained = pool[:, None] & (draw.random((seeds, subsets, len(unit))) < 0.4)
    trained[:, :, 0] |= ~trained.any(axis=2) & pool[:, [0]]
    for index in np.argwhere(~trained.any(axis=2)):
        trained[(*index, np.flatnonzero(pool[index[0]])[0])] = True
    shape = (seeds, subsets, len(unit))
    values = draw.standard_normal(len(unit)) + draw.standard_normal((seeds, 1, 1))
    values = values + draw.standard_normal((seeds, subsets, 1)) + draw.standard_normal(shape)
    if kind == "counts":
        values = np.sign(values) * (np.abs(values) > 1)
    classes = np.arange(len(unit)) % 2 if has_classes else None
    return Study(np.where(tested[:, None], values, np.nan), trained, groups, classes)


@dataclass(frozen=True)
class Slow:
    """The variance parts by loops over cells and pairs of cells."""

    cells: dict[tuple[int, int], float]
    """Deviation of each cell (seed, unit)."""
    residuals: dict[tuple[int, int, int], float]
    """Interaction of each (seed, subset, unit)."""
    means: np.ndarray
    study: Study

    @classmethod
    def of(cls, study: Study) -> "Slow":
        values = study.values
        seeds, subsets, rows = values.shape
        unit = np.arange(rows) if study.groups is None else study.groups
        means = np.array([[np.nanmean(values[s, u]) for u in range(subsets)] for s in range(seeds)])
        estimate = means.mean()
        classes = np.zeros(rows) if study.classes is None else study.classes
        cells, residuals = {}, {}
        for s in range(seeds):
            tested = [i for i in range(rows) if not math.isnan(values[s, 0, i])]
            units = sorted({unit[i] for i in tested})
            for one in units:
                members = [i for i in tested if unit[i] == one]
                scale = len(units) / len(tested)
                total = 0.0
                for i in members:
                    deviation = np.mean([values[s, u, i] for u in range(subsets)]) - estimate
                    if study.classes is not None:
                        size = (study.classes == study.classes[i]).sum()
                        deviation *= size / (size - 1)
                    total += deviation
                if study.groups is not None:
                    total /= 1 - max((unit[classes == c] == one).mean() for c in np.unique(classes))
                cells[s, one] = scale * total
                for u in range(subsets):
                    residuals[s, u, one] = scale * sum(
                        values[s, u, i] - np.mean(values[s, :, i]) - means[s, u] + means[s].mean()
                        for i in members
                    )
        return cls(cells, residuals, means, study)

    def products(self) -> list[float]:
        found: dict[tuple[bool, bool], list[float]] = {}
        for (s, i), (r, j) in itertools.product(self.cells, repeat=2):
            product = self.cells[s, i] * self.cells[r, j]
            found.setdefault((s == r, i == j), []).append(product)
        keys = [(False, True), (True, False), (False, False), (True, True)]
        return [float(np.mean(found[key])) for key in keys]

    def parts(self) -> tuple[float, float, float]:
        a, b, o, g = self.products()
        seeds = [s for s, _ in self.cells]
        units = [i for _, i in self.cells]
        num = len(self.cells)
        squared_tests = sum(units.count(i) ** 2 for i in set(units))
        squared_sizes = sum(seeds.count(s) ** 2 for s in set(seeds))
        return (
            max(a - o, 0) * squared_tests / num**2,
            max(b - o, 0) * squared_sizes / num**2,
            max(g - a - b + o, 0) / num,
        )

    def subset_variance(self) -> float:
        seeds, subsets = self.means.shape
        found = []
        for s in range(seeds):
            own = [value for (r, _, _), value in self.residuals.items() if r == s]
            units = len(own) // subsets
            noise = sum(value**2 for value in own) / ((subsets - 1) * (units - 1)) / units
            found.append(self.means[s].var(ddof=1) - noise)
        return max(float(np.mean(found)), 0.0)

    def overlaps(self, rows: np.ndarray, unit: np.ndarray) -> tuple[float, float, float]:
        """Return mean overlaps of the training sets within some rows, by loops over pairs."""
        seeds, subsets = self.means.shape
        sets = list(itertools.product(range(seeds), range(subsets)))
        found: dict[str, list[float]] = {"own": [], "within": [], "between": []}
        for (s, u), (r, v) in itertools.product(sets, repeat=2):
            first, second = (self._shares(*one, rows, unit) for one in ((s, u), (r, v)))
            overlap = sum(share * second.get(one, 0.0) for one, share in first.items())
            kind = "between" if s != r else "within" if u != v else "own"
            found[kind].append(overlap)
        own, within, between = (float(np.mean(values)) for values in found.values())
        return own, within, between

    def _shares(self, s: int, u: int, rows: np.ndarray, unit: np.ndarray) -> dict[Any, float]:
        shares: dict[Any, float] = {}
        trained = self.study.trained[s, u]
        for i in rows:
            if trained[i]:
                shares[unit[i]] = shares.get(unit[i], 0.0) + 1 / trained.sum()
        return shares

    def noise_of_rows(self) -> float:
        units = sorted({i for _, i in self.cells})
        own = np.zeros(self.study.design().units.num)
        pairs = 0
        tests = []
        for place, one in enumerate(units):
            of_unit = [value for (_, i), value in self.cells.items() if i == one]
            own[place] = sum(x * y for x, y in itertools.permutations(of_unit, 2))
            pairs += len(of_unit) * (len(of_unit) - 1)
            tests.append(len(of_unit))
        concentration = sum(count**2 for count in tests) / sum(tests) ** 2
        return len(own) * float(own.var(ddof=1)) * (concentration / pairs) ** 2


KINDS = [
    {},
    {"kind": "counts"},
    {"subsets": 4, "seeds": 7},
    {"has_groups": True},
    {"has_classes": True},
    {"has_groups": True, "has_classes": True, "subsets": 3},
]


def ratio(own: float, within: float, between: float) -> float:
    p, q = within / own, between / own
    return q / ((1 - p) * (1 + p) ** 2)


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_parts_equal_loops_over_all_pairs_of_cells(settings, seed):
    study = make_study(seed, **settings)
    slow = Slow.of(study)
    design = study.design()
    assert design.products == pytest.approx(slow.products(), abs=1e-12)
    assert design.parts == pytest.approx(slow.parts(), abs=1e-12)
    assert design.subset_variance == pytest.approx(slow.subset_variance(), abs=1e-12)
    assert design.noise_of_rows == pytest.approx(slow.noise_of_rows(), rel=1e-9)


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_shared_part_equals_loops_over_all_pairs_of_training_sets(settings, seed):
    study = make_study(seed, **settings)
    slow = Slow.of(study)
    rows = np.arange(study.values.shape[2])
    classes = np.zeros(len(rows)) if study.classes is None else study.classes
    ratios = [ratio(*slow.overlaps(rows[classes == c], rows)) for c in np.unique(classes)]
    shared = max(ratios)
    if study.groups is not None:
        of_groups = ratio(*slow.overlaps(rows, study.groups))
        shared = shared ** (1 - GROUP_EFFECTS) * max(of_groups, shared) ** GROUP_EFFECTS
    expected = slow.subset_variance() * shared
    assert study.design().shared_part == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("settings", KINDS)
def test_deviations_of_a_split_average_to_the_gain_of_the_split(settings):
    study = replace(make_study(5, **settings), classes=None)
    design = study.design()
    # The leverage of groups corrects the variance, not the estimate.
    units = replace(design.units, group_leverage=None)
    design = Design(design.values, design.tested_rows, design.masks, units)
    gains = np.nanmean(study.values, axis=2).mean(axis=1)
    deviations = design.deviations.sum(axis=1) / design.tested.sum(axis=1)
    assert design.estimate + deviations == pytest.approx(gains, abs=1e-12)


def test_the_interval_follows_from_the_parts():
    study = make_study(1, subsets=3)
    found = study.interval()
    slow = Slow.of(study)
    parts = slow.parts()
    assert (found.rows_part, found.seeds_part, found.rest_part) == pytest.approx(parts)
    noise = slow.noise_of_rows() + 2 * parts[1] ** 2 / 5 + 2 * found.shared_part**2 / 12
    freedom = np.clip(2 * found.variance**2 / noise, 3, 15)
    assert found.freedom == pytest.approx(freedom)
    half = student.ppf(0.975, freedom) * math.sqrt(found.variance)
    interval = found.interval
    assert interval.estimate == pytest.approx(np.nanmean(study.values, axis=2).mean())
    ends = (interval.estimate - half, interval.estimate + half)
    assert (interval.low, interval.high) == pytest.approx(ends)
    assert found.discordant is None
    assert str(found) == f"{interval} (covers new rows)"
    assert replace(study, groups=np.arange(14)).interval().covers == "groups"


def test_the_ends_of_counts_solve_the_equation_of_a_variance_that_follows_the_mean():
    critical = student.ppf(0.975, 7)
    for slope in (-3.0, 0.0, 5.0):
        for end in _ends(0.1, 0.01, 7, slope, 0.95):
            deviation = end - 0.1
            assert deviation**2 == pytest.approx(critical**2 * 0.01 * (1 + slope * deviation))
    low, high = _ends(0.1, 0.01, 7, 1000.0, 0.95)
    assert 0 < 0.1 - low < high - 0.1 < 10 * (0.1 - low)


def test_counts_have_a_floor_a_lean_and_a_number_of_discordant_rows():
    study = make_study(2, rows=60)
    zeros = np.where(np.isnan(study.values), np.nan, 0.0)
    found = replace(study, values=zeros).interval()
    assert found.variance == pytest.approx(0.5 / 60**2)
    assert found.interval.low < 0 < found.interval.high
    assert found.discordant == 0
    assert found.caution is not None
    assert "only 0 of 60 rows are discordant" in found.caution
    gains = zeros.copy()
    gains[:, :, :5] += 1
    found = replace(study, values=gains).interval()
    assert found.discordant == 5
    interval = found.interval
    # Rare gains lean upwards: the interval reaches further above the estimate than below it.
    assert interval.high - interval.estimate > interval.estimate - interval.low
    mirrored = replace(study, values=-gains).interval().interval
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low))


def test_values_that_do_not_vary_give_an_estimate_without_an_interval():
    study = make_study(3)
    constant = np.where(np.isnan(study.values), np.nan, 0.25)
    found = replace(study, values=constant).interval()
    assert found.interval.estimate == 0.25
    assert not found.interval.is_known
    assert found.caution == "there is no interval, because the values do not vary"


def test_the_result_scales_is_cut_off_and_widens_with_comparisons():
    study = make_study(4, kind="counts")
    plain = study.interval()
    points = study.interval(factor=100, bounds=POINTS)
    assert points.interval.estimate == pytest.approx(100 * plain.interval.estimate)
    assert points.interval.high == pytest.approx(min(100 * plain.interval.high, 100))
    assert -100 <= points.interval.low <= points.interval.high <= 100
    assert points.variance == pytest.approx(1e4 * plain.variance)
    several = study.interval(comparisons=4)
    assert several.interval.level == pytest.approx(0.95**0.25)
    assert several.interval.low < plain.interval.low
    with pytest.raises(InputError, match="the score of every split must lie within the bounds"):
        study.interval(factor=100, bounds=(-1, 1))


def test_intervals_of_bounded_scores_stay_inside_their_bounds():
    for seed in range(40):
        draw = np.random.default_rng(seed)
        study = make_study(seed, rows=30)
        share = draw.choice([0.02, 0.5, 0.98])
        correct = (draw.random(study.values.shape) < share).astype(float)
        correct[np.isnan(study.values)] = np.nan
        interval = replace(study, values=correct).interval(bounds=(0, 1)).interval
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_the_order_of_rows_and_seeds_does_not_matter():
    study = make_study(6, has_groups=True)
    draw = np.random.default_rng(0)
    rows = draw.permutation(study.values.shape[2])
    seeds = draw.permutation(len(study.values))
    assert study.groups is not None
    other = Study(
        study.values[seeds][..., rows], study.trained[seeds][..., rows], study.groups[rows]
    )
    first, second = study.interval(), other.interval()
    assert first.variance == pytest.approx(second.variance, rel=1e-9)
    assert first.interval.low == pytest.approx(second.interval.low)


def test_a_run_at_half_the_labels_gives_the_shared_part_of_the_whole_pool():
    half = make_study(7, subsets=3)
    tested = ~np.isnan(half.values[:, :1])
    whole = Study(np.where(tested, half.values[:, :1], np.nan), ~tested)
    found = whole.interval(half=(half.values, half.trained))
    assert found.shared_part == pytest.approx(half.interval().shared_part)
    assert found.rows_part == pytest.approx(Slow.of(whole).parts()[0])
    with pytest.raises(InputError, match="at least 2 label subsets per seed"):
        whole.interval()


def test_a_file_holds_the_result():
    found = make_study(8, kind="counts").interval()
    arrays: dict[str, np.ndarray] = {}
    assert storage.unpack(storage.pack(found, arrays), arrays) == found


def study_with(**changes) -> Study:
    return replace(make_study(9, subsets=3), **changes)


def _with_leak() -> Study:
    study = make_study(9)
    trained = study.trained.copy()
    trained[2, 1] = True
    return study_with(values=study.values, trained=trained)


def _with_equal_subsets() -> Study:
    study = make_study(9)
    return study_with(values=study.values, trained=np.repeat(study.trained[:, :1], 2, axis=1))


def _folds() -> Study:
    study = make_study(9, seeds=7)
    tested = np.arange(14) // 2 == np.arange(7)[:, None]
    values = np.where(tested[:, None], np.nan_to_num(study.values), np.nan)
    return study_with(values=values, trained=study.trained & ~tested[:, None])


BAD = [
    (lambda: make_study(0, seeds=5).interval(), "at least 6 seeds\n.*5 seeds"),
    (lambda: make_study(0, subsets=1).interval(), "at least 2 label subsets per seed"),
    (lambda: make_study(0, rows=11).interval(), "at least 12 rows"),
    (lambda: make_study(0, rows=11, has_groups=True).interval(), "at least 12 groups"),
    (lambda: study_with(classes=np.arange(14) == 0).interval(), "6 rows of each class"),
    (lambda: study_with(classes=np.arange(13)).interval(), r"classes of shape \(13,\) for 14 rows"),
    (lambda: study_with(groups=[1.0, np.nan] * 7).interval(), r"groups\[1\] = nan"),
    (lambda: study_with(trained=np.ones((6, 3, 14))).interval(), "trained must be booleans"),
    (
        lambda: study_with(trained=np.zeros((6, 3, 14), bool)).interval(),
        r"trained\[0, 0\] contains no True",
    ),
    (lambda: _with_leak().interval(), "train and test in seed 2"),
    (lambda: _with_equal_subsets().interval(), "two subsets share 100 % of their rows"),
    (lambda: _folds().interval(), "must be tested by several seeds"),
    (lambda: study_with().interval(level=95), "level = 95"),
    (lambda: study_with().interval(comparisons=0), "comparisons"),
    (lambda: study_with().interval(factor=-1), "factor"),
    (lambda: study_with().interval(half=np.ones(3)), "half with 3 items"),
]


@pytest.mark.parametrize(("make", "text"), BAD)
def test_studies_for_which_the_interval_is_not_valid_raise_an_error(make, text, as_users_run):
    with pytest.raises(InputError, match=text):
        make()
