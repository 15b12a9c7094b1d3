"""`python -m services.labeling`."""

from __future__ import annotations

from services.common.runtime import main
from services.labeling.app import build

main(build)
