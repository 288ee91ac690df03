"""The codec of music as frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from memorycell.applications.music.pieces import FRAMES_PER_QUARTER
from memorycell.applications.music.pitches import NUM_KEYS
from memorycell.setting_fields import from_json


@dataclass(frozen=True)
class MusicCodec:
    """Frames as a model reads them.

    frames   frames per quarter note
    voices   maximum number of keys that sound together
    """

    kind: ClassVar[str] = "music"
    frames: int
    voices: int

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"voices": self.voices}

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MusicCodec:
        """See `Codec`."""
        codec = from_json(cls, data)
        if codec.frames not in FRAMES_PER_QUARTER or not 1 <= codec.voices <= NUM_KEYS:
            raise ValueError("not a codec of music")
        return codec
