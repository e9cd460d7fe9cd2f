"""Choose a pretrained backbone and a recipe: scores of frozen features, a space of recipes, a resumable study."""
