//! Sizes for people.

use certctl::sys::size;

#[test]
fn a_size_is_shown_in_the_largest_unit_that_shows_two_digits() {
    for (bytes, shown) in [
        (0, "0 bytes"),
        (10_239, "10239 bytes"),
        (10_240, "10 KiB"),
        (10 << 20, "10 MiB"),
        ((10 << 30) - 1, "10239 MiB"),
        (10 << 30, "10 GiB"),
        (1_500 << 30, "1500 GiB"),
        (25 << 40, "25 TiB"),
        (u64::MAX, "16777215 TiB"),
    ] {
        assert_eq!(size(bytes), shown);
    }
}
