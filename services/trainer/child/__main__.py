"""`python -m services.trainer.child FOLDER`: one run, from job.json to result.json."""

from __future__ import annotations

import sys
from pathlib import Path

from services.trainer.child.run import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
