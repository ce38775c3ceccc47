//! X.509: bytes in, values out.
