"""Image formats, one module each: what a file declares, if it is whole, and its pixels."""
