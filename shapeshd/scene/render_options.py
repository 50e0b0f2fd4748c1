"""The options of rendering: the size of an image, and POV-Ray's antialiasing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shapeshd.checks import whole_number
from shapeshd.errors import UsageError, named

Image = npt.NDArray[np.uint8]

MIN_SIZE, MAX_SIZE = 8, 2048
CONTRAST_GAMMA = 2.5
"""Antialiasing compares linear values to the power of 1 over this."""


@dataclass(frozen=True)
class RenderOptions:
    """Size and antialiasing of images; with the scene, they decide every pixel.

    Args:
        size: width and height in pixels, 8 to 2048.
        antialias: POV-Ray's threshold (+A) of its supersampling method 1, between 0 and 3,
            or None for one sample a pixel. A pixel whose colour differs from its left or
            upper neighbour's by more is traced again with `antialias_depth`^2 rays.
            POV-Ray takes more than 1 for 1.
        antialias_depth: rays along a side of a supersampled pixel (+R), 1 to 9.
    """

    size: int = 256
    antialias: float | None = 0.3
    antialias_depth: int = 3

    def __post_init__(self) -> None:
        size = whole_number(named("size"), self.size, MIN_SIZE, MAX_SIZE)
        depth = whole_number(named("antialias_depth"), self.antialias_depth, 1, 9)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "antialias_depth", depth)
        threshold = self.antialias
        if threshold is None:
            return
        number = isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool)
        if not number or not 0 < threshold <= 3:
            raise UsageError(
                f"{named('antialias')} must be above 0 and at most 3, not {threshold!r}"
            )

    def ini(self, frames: int) -> str:
        """Return POV-Ray's INI file for a batch of `frames` scenes.

        It states whatever a user's own ``povray.ini`` could change.
        """
        lines = [
            f"Width={self.size}",
            f"Height={self.size}",
            "Quality=9",
            "Dither=off",
            "Output_Alpha=off",
            "Output_To_File=on",
            "Output_File_Type=P",
            "Output_File_Name=-",
            "Bits_Per_Color=8",
            "File_Gamma=srgb",
            "Display=off",
            "Verbose=off",
            "All_Console=off",
            "Fatal_Console=on",
            "Work_Threads=1",
            # Antialiasing looks across a block's border differently: one block an image.
            f"Render_Block_Size={self.size}",
            "Jitter=off",
            "Initial_Frame=0",
            f"Final_Frame={frames - 1}",
        ]
        if self.antialias is None:
            lines.append("Antialias=off")
        else:
            lines += [
                "Antialias=on",
                "Sampling_Method=1",
                f"Antialias_Threshold={float(self.antialias)!r}",
                f"Antialias_Depth={self.antialias_depth}",
                f"Antialias_Gamma={CONTRAST_GAMMA}",
            ]
        return "\n".join(lines) + "\n"
