"""The public API changes on purpose only."""

import api_surface


def test_the_public_api_is_as_listed():
    listed = api_surface.LISTING.read_text(encoding="utf-8")
    assert api_surface.listing() == listed, (
        "if it is meant: `python tests/api_surface.py`, and a line in CHANGELOG.md"
    )


def test_the_listing_has_parameters_and_defaults():
    """So that it notices a renamed parameter and a changed default."""
    assert api_surface.signature(lambda a, *, b=1: None) == "(a, *, b=1)"
    listed = api_surface.LISTING.read_text(encoding="utf-8")
    assert "Stage(*, depth, epochs, learning_rate=None, lowest_rate=0.1, " in listed
    assert "    .predict(self, inputs, *, top_k=5)" in listed
