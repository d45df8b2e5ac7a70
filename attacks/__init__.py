"""The shipped attacks, one a file."""
