"""The simulation: its schema, the effects that it contains, and that it is the same each time."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from features.datasets.simulation import clock, platform
from features.datasets.simulation import dataset as simulation
from features.datasets.simulation.design import DEVICE_SHARES, PAIR, PRICE, RATES, SCENARIOS, SHARES
from tests.support.examples import examples
from tests.support.simulation_log import dataset, events

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """One default log for all tests that only read it."""
    return events()


def test_shares(log):
    """Scenarios are of very unequal size: 40, 25, 15, 10, 6 and 4 % of the impressions."""
    shares = log["scenario"].value_counts(normalize=True).reindex(list(SCENARIOS))
    np.testing.assert_allclose(shares, SHARES, atol=0.005)


def test_size(log):
    """The log has exactly as many impressions as params.yaml requests."""
    assert len(log) == 150_000


def test_watch_times_are_planted_beside_the_rest():
    """With the option a target with known means: all else is as without it, and the truth is the mean."""
    plain, watched = events(impressions=20_000), events(impressions=20_000, watch_time=True)
    assert list(watched.columns) == [*plain.columns, "watch_seconds", "p_watch_seconds"]
    pd.testing.assert_frame_equal(watched[plain.columns], plain)
    ratio = watched["watch_seconds"] / watched["p_watch_seconds"]
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    assert np.log(ratio).std() == pytest.approx(0.8, abs=0.02)
    assert watched["p_watch_seconds"].corr(watched["p_click"], method="spearman") > 0.5
    schema = simulation.declare(dataset(watch_time=True))
    assert (schema.regressed, simulation.declare(dataset()).regressed) == (("watch_seconds",), ())


def test_true_rates(log):
    """The click rates of the scenarios are 3 to 15 %, their order rates 0.3 to 4 % of the impressions."""
    true = log.groupby("scenario")[["p_click", "p_order"]].mean().reindex(list(SCENARIOS))
    np.testing.assert_allclose(true["p_click"], RATES[0], rtol=0.1)
    np.testing.assert_allclose(true["p_order"], RATES[1], rtol=0.15)
    assert RATES[0].min() >= 0.03
    assert RATES[0].max() <= 0.15
    assert RATES[1].max() / RATES[1].min() > 10


def test_order_needs_click(log):
    """There is no order without a click."""
    assert not ((log["order"] == 1) & (log["click"] == 0)).any()
    assert (log["p_order"] < log["p_click"]).all()


@pytest.mark.parametrize("task", ["click", "order"])
def test_truth_is_calibrated(log, task):
    """In each tenth of the true probability, the rate of the labels is that probability (within 4 standard errors)."""
    tenth = pd.qcut(log[f"p_{task}"], 10, labels=False)
    observed, true = log.groupby(tenth)[task].mean(), log.groupby(tenth)[f"p_{task}"].mean()
    error = np.sqrt(
        (log[f"p_{task}"] * (1 - log[f"p_{task}"])).groupby(tenth).mean() / tenth.value_counts().sort_index()
    )
    assert ((observed - true).abs() < 4 * error).all()


def test_the_best_possible_auc_is_plausible(log):
    """The best possible AUC of a click is between 0.76 and 0.88 in every scenario."""
    for scenario, rows in log.groupby("scenario"):
        assert 0.76 < roc_auc_score(rows["click"], rows["p_click"]) < 0.88, scenario


def _correlations(task: int, seed: int) -> np.ndarray:
    """Correlation [S, S] of the true logits of the scenarios over the same users, items and timestamps."""
    size = dataset(seed=seed).simulation
    simulated, random = platform.build_platform(size), np.random.default_rng(0)
    shown = platform.Impressions(
        scenario=np.zeros(5000, dtype=int),
        timestamp=np.full(5000, clock.midnight_of(size.start)),
        user=random.integers(0, size.users, 5000),
        item=random.integers(0, size.items, 5000),
        device=np.zeros(5000, dtype=int),
        distance=np.ones(5000),
    )
    by_scenario = [dataclasses.replace(shown, scenario=np.full(5000, s)) for s in range(len(SCENARIOS))]
    return np.corrcoef([platform.logits(simulated, one)[task] for one in by_scenario])


@pytest.mark.parametrize("seed", [1, 7])
@pytest.mark.parametrize("task", [0, 1])
def test_scenarios_of_a_pair_are_alike(task, seed):
    """The true logits of two scenarios of a pair correlate more than those of any two scenarios of two pairs."""
    correlation = _correlations(task, seed)
    related = PAIR[:, None] == PAIR[None, :]
    assert correlation[related].min() > correlation[~related].max() + 0.1


def test_the_effect_of_price_changes_its_sign():
    """The effect of price on a click has opposite signs in the feed and in the flash sale."""
    price = PRICE[0, PAIR]
    assert price[SCENARIOS.index("home_feed")] > 0.2
    assert price[SCENARIOS.index("flash_sale")] < -0.2
    assert PRICE[0, 0] * PRICE[1, 0] < 0  # and, within the feed, on a click and on an order


def test_no_impression_before_registration_or_listing(log):
    """No impression is before its user registered or its item was listed, although some of both are new."""
    source = simulation.read(dataset())
    joined = log.merge(source.users, on="user_id").merge(source.items, on="item_id")
    assert len(joined) == len(log)
    assert (joined["timestamp"] >= joined["registered_at"]).all()
    assert (joined["timestamp"] >= joined["listed_at"]).all()
    assert (source.users["registered_at"] >= "2026-01-05").mean() > 0.04
    assert (source.items["listed_at"] >= "2026-01-05").mean() > 0.04


def test_distances(log):
    """Distances are short in `nearby` and long in cities of tier 3; one in a hundred is missing."""
    home = log.merge(simulation.read(dataset()).users, on="user_id")
    middle = home.pivot_table("distance_km", "scenario", "city_tier", aggfunc="median", observed=True)
    assert (middle.loc["nearby"] < 0.5 * middle.drop(index="nearby")).all(axis=None)
    assert (middle["tier3"] > 1.5 * middle["tier1"]).all()
    assert log["distance_km"].dtype == np.float32
    assert log["distance_km"].min() > 0
    assert log["distance_km"].isna().mean() == pytest.approx(0.01, abs=0.001)


@pytest.mark.parametrize(("task", "deviation"), [(0, 0.25), (1, 0.20)])
def test_a_longer_distance_lowers_the_logit(task, deviation):
    """Of two impressions that differ in distance only, the farther has the smaller logit; its deviation is designed."""
    size, random = dataset().simulation, np.random.default_rng(0)
    simulated, search = platform.build_platform(size), np.full(20_000, SCENARIOS.index("search"))
    devices = np.tile(DEVICE_SHARES, (len(SCENARIOS), 1))
    shown = platform.draw_impressions(random, simulated, search, clock.midnight_of(size.start), devices)
    near = dataclasses.replace(shown, distance=np.ones(20_000))
    effect = (platform.logits(simulated, shown) - platform.logits(simulated, near))[task]
    assert effect.std() == pytest.approx(deviation, rel=0.03)
    assert np.corrcoef(effect, np.log(shown.distance))[0, 1] == pytest.approx(-1)


def test_days(log):
    """Every impression is on one of the requested days; weekends have more; late_night has the night hours only."""
    day = log["timestamp"].dt.normalize()
    assert day.min() == pd.Timestamp("2026-01-05")
    assert day.nunique() == 14
    assert log["weekday"].value_counts()["Sat"] > 1.15 * log["weekday"].value_counts()["Tue"]
    assert (log["weekday"].astype(str) == log["timestamp"].dt.day_name().str[:3]).all()
    assert (log["hour"] == log["timestamp"].dt.hour).all()
    assert log.loc[log["scenario"] == "late_night", "hour"].isin([0, 1, 2, 3, 4, 5, 20, 21, 22, 23]).all()


def test_profiles_correlate_with_the_latents():
    """Profiles are noisy views: price level, orders and rating correlate with the latents, but not perfectly."""
    source, simulated = simulation.read(dataset()), platform.build_platform(dataset().simulation)
    users, items = source.users, source.items.dropna(subset="rating")
    assert 0.85 < np.corrcoef(users["price_level"], simulated.users.sensitivity)[0, 1] < 0.99
    assert 0.8 < np.corrcoef(np.log1p(users["orders_last_year"]), simulated.users.appetite)[0, 1] < 0.99
    assert 0.8 < np.corrcoef(items["rating"], simulated.items.quality[items.index])[0, 1] < 0.99


def test_popularity_is_skewed(log):
    """A tenth of the items takes over a quarter of the impressions."""
    counts = log["item_id"].value_counts()
    assert counts.head(80).sum() > 0.25 * len(log)


def test_same_seed_same_log():
    """The same seed gives the same log to the last bit, another seed another log."""
    small = {"impressions": 5000, "users": 300, "items": 100}
    pd.testing.assert_frame_equal(events(**small), events(**small))
    assert not events(**small).equals(events(**small, seed=8))


@settings(max_examples=examples(8), deadline=None)
@given(
    impressions=st.integers(1, 3000),
    users=st.integers(2, 200),
    items=st.integers(2, 60),
    days=st.integers(3, 30),
    seed=st.integers(0, 2**31),
)
def test_any_size(impressions, users, items, days, seed):
    """Any size gives the requested number of rows, with known users and items and values within the declared bounds."""
    size = dataset(impressions=impressions, users=max(users, 20), items=max(items, 20), days=days, seed=seed)
    source = simulation.read(size)
    frame = pd.concat(source.chunks())
    assert len(frame) == impressions == source.counts.rows_read
    assert frame["user_id"].isin(source.users["user_id"]).all()
    assert frame["item_id"].isin(source.items["item_id"]).all()
    declared = simulation.declare(size)
    for column, rows in [(c, source.items) for c in declared.items] + [(c, frame) for c in declared.context]:
        if column.minimum is not None:
            maximum = np.inf if column.maximum is None else column.maximum
            assert rows[column.name].dropna().between(column.minimum, maximum).all(), column.name


def test_images_show_flavour_and_quality_and_change_nothing_else(log):
    """The latents of a click are a linear function of the image, up to noise; the events stay as they were.

    Against the best linear guess of each latent; without the option there is no such column.
    """
    size = dataset(image_length=16)
    source, plain = simulation.read(size), simulation.read(dataset())
    pd.testing.assert_frame_equal(source.items.drop(columns="image"), plain.items)
    pd.testing.assert_frame_equal(next(source.chunks()), next(plain.chunks()))
    assert [c.name for c in source.schema.items if c not in plain.schema.items] == ["image"]
    items = platform.build_platform(size.simulation).items
    known = source.items["image"].notna().to_numpy()
    assert 0.9 < known.mean() < 1
    images = np.column_stack([np.stack(source.items["image"][known]), np.ones(known.sum())])
    for latent in (items.quality, *items.flavour[:, :-1].T):
        guess = images @ np.linalg.lstsq(images, latent[known], rcond=None)[0]
        assert 0.8 < np.corrcoef(guess, latent[known])[0, 1] < 0.995


def test_positions_bias_clicks_and_not_the_truth(log):
    """Popular items are on top, and clicks fall with the position as planted; the true probabilities do not.

    All that is drawn without the option is the same with it, but for the clicks.
    """
    shown = events(position_effect=0.8)
    same = [name for name in log if name not in ("click", "order")]
    pd.testing.assert_frame_equal(shown[same], log[same])
    assert shown["position"].value_counts().index.sort_values().tolist() == list(range(1, 11))
    popularity = platform.build_platform(dataset().simulation).items.popularity[shown["item_id"] - 1]
    assert np.corrcoef(shown["position"], popularity)[0, 1] < -0.6
    true = np.log(shown["p_click"] / (1 - shown["p_click"]))
    effects = -0.8 * (np.log(np.arange(1, 11)) - np.log(np.arange(1, 11)).mean())
    expected = 1 / (1 + np.exp(-(true + effects[shown["position"] - 1])))
    rates = shown.assign(expected=expected).groupby("position")[["click", "expected"]].mean()
    np.testing.assert_allclose(rates["click"], rates["expected"], atol=0.012)
    assert simulation.declare(dataset(position_effect=0.8)).position == "position"
