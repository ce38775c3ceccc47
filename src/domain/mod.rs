//! Types, states and decisions of the certificate lifecycle.
