"""Run cells: the round loop, the grid that names cells, and the processes that compute them."""
