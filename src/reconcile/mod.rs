//! Loops that make what is so what should be.
