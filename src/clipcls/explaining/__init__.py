"""Why an image got its probabilities: which of its parts carry the logit of each label."""
