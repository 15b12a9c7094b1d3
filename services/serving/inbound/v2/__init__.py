"""The inference protocol over HTTP, under /v2: an ASGI application beside FastAPI, whose routing costs too much."""
