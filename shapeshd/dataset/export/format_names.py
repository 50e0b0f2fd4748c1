"""The formats that a dataset can be exported to; without heavy imports, for the command's help."""

from __future__ import annotations

FORMATS = {
    "folder": "PNG folder",
    "stylegan-zip": "zip file of the NVlabs trainers",
    "webdataset": "tar files",
    "parquet": "Parquet files",
    "h5": "one HDF5 file as 3dshapes.h5",
}
"""What each format is; `writers.WRITERS` holds the function that writes it."""

SUFFIXES = {"stylegan-zip": ".zip", "h5": ".h5"}
"""Of the formats that are one file: its suffix. The others are a folder."""

SHARE_A_FOLDER = ("webdataset", "parquet")
"""Formats whose splits lie in one folder, as files that begin with the split's name."""

LABELS = ("none", "shape", "factors")
"""What StyleGAN can condition on."""
