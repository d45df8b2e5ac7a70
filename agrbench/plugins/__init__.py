"""What a plugin is, and how plugins are found. Authors import from here."""

from agrbench.data.sources import File, Folder, Source
from agrbench.plugins.contract import Attack, Dataset, Defense, Stage

__all__ = ["Attack", "Dataset", "Defense", "File", "Folder", "Source", "Stage"]
