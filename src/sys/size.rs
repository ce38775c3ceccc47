//! Sizes for people.

/// From so many of a unit on the next smaller one says no more than is wanted.
const ENOUGH: u64 = 10 << 10;

/// A number of bytes in the largest unit that shows two digits of it, e.g. `42 MiB`.
pub fn size(bytes: u64) -> String {
    let (mut n, mut unit) = (bytes, "bytes");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if n < ENOUGH {
            break;
        }
        (n, unit) = (n >> 10, larger);
    }
    format!("{n} {unit}")
}
