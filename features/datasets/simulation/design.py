"""The design of the simulated platform: its scenarios, categories, rates, and the strengths of all effects.

Standard deviations of effects are on the scale of a logit. Together they are about 1.3 for a click, which puts the
best possible AUC near 0.84. Pairs of numbers are (click, order given click).
"""

import numpy as np

SCENARIOS = ("home_feed", "search", "channel", "flash_sale", "nearby", "late_night")
SHARES = np.array([0.40, 0.25, 0.15, 0.10, 0.06, 0.04])  # of the impressions
PAIR = np.array([0, 1, 0, 2, 1, 2])  # scenarios with the same number share a taste matrix
RATES = np.array(
    [
        [0.05, 0.15, 0.08, 0.10, 0.07, 0.05],  # clicks per impression
        [0.003, 0.040, 0.009, 0.028, 0.022, 0.016],  # orders per impression
    ]
)
CUISINES = (
    "noodles",
    "rice",
    "burger",
    "pizza",
    "sushi",
    "curry",
    "salad",
    "barbecue",
    "dumplings",
    "bakery",
    "dessert",
    "coffee",
)
TAGS = (
    "spicy",
    "vegan",
    "halal",
    "new",
    "combo",
    "discount",
    "family",
    "single",
    "healthy",
    "late",
    "crispy",
    "soup",
    "sweet",
    "cold",
    "grilled",
    "organic",
)
AGES = ("18-24", "25-34", "35-44", "45-54", "55+")
CITIES = ("tier1", "tier2", "tier3")
DEVICES = ("ios", "android", "web")
DEVICE_SHARES = np.array([0.35, 0.55, 0.10])  # of the impressions; all different, so that swapped codes are visible

QUALITY, APPETITE, DAYPART, DEVICE, WEEKEND = (0.45, 0.60), (0.40, 0.20), (0.25, 0.20), (0.10, 0.10), (0.10, 0.05)
DISTANCE = (-0.25, -0.20)  # a longer distance lowers the logit
PREFERENCE = (0.60, 0.80, 0.60)  # taste of the user x flavour of the item, flavour only, taste only
TASTE = (0.20, 0.95, 0.50)  # parts of a taste matrix: shared by all scenarios, by the pair, of the scenario
TASK_CORRELATION = -0.50  # of a pair's taste between click and order: attractive items are ordered less
PRICE = np.array([[0.50, -0.10, -0.60], [-0.60, -0.20, 0.30]])  # [task, pair]; expensive items draw clicks in the feed
POPULARITY = np.array([[0.25, 0.10, -0.25], [0.10, 0.20, -0.15]])  # [task, pair]

WATCH_SECONDS = 8.0  # typical watch time of an item's video,
WATCH_INTEREST = 0.35  # times e to this for each unit of a click's logit above that of the scenario; around that,
WATCH_SPREAD = 0.80  # the standard deviation of its logarithm

VISIT_GAP_SECONDS = 40.0  # mean time between two impressions of a visit
INTEREST, FATIGUE, FATIGUE_SHOWN = 2.0, 0.5, 3  # of the cuisine clicked before; of each one shown in vain, so many

DIMENSIONS = 3  # of tastes and flavours
BRANDS = 150
NEW_SHARE = 0.08  # of the users and items: those that join within the days of the log
PROFILE_ACCURACY = 0.90  # share of stated cuisines that are the true ones
PROFILE_MISSING_RATE = 0.06  # share of users who state none
POSITIONS, POSITION_NOISE = 10, 0.75  # of an impression: places by popularity, with noise (of a standard deviation)
IMAGE_NOISE, IMAGE_MISSING_RATE = 1.0, 0.05  # of each number of an image (its signal: 2), of the images
ACTIVITY = 0.7  # standard deviation of the logarithm of a user's number of visits
ZIPF = (25.0, 0.9)  # an item of rank r is shown in proportion to (r + first) ** -second
CHEAP_TILT = -0.35  # the pair of flash_sale shows cheap items more often
SCENARIO_SHIFT = 0.25  # standard deviation, over scenarios, of the logarithm of an age band's number of visits
TYPICAL_KM = np.array([3.0, 3.5, 3.0, 4.0, 0.9, 2.5])  # typical distance of a kitchen by scenario,
DISTANCE_FACTOR = np.array([0.8, 1.0, 1.4])  # times this by city tier; around that,
DISTANCE_SPREAD = 0.60  # the standard deviation of its logarithm
DISTANCE_SCALE = 0.64  # the same within a scenario, over all cities
