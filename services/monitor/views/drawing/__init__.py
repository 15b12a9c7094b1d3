"""Charts as pictures, with matplotlib: SVG whose text is text, and PNG. All that the monitor draws is drawn here."""
