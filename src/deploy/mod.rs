//! Places that serve or store a certificate.
