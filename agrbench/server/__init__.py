"""The server's part of a round: the view that a rule judges, its verdict, the step, and helpers that rules share."""
