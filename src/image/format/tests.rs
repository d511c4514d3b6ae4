//! Tests of the readers and writers in memory.
