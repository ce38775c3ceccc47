//! Debian's nginx, deployed to and watched by handshakes.

mod client;
mod crash;
mod faults;
mod first;
mod renewal;
mod scene;
mod shared;
mod trials;
mod whole;
