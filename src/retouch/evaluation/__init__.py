"""Scores that can be compared: metrics, fixed pairs, protocols, baselines and reports."""
