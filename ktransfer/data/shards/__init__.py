"""Shards: Parquet, TFRecord and tar files of many examples, on a disk or in an object store."""
