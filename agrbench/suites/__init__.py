"""The shipped grids, one a TOML file."""
