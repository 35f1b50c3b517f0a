"""Verdicts agree with the numbers of their own tables, and have at most 25 words."""

import dataclasses
import math
import re

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from leadline.gradients import (
    CureComparison,
    GradientFlow,
    Influence,
    LayerFlow,
    LayerInfluence,
    LayerStability,
    LayerTerms,
    Stability,
    WeightTerms,
)
from leadline.gradients.soundings._cure_comparison import CureEffect
from leadline.sounding import Protocol, Sounding

LN10 = math.log(10)

seeds = st.integers(0, 10_000)
sizes = st.integers(1, 4)


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def sentence_of(sounding: Sounding) -> str:
    """Return the verdict, after a check of its length."""
    sentence = str(sounding.verdict)
    assert len(sentence.split()) <= 25, sentence
    return sentence


def numbers(pattern: str, sentence: str) -> list[float]:
    """Return the groups of a pattern as numbers; the sentence must match."""
    match = re.search(pattern, sentence)
    assert match is not None, sentence
    return [float(group) for group in match.groups()]


# Gradient flow ------------------------------------------------------------------------------------


@st.composite
def layer_flows(draws, index: int = 0, samples: int = 3) -> LayerFlow:
    """Flows of any shape: lines, noise, dead timesteps, infinite ones, padding, both directions."""
    generator = draw(draws(seeds))
    time = draws(st.integers(1, 30))
    slope = draws(st.sampled_from([-9.0, -1.0, -0.05, 0.0, 0.05, 1.0, 9.0]))
    noise = draws(st.sampled_from([0.0, 0.1, 5.0]))
    log_total = slope * np.arange(time)[::-1] + noise * generator.standard_normal((samples, time))
    dead = draws(st.integers(0, time))
    special = draws(st.sampled_from(["none", "dead", "unread", "infinite", "padding"]))
    if special == "dead":
        log_total[:, :dead] = -np.inf
    elif special == "unread":
        log_total[:, time - dead :] = -np.inf
    elif special == "infinite":
        log_total[0, :dead] = np.inf
    elif special == "padding" and time > 1:
        log_total[0, time - dead % time :] = np.nan
    direction = draws(st.sampled_from(["forward", "reverse"]))
    if direction == "reverse":
        log_total = log_total[:, ::-1]
    lost = np.zeros_like(log_total, dtype=bool)
    if draws(st.booleans()) and special == "none" and direction == "forward":
        lost[:, : dead // 2] = True
        log_total[lost] = -np.inf
    none = np.full_like(log_total, -np.inf)
    initial = np.zeros(samples)
    place = ("encoder.lstm", index, direction, draws(st.integers(0, 1)))
    norms = np.ones_like(log_total)
    return LayerFlow(
        *place, log_total, none, none, none, initial, norms, lost=lost, precision="float32"
    )


@st.composite
def flows(draws) -> GradientFlow:
    layers = [draws(layer_flows(index)) for index in range(draws(sizes))]
    return GradientFlow(Protocol(), tuple(layers))


def typical(flow: GradientFlow, title: str) -> pd.DataFrame:
    """Return the rows of one layer with padding removed; lost gradients are unknown."""
    table = flow.table()
    rows = table[(table.layer == title) & table.log10_total.notna()]
    return rows.assign(log10_total=rows.log10_total.mask(rows.lost))


def ends(rows: pd.DataFrame, direction: str) -> tuple[float, float]:
    """Return the medians at the latest timestep that receives gradient and at the far end."""
    pairs = []
    for _, part in rows.sort_values("t", ascending=direction == "forward").groupby("sample"):
        known = part.log10_total.dropna()
        receives = known[known > -np.inf]
        if len(receives) and not np.isposinf([receives.iloc[-1], known.iloc[0]]).any():
            pairs.append((receives.iloc[-1], known.iloc[0]))
    near, far = np.median(pairs, axis=0)
    return near, far


@given(flows())
def test_the_verdict_on_a_flow_agrees_with_its_table(flow):
    sentence = sentence_of(flow)
    title, _, rest = sentence.partition(": ")
    rows = typical(flow, title)
    by_sample = rows.groupby("sample")
    layer = next(layer for layer in flow.layers if layer.title == title)
    finite = rows[np.isfinite(rows.log10_total)]
    if "no gradient" in rest:
        assert finite.empty
    elif "infinite" in rest:
        assert np.isposinf(rows.log10_total).any()
    elif "dies" in rest:
        (count,) = numbers(r"(?:first|last) (\d+) of", rest)
        dead = by_sample.log10_total.apply(lambda values: np.isneginf(values).sum())
        assert dead.median() >= count
    elif "too few" in rest:
        (count,) = numbers(r"reaches (\d+) of", rest)
        assert (finite.groupby("sample").size().reindex(range(3), fill_value=0)).median() >= count
    else:
        near, far = ends(rows, layer.direction)
        if "from" in rest:
            printed = numbers(r"from 10\^(\S+) .* to 10\^(\S+) \(", rest)
            assert np.allclose(printed, [near, far], atol=0.051)
        if "keeps its size" in rest:
            assert abs(far - near) < 1.05
        if "though" in rest:
            assert ("grows" in rest.partition("though")[0]) == (far > near)
        elif match := re.search(r"(grows|shrinks) (\S+)-fold per step back", rest):
            sign = 1 if layer.direction == "reverse" else -1
            slopes = [
                sign * LN10 * np.polyfit(part.t, part.log10_total, 1)[0]
                for _, part in finite.groupby("sample")
                if len(part) > 1
            ]
            assert math.log(float(match[2])) == np.float64(abs(np.median(slopes))).round(9) or (
                abs(math.log(float(match[2])) - abs(np.median(slopes))) < 0.01
            )
            assert (match[1] == "grows") == (np.median(slopes) > 0)


@given(flows())
def test_the_verdict_on_a_flow_is_about_the_layer_with_the_largest_spread(flow):
    title = sentence_of(flow).partition(": ")[0]
    spreads = {}
    for layer in flow.layers:
        alone = GradientFlow(Protocol(), (layer,))
        comparison = CureComparison(Protocol(), alone, (), {})
        spreads.setdefault(layer.title, comparison.table().log10_spread[0])
    assert spreads[title] == max(spreads.values())


# Influence ----------------------------------------------------------------------------------------


@st.composite
def influences(draws) -> Influence:
    layers = []
    for index in range(draws(sizes)):
        generator = draw(draws(seeds))
        time = draws(st.integers(2, 12))
        decay = draws(st.sampled_from([0.01, 0.5, 3.0]))
        k, t = np.indices((time, time))
        log_norms = -decay * (k - t) + 0.1 * generator.standard_normal((time, time))
        kind = draws(st.sampled_from(["causal", "everywhere", "nothing", "infinite"]))
        if kind == "causal":
            log_norms[t > k] = -np.inf
        elif kind == "nothing":
            log_norms[:] = -np.inf
        elif kind == "infinite":
            log_norms[-1, 0] = np.inf
        layers.append(LayerInfluence("encoder.lstm", index, "forward", 0, log_norms))
    return Influence(Protocol(), tuple(layers))


@given(influences())
def test_the_verdict_on_an_influence_agrees_with_its_table(influence):
    sentence = sentence_of(influence)
    title, _, rest = sentence.partition(": ")
    table = influence.table()
    rows = table[table.layer == title]
    norms = 10 ** (rows.log10_norm - rows.log10_norm[np.isfinite(rows.log10_norm)].max())
    if "no gradient" in rest:
        assert np.isneginf(rows.log10_norm).all()
    elif "infinite" in rest:
        (count,) = numbers(r"infinite in (\d+) of", rest)
        assert rows[np.isposinf(rows.log10_norm)].k.nunique() == count
    else:
        (count,) = numbers(r"(\d+) of \d+ timesteps", rest)
        groups = (rows.k - rows.t).abs() if "backpropagation" in rest else rows.t
        sums = norms.groupby(groups).sum()
        if "lies in" in rest:
            sums = sums.sort_values(ascending=False)
        kept = (sums.cumsum() / sums.sum()).to_numpy()
        assert int((kept < 0.99 * (1 - 1e-9)).sum()) + 1 == count


# Terms of shared weights --------------------------------------------------------------------------


@st.composite
def weight_terms(draws) -> WeightTerms:
    layers = []
    for index in range(draws(sizes)):
        log_norms = draw(draws(seeds)).normal(0, 5, draws(st.integers(1, 20)))
        log_norms[: draws(st.integers(0, len(log_norms)))] = -np.inf
        layers.append(LayerTerms("encoder.lstm", index, "reverse", 1, {"W_h": log_norms}, {}))
    return WeightTerms(Protocol(), tuple(layers))


@given(weight_terms())
def test_the_verdict_on_weight_terms_agrees_with_its_table(terms):
    sentence = sentence_of(terms)
    title, _, rest = sentence.partition(": ")
    table = terms.table().query("parameter == 'W_h'")
    finite = table[np.isfinite(table.log10_norm)]
    spans = finite.groupby("layer").log10_norm.agg(lambda values: values.max() - values.min())
    if "no timestep" in rest:
        assert finite.empty
        return
    span, timestep = numbers(r"span (\S+) decades.*timestep (\d+)", rest)
    assert abs(span - spans[title]) < 0.051
    assert spans[title] == spans.max()
    rows = finite[finite.layer == title]
    assert rows.t[rows.log10_norm.idxmax()] == timestep


# Stability ----------------------------------------------------------------------------------------


@st.composite
def stabilities(draws) -> Stability:
    layers = []
    for index in range(draws(sizes)):
        generator = draw(draws(seeds))
        rate = draws(st.sampled_from([-2.0, -0.3, -0.01, 0.0, 0.01, 0.3, 2.0]))
        exponents = np.sort(rate + 0.01 * generator.standard_normal((5, 2)))[:, ::-1].copy()
        exponents[: draws(st.integers(0, 5))] = -np.inf
        parts = generator.standard_normal((1, 2, 2))
        layers.append(
            LayerStability(
                name="encoder.rnn",
                index=index,
                direction=draws(st.sampled_from(["forward", "reverse"])),
                kind=draws(st.sampled_from(["tanh", "identity"])),
                eigenvalue_parts=parts,
                singular_value=np.linalg.norm(parts, axis=(1, 2)),
                exponents=exponents,
                error=np.full(2, draws(st.sampled_from([0.0, 0.02, 1.0]))),
                state_size=2,
                time=draws(st.integers(1, 200)),
                passing=0.5,
            )
        )
    return Stability(Protocol(), tuple(layers))


@given(stabilities())
def test_the_verdict_on_stability_agrees_with_its_table(stability):
    sentence = sentence_of(stability)
    title, _, rest = sentence.partition(": ")
    table = stability.table().query("quantity == 'Lyapunov exponents' and of == '1'")
    row = table[table.layer == title].iloc[0]
    assert abs(row.nats_per_step) == table.nats_per_step.abs().max()
    if "one step loses it" in rest:
        assert np.isneginf(row.nats_per_step)
        lost, samples = numbers(r"in (\d+) of (\d+) samples", rest)
        assert samples - lost == row.samples
        return
    (exponent,) = numbers(r"Lyapunov exponent ([^\s)]+)", rest)
    assert abs(exponent - row.nats_per_step) < 0.00051
    if "±" in rest:
        (error,) = numbers(r"± (\S+) per step", rest)
        assert abs(error - row.error) < 0.00051
    if "and is lost in" in rest:
        (kept,) = numbers(r"in (\d+) of \d+ samples", rest)
        assert kept == row.samples
    if "vanishes" in rest:
        assert row.nats_per_step + 2 * row.error < 0
    if "explodes" in rest:
        assert row.nats_per_step - 2 * row.error > 0


# Cures --------------------------------------------------------------------------------------------


@st.composite
def comparisons(draws) -> CureComparison:
    before = draws(flows())
    effects = []
    for name in draws(st.lists(st.sampled_from(["gating", "clipping"]), unique=True)):
        layers = []
        for layer in before.layers:
            other = draws(layer_flows())
            place = {name: getattr(layer, name) for name in ("name", "index", "direction", "call")}
            layers.append(dataclasses.replace(other, **place))
        effects.append(CureEffect(name, "a change", GradientFlow(Protocol(), tuple(layers))))
    return CureComparison(Protocol(), before, tuple(effects), {})


@given(comparisons())
def test_the_verdict_on_cures_agrees_with_its_table(comparison):
    sentence = sentence_of(comparison)
    title, _, rest = sentence.partition(": ")
    table = comparison.table()
    spreads = table[table.layer == title].drop_duplicates("cure").set_index("cure").log10_spread
    untreated = table[table.cure == "as it is"].drop_duplicates("layer")
    assert spreads["as it is"] == untreated.log10_spread.max()
    printed = [
        math.inf if text == "infinity" else float(text.removeprefix("10^"))
        for text in re.findall(r"infinity|10\^-?[\d.]+", rest)
    ]
    before, lowest = spreads["as it is"], spreads.min()
    assert printed[0] == before or abs(printed[0] - before) < 0.0051
    if "no cure" in rest:
        assert before <= lowest + 0.0044
    else:
        assert abs(printed[1] - lowest) < 0.0051
        for name in re.split(" and ", rest.partition(" stead")[0]):
            assert spreads[name] <= lowest + 0.0044
