"""Features of the frozen part of a model: computed once, stored, reused."""
