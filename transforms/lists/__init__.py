"""Lists of URIs: text, CSV, TSV and JSON lines → the URIs that they name."""
