"""How good is it: truth, metrics, comparison, calibration, similarity, plots."""
