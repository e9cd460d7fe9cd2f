"""Table files: CSV, TSV, JSON, JSON lines and Parquet."""
