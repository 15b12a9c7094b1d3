"""Ingest: camera frames arrive (Kafka, HTTP); checked frames leave as `asset stored`, refused ones as `frame rejected`.

Stored: cameras, assets with their metadata, rejections; the bytes of both lie in the object store.
"""
