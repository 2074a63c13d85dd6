"""What can go wrong, by whose fault.

```
SegmentationError
├── ParameterError (ValueError)   the call is wrong: the caller must change it
├── ImageError (ValueError)       this image cannot be segmented as asked: others are not affected
│   └── LimitError                it is over a limit that a setting makes: another run may have another
├── StoreError (OSError)          files or the store failed: trying again may help
├── ClusterError (RuntimeError)   the workers cannot be used: the run cannot go on
├── ServerError (RuntimeError)    the Prefect server cannot be used: the run cannot go on
└── MachineError (RuntimeError)   this machine cannot do what a run needs
```
"""


class SegmentationError(Exception):
    """Base of every error raised on purpose."""


class ParameterError(SegmentationError, ValueError):
    """The call is wrong: the caller must change it."""


class ImageError(SegmentationError, ValueError):
    """The image cannot be read or segmented as asked; others are not affected."""


class LimitError(ImageError):
    """The image is over a limit that a setting makes; another run may have another."""


class ClusterError(SegmentationError, RuntimeError):
    """The workers cannot be used as they are: the run cannot go on."""


class ServerError(SegmentationError, RuntimeError):
    """The Prefect server cannot be used: the run cannot go on."""


class MachineError(SegmentationError, RuntimeError):
    """The machine, as it is set up, cannot do what a run needs."""


class StoreError(SegmentationError, OSError):
    """The store failed: trying again may help."""
