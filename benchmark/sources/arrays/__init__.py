"""Images that exist: NumPy arrays, HDF5 files and datasets."""
