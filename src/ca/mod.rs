//! Connections to certification authorities.
