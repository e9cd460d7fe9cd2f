"""Self-supervised training of a backbone on unlabeled examples, before any labels."""
