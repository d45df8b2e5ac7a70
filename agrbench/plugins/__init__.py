"""What a plugin is and how plugins are found. Plugin authors import from here, which loads no torch."""

from agrbench.data.sources import File, Folder, Source
from agrbench.plugins.contract import Attack, ByColumn, Columns, Dataset, Defense, Memory, Stage, Step, Verdict

__all__ = [
    "Attack", "ByColumn", "Columns", "Dataset", "Defense", "File", "Folder", "Memory", "Source", "Stage", "Step",
    "Verdict",
]  # fmt: skip
