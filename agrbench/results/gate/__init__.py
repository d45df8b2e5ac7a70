"""The regression gate: is HEAD worse than BASE?"""
