"""Models: from a user's word to an encoder of images and texts."""
