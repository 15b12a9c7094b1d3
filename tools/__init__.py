"""Programs that keep generated files and documents true; `make` calls them."""
