"""`python -m services.serving`."""

from services.common.runtime import main
from services.serving.app import build

main(build)
