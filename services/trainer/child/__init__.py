"""The process of one run: `python -m services.trainer.child FOLDER PARENT_PID`.

It reads FOLDER/job.json and writes FOLDER/result.json. It says one JSON object a line on standard output, knows no bus
and no database, and dies with trainer.
"""
