"""Measurements of clipcls that need more time or more images than a test has."""
