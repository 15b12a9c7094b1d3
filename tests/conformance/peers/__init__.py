"""The servers and clients that Irisloop's serving is compared with: each in an environment of its own under
`<home>/peers`, pinned and checked by hash, never in ours.
"""
