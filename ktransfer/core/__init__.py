"""What every package may know: the protocols that modalities keep to. Imports nothing heavy."""
