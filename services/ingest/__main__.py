"""`python -m services.ingest`."""

from __future__ import annotations

from services.common.runtime import main
from services.ingest.app import build

if __name__ == "__main__":
    main(build)
