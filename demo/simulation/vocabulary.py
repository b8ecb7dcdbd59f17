"""Words of the simulated catalogue: themes, categories, and the words of titles and tags."""

from __future__ import annotations

import numpy as np

#: theme -> category -> words that only titles and tags of this category use.
THEMES: dict[str, dict[str, str]] = {
    "sport": {
        "football": "derby striker penalty stadium transfer goalkeeper",
        "tennis": "serve baseline tiebreak racket grand-slam backhand",
        "cycling": "peloton climb sprint breakaway time-trial saddle",
        "running": "marathon pace trail interval stride finish-line",
        "climbing": "boulder rope summit granite overhang belay",
    },
    "food": {
        "baking": "sourdough oven crust yeast pastry flour",
        "street-food": "taco dumpling market-stall skewer noodle night-market",
        "coffee": "espresso roast grinder barista crema filter",
        "vegan": "tofu lentil chickpea tempeh oat-milk mushroom",
        "wine": "vineyard harvest barrel sommelier terroir cork",
    },
    "science": {
        "space": "telescope orbit comet lander galaxy launch",
        "biology": "enzyme genome cell fossil microbe reef",
        "physics": "quantum collider laser neutrino superfluid entropy",
        "climate": "glacier carbon monsoon heatwave forest methane",
        "medicine": "vaccine trial surgeon antibody sleep heart",
    },
    "tech": {
        "programming": "compiler refactor latency open-source debugger kernel",
        "gadgets": "battery headset camera foldable charger speaker",
        "ai": "model training-data agent benchmark robot prompt",
        "security": "phishing password patch breach firewall key",
        "games": "speedrun boss-fight indie console quest soundtrack",
    },
    "culture": {
        "cinema": "director premiere sequel screenplay festival close-up",
        "books": "novel chapter translator bookshop memoir debut",
        "jazz": "saxophone improvisation trio swing record session",
        "hip-hop": "beat verse mixtape sample producer freestyle",
        "theatre": "stage rehearsal monologue curtain ensemble tragedy",
    },
    "money": {
        "markets": "bond rally index volatility dividend hedge",
        "startups": "founder pitch seed-round pivot runway launch-day",
        "housing": "rent mortgage tenant renovation suburb lease",
        "careers": "interview salary mentor resume remote-work promotion",
        "energy": "turbine grid solar-farm battery-park pipeline tariff",
    },
    "life": {
        "parenting": "bedtime toddler school-run lunchbox playground teenager",
        "gardening": "compost seedling greenhouse pruning tomato soil",
        "travel": "night-train island border-crossing hostel visa ferry",
        "fitness": "deadlift stretch recovery protein kettlebell breathing",
        "pets": "puppy shelter vet aquarium kitten leash",
    },
    "politics": {
        "elections": "ballot turnout coalition recount campaign swing-voter",
        "europe": "commission treaty summit-night border council euro",
        "cities": "mayor tram bike-lane skyline housing-plan night-bus",
        "courts": "verdict appeal judge testimony ruling jury",
        "diplomacy": "envoy ceasefire sanction embassy handshake accord",
    },
}

#: Tags any category may carry.
COMMON_TAGS = (
    "longread", "interview", "video", "beginner", "expert", "opinion", "data", "history", "how-to",
    "breaking", "local", "review", "explainer", "photo", "live", "weekend",
)  # fmt: skip

CATEGORIES = tuple(c for theme in THEMES.values() for c in theme)
#: Theme and words of each category, by its position in ``CATEGORIES``.
THEME_OF = np.array([t for t, theme in enumerate(THEMES.values()) for _ in theme])
WORDS = tuple(tuple(words.split()) for theme in THEMES.values() for words in theme.values())
TAGS = tuple(dict.fromkeys([*COMMON_TAGS, *(w for words in WORDS for w in words)]))
TAG_INDEX = {tag: i for i, tag in enumerate(TAGS)}

TITLES = (
    "Why {a} matters more than {b}",
    "Inside the world of {a}",
    "{a}: five things to know about {b}",
    "The {a} nobody expected",
    "How {a} changed {b} for ever",
    "What {a} teaches us about {b}",
    "A beginner's guide to {a} and {b}",
    "The quiet return of {a}",
    "{a} or {b}? We tried both",
    "Behind the scenes: {a}",
    "Is this the end of {a}?",
    "The {a} that everybody talks about",
    "From {a} to {b} in one week",
    "{a}, explained in three minutes",
)

COUNTRIES = ("BR", "DE", "IN", "US", "FR", "NG", "JP", "MX", "PL", "GB")
DEVICES = ("mobile", "desktop", "tablet")
LANGUAGES = ("en",)
