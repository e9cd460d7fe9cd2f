"""Unlabeled texts, and the objectives by which a text backbone learns from them."""
