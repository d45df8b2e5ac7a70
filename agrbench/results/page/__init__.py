"""The page of a report: one HTML file that shows records, made by `build` from the plain data that `model` computes."""
