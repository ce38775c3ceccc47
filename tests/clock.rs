//! Times as they are shown and read.

use certctl::clock::Time;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_time_reads_as_itself(micros in -62_167_219_200_000_000..=Time::MAX.micros()) {
        let time = Time::from_micros(micros);
        let shown = time.to_string();
        prop_assert_eq!(shown.parse::<Time>().unwrap(), time);
        if let Ok(timestamp) = jiff::Timestamp::from_microsecond(micros) {
            prop_assert_eq!(shown, timestamp.to_string());
        }
    }
}

#[test]
fn the_last_second_of_9999_has_a_date() {
    assert_eq!(Time::MAX.to_string(), "9999-12-31T23:59:59Z");
    assert_eq!("9999-12-31T23:59:59Z".parse::<Time>().unwrap(), Time::MAX);
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        "now",
        "2026-01-31",
        "2026-01-31Z",
        "2026-01-31T12:00:00",
        "2026-02-30T12:00:00Z",
        "9999-12-31T24:00:01Z",
        "10000-01-01T00:00:00Z",
        "9999-12-31Z",
    ] {
        assert!(text.parse::<Time>().is_err(), "{text}");
    }
}
