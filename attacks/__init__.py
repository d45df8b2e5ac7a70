"""The shipped attacks, one per file."""
