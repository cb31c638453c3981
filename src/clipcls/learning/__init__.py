"""A head from a few labels: fitted on embeddings, judged by cross-validation against zero-shot."""
