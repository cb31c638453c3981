"""How `mini`, the bundled model, is made; README.md has the order of the steps."""
