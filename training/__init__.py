"""How the models that come with clipcls were made."""
