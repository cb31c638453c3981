"""Inputs: from what the user named to images in memory."""
