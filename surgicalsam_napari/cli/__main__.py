"""`python -m surgicalsam_napari.cli`, for use if the `surgicalsam` script is not on the path."""

from __future__ import annotations

import sys

from surgicalsam_napari.cli import main

if __name__ == "__main__":
    sys.exit(main())
