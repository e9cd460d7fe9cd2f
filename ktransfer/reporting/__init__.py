"""What a run is worth, on one page: calibration, explanations, plots, and the page itself."""
