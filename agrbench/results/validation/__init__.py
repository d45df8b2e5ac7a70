"""Numbers that others published, and whether ours agree with them (docs/validation.md)."""
