"""The shipped defenses and stages, one per file."""
