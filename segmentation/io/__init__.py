"""Images in, label arrays out: files, records, OME-Zarr."""
