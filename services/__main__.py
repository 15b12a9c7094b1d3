"""The `irisloop` command."""

from __future__ import annotations

from services.local.cli.app import main

if __name__ == "__main__":
    main()
