//! Reading rows out of files: JSON, JSONL, CSV and Parquet, one file or many.
