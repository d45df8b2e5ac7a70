"""The shipped datasets, one a file."""
