"""What Schemathesis cannot know: how texts of the formats that Heed's description names look."""

from __future__ import annotations

import json

import schemathesis
from hypothesis import strategies

values = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers(-9, 9) | strategies.text(max_size=4),
    lambda inner: (
        strategies.lists(inner, max_size=2)
        | strategies.dictionaries(strategies.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
objects = strategies.dictionaries(strategies.text(max_size=4), values, max_size=3)
schemathesis.openapi.format("json-object", objects.map(json.dumps))
schemathesis.openapi.format(
    "moment",
    strategies.integers(0, 2**33).map(str)
    | strategies.datetimes().map(lambda moment: moment.isoformat())
    | strategies.dates().map(lambda day: day.isoformat()),
)
