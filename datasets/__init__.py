"""The shipped datasets, one per file."""
