//! The life of certificates under simulated time.
