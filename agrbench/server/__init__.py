"""What an aggregation rule is made of: the view it judges, its verdict, and helpers that rules share."""
