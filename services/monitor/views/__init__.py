"""What people look at: explanations, charts and the report, put together from the judge's state and from analytics.

`charts` and `report` gather facts, `drawing` makes pictures of them, `page` a document. Nothing here decides anything.
"""
