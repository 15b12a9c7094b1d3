"""`python -m services.trainer.child FOLDER PARENT_PID`: one run, from job.json to result.json."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from services.common.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))  # before torch, whose import takes seconds in which the parent may die
    # Read when torch loads its OpenMP: threads that spin at barriers would take the cores from serving next door.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from services.trainer.child.run import main

    sys.exit(main(Path(sys.argv[1])))
