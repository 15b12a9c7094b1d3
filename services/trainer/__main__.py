"""`python -m services.trainer`."""

from __future__ import annotations

from services.common.runtime import main
from services.trainer.app import build

if __name__ == "__main__":
    main(build)
