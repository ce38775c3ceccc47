//! Sockets: listening, resolving, dialling, TLS.
