//! Harness, reference model and conformance tests; sees only okapi's public interface.
