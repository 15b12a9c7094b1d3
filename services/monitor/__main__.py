"""Starts the service."""

from services.common.runtime import main
from services.monitor.app import build

main(build)
