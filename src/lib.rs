//! certctl: a certificate lifecycle manager in one binary.
//!
//! This file is the map. Modules stand in the order in which data flows: doors turn outside
//! words into use cases, the middle decides and commits, the core is pure, adapters reach the
//! outside world, the floor carries them all. Imports go down the list, never up
//! (`tests/layout.rs` holds that).
#![warn(missing_docs)]
#![deny(unsafe_code)]

// Doors: no rules live here.
pub mod api;
pub mod bench;
pub mod cli;
pub mod protocol;
pub mod web;

// Middle: use cases and the loops that drive them.
pub mod app;
pub mod jobs;
pub mod reconcile;

// Core: pure values and decisions; no I/O, no clock, no runtime.
pub mod domain;
pub mod pki;

// Adapters: one trait each, many implementations.
pub mod agent;
pub mod ca;
pub mod deploy;
pub mod store;

// Floor.
pub mod access;
pub mod clock;
pub mod config;
pub mod crypt;
pub mod id;
pub mod net;
pub mod sys;
pub mod telemetry;
