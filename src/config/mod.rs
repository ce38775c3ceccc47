//! Settings: sources, raw values, checked configuration.
