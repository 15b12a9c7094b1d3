"""Charts as pictures, with matplotlib: SVG whose text is text, and PNG. One function a kind, named in `KINDS`."""
