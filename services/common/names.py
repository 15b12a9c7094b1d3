"""What models and datasets may be called: names stand in URLs, in keys of records and in globs of policies."""

from __future__ import annotations

import re
from typing import Final

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
