"""`python -m services.trainer.child FOLDER PARENT_PID`: one run, from job.json to result.json.

Exit codes: 0 when result.json is there (it may hold an error), 1 when it should be tried again, 3 when another process
works on the run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from services.common.processes import die_with_parent
from services.trainer.child.lease import take


def main(folder: Path, parent: int) -> int:
    """What can be told apart without torch comes before it: its import takes seconds."""
    die_with_parent(parent)
    lease = take(folder)
    if lease is None:
        return 3
    with lease:
        if (folder / "result.json").exists():
            return 0
        # Read when torch loads its OpenMP: threads that spin at barriers would take the cores from serving next door.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from services.trainer.child.run import carry_out

        return carry_out(folder)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
