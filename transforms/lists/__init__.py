"""Lists of URIs: text, CSV, TSV and JSON lines."""
