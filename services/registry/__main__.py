"""`python -m services.registry`."""

from __future__ import annotations

from services.common.runtime import main
from services.registry.app import build

if __name__ == "__main__":
    main(build)
