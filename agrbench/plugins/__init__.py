"""What a plugin is, and how plugins are found. Authors import from here."""

from agrbench.plugins.contract import Attack, Dataset, Defense, File, Folder, Source, Stage

__all__ = ["Attack", "Dataset", "Defense", "File", "Folder", "Source", "Stage"]
