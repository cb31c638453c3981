"""Runs by existing engines, with the stages of a local run."""
