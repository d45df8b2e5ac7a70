"""Simulation of cells: the round loop, the grids that list cells, and the processes that run them."""
