"""What the files of a job are called: after its id and their index, never after a URL or prompt.

Id and prefix come from outside, so neither is taken for a path. It knows nothing of what is in the
files.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from langchain_shortapi_flux.picture_type import MEDIA_TYPES

_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
"""On Windows these are devices, whatever folder and ending they are given."""


@dataclass(frozen=True)
class PictureNames:
    """The names of one job's files in one folder."""

    folder: Path
    prefix: str
    job_id: str

    @property
    def sidecar(self) -> Path:
        """The JSON file that says what the pictures are."""
        return self.folder / f"{self._stem}.json"

    def picture(self, index: int, ending: str) -> Path:
        """A picture's file. ``index`` counts from 1."""
        return self.folder / f"{self._stem}-{index}.{ending}"

    def there(self, index: int) -> Path | None:
        """Whatever stands under a picture's name already, with whichever ending."""
        places = (self.picture(index, ending) for ending in MEDIA_TYPES)
        return next((place for place in places if os.path.lexists(place)), None)

    @property
    def _stem(self) -> str:
        plain = _PLAIN_ID.fullmatch(self.job_id) and not _DEVICE.fullmatch(self.job_id)
        digest = hashlib.sha256(self.job_id.encode("utf-8", "replace")).hexdigest()[:24]
        return f"{self.prefix}{self.job_id if plain else digest}"


def is_prefix(prefix: str) -> bool:
    """Whether a file's name can begin so: with no part of a path, and with text."""
    try:
        os.fsencode(prefix).decode()
    except ValueError:  # a lone surrogate
        return False
    return not set(prefix) & {"/", "\\", "\0"} and Path(f"{prefix}x").name == f"{prefix}x"
