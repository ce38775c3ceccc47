use certctl::{
    clock::Time,
    store::{Key, MAX_KEY},
};
use proptest::prelude::*;

type Tuple = (String, i64, Option<u64>, bool, Option<String>);

/// Texts in which zeros, prefixes of each other and high bytes are common.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::collection::vec(
            prop_oneof![
                Just('\0'),
                Just('\u{1}'),
                Just('a'),
                Just('b'),
                Just('\u{ff}')
            ],
            0..4
        )
        .prop_map(|chars| chars.into_iter().collect()),
        ".{0,12}",
    ]
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -2..3_i64, Just(i64::MIN), Just(i64::MAX)]
}

fn tuple() -> impl Strategy<Value = Tuple> {
    (
        text(),
        number(),
        proptest::option::of(prop_oneof![any::<u64>(), 0..3_u64]),
        any::<bool>(),
        proptest::option::of(text()),
    )
}

fn encode((text, signed, unsigned, flag, last): &Tuple) -> Vec<u8> {
    Key::new()
        .text(text)
        .time(Time::from_micros(*signed))
        .option(*unsigned, Key::u64)
        .flag(*flag)
        .option(last.as_deref(), Key::text)
        .bytes()
}

proptest! {
    #[test]
    fn keys_order_as_their_values(a in tuple(), b in tuple()) {
        prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.cmp(&b));
    }

    #[test]
    fn values_that_share_a_beginning_keep_their_order(a in tuple(), b in tuple(), same in 1..4_usize) {
        let mut b = b;
        b.0.clone_from(&a.0);
        if same > 1 { b.1 = a.1; }
        if same > 2 { b.2 = a.2; }
        prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.cmp(&b));
    }

    #[test]
    fn descending_times_order_backwards(a in number(), b in number()) {
        let key = |t| Key::new().time_desc(Time::from_micros(t)).bytes();
        prop_assert_eq!(key(a).cmp(&key(b)), b.cmp(&a));
    }

    #[test]
    fn a_text_is_a_prefix_of_keys_with_that_text_alone(a in text(), b in text()) {
        let longer = Key::new().text(&b).u64(7).bytes();
        prop_assert_eq!(longer.starts_with(&Key::new().text(&a).bytes()), a == b);
        prop_assert_eq!(longer.starts_with(&Key::new().text_start(&a).bytes()), b.starts_with(&a));
    }
}

#[test]
fn long_keys_are_cut_and_stay_distinct() {
    let key = |last: &str| Key::new().text(&"x".repeat(600)).text(last).bytes();
    assert_eq!(key("a").len(), MAX_KEY);
    assert_ne!(key("a"), key("b"));
    assert_eq!(key("a"), key("a"));
    let whole = Key::new().text(&"x".repeat(MAX_KEY - 2)).bytes();
    assert!(whole.ends_with(b"xx\0\0"), "{MAX_KEY} bytes are not cut");
}
