"""The shipped defenses and stages, one a file."""
