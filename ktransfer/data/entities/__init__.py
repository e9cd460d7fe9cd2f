"""Texts in which entities are marked: words, schemes of tags, CoNLL columns, character spans, and their files."""
