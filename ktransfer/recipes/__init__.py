"""Recipes: stages and training options, validated on construction."""
