"""The formats that a dataset can be exported to; without heavy imports, for the command's help."""

from __future__ import annotations

FORMATS = {
    "folder": "PNG folder",
    "stylegan-zip": "zip file of the NVlabs trainers",
    "webdataset": "tar files",
    "parquet": "Parquet files",
    "h5": "one HDF5 file as 3dshapes.h5",
}
"""What each format is; `export.WRITERS` holds the function that writes it."""

LABELS = ("none", "shape", "factors")
"""What StyleGAN can condition on."""
