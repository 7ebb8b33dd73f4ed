"""Whose file a path means. Many sources number their files alike, and a folder that is filled anew each week has a real/0001.mp4 in every batch."""

from collections.abc import Iterable, Mapping
from typing import Any

from workspace.for_review import is_erased
from workspace.manifest import composed


class Paths:
    """The files of all batches by their paths. What names one, as a fake its source video, means that of its own batch, else the first of its own source,
    else the first of all."""

    def __init__(self, batches: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
        """`batches` in the order in which they were learned. Of each row its source, path and sample id count."""
        self._having: dict[str, dict[tuple[str, str], str]] = {}
        for batch, rows in batches.items():
            for row in rows:
                if not is_erased(row):  # whose path is what says so
                    self._having.setdefault(composed(row["path"]), {})[row["source"], batch] = row["sample_id"]

    def meant(self, name: str, source: str, batch: str) -> str:
        """The content, by sample id, that a path means to a file of this source and batch; '' where no file has that path."""
        having = self._having.get(composed(name), {})
        whose = next((key for key in ((source, batch), *having) if key in having and key[0] == source), next(iter(having), None))
        return having[whose] if whose else ""

    def called(self, name: str, source: str, batch: str) -> str:
        """What a path is called, so that no two contents are called the same: as it stands where one content alone has it."""
        having = self._having.get(composed(name), {})
        if len({*having.values()}) < 2:
            return name
        content = self.meant(name, source, batch)
        first_source, first_batch = next(key for key, one in having.items() if one == content)
        alone = all(one == content for (other, _), one in having.items() if other == first_source)
        return f"{first_source}: {name}" if alone else f"{first_source}, {first_batch}: {name}"
