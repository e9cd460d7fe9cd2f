"""Which cases of a large generated table the default suite runs; the others are marked slow.

`@pytest.mark.spread` on a parametrized test keeps cases until each value of each parameter has been met once,
`@pytest.mark.spread(3)` three cases at even distances, the first and the last among them, and
`@pytest.mark.spread("onnx")` those that have this as a part of their name. What is slow already counts for none of
them. The choice depends on the table alone.
"""

import collections

import pytest


def mark_the_rest_slow(items):
    """Mark all but a spread of the cases of each test that asks for it as slow.

    Args:
        items: The collected tests, as pytest gives them to `pytest_collection_modifyitems`.
    """
    tables = collections.defaultdict(list)
    for item in items:
        if item.get_closest_marker("spread") and not item.get_closest_marker("slow"):
            tables[item.nodeid.partition("[")[0]].append(item)
    for cases in tables.values():
        given = cases[0].get_closest_marker("spread").args
        if not given:
            kept = covering([case.callspec.params for case in cases])
        elif isinstance(given[0], str):
            kept = named([case.callspec.id for case in cases], given)
        else:
            kept = evenly(len(cases), *given)
        for index, case in enumerate(cases):
            if index not in kept:
                case.add_marker(pytest.mark.slow)


def covering(rows):
    """The places of rows `{name: value}` with each value once at least: each time the first with the most new ones."""
    rows = [{(name, repr(value)) for name, value in row.items()} for row in rows]
    missing, kept = set().union(*rows), set()
    while missing:
        best = max(range(len(rows)), key=lambda place: len(missing & rows[place]))
        kept.add(best)
        missing -= rows[best]
    return kept


def named(names, parts):
    """The places of the names that have one of these parts; names are of parts joined by hyphens."""
    return {place for place, name in enumerate(names) if {name, *name.split("-")} & {*parts}}


def evenly(count, wanted):
    """The places of `wanted` of `count` cases at even distances, the first and the last among them."""
    if wanted >= count:
        return set(range(count))
    return {round(place * (count - 1) / max(wanted - 1, 1)) for place in range(wanted)}
