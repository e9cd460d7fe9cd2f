"""How a model is trained: stages and options, checked when they are made."""
