"""Labeling on SQLAlchemy, Parquet and the object store."""
