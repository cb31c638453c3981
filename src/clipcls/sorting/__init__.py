"""Images into a folder per label, and back: a pure plan, a journal, the acts."""
