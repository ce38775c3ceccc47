//! Changes to good input.

use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

/// What parsers trip over.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"'",
    b"..",
    b"/",
    b"%00",
    b"%ff",
    b"=",
    b":",
    b",",
    b"-",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
    b"-----BEGIN ",
    b"-----END ",
    b"-----\n",
    b"{",
    b"[",
    b"}",
    b"]",
    b"0",
    b"-1",
    b"18446744073709551616",
    b"1e999",
    b"\x80",
    b"\x84\xff\xff\xff\xff",
    b"\x30\x80",
    b"\x02\x01\xff",
    b"\x05\x00",
];

/// One change of bytes.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Repeat(Index, Index),
    Cut(Index),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let words = prop::sample::select(WORDS).prop_map(<[u8]>::to_vec);
        let bytes = prop_oneof![3 => words, 1 => prop::collection::vec(any::<u8>(), 1..40)];
        prop_oneof![
            (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Self::Set(at, byte)),
            (any::<Index>(), bytes).prop_map(|(at, bytes)| Self::Insert(at, bytes)),
            (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Self::Remove(a, b)),
            (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Self::Repeat(a, b)),
            any::<Index>().prop_map(Self::Cut),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let n = bytes.len();
        // A few bytes: whole sections go by `Cut`.
        let range = |a: &Index, b: &Index| {
            let from = a.index(n);
            from..(from + 1 + b.index(24)).min(n)
        };
        match self {
            Self::Flip(at, bit) => bytes[at.index(n)] ^= 1 << bit,
            Self::Set(at, byte) => bytes[at.index(n)] = *byte,
            Self::Insert(at, new) => {
                let at = at.index(n + 1);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(a, b) => drop(bytes.drain(range(a, b))),
            Self::Repeat(a, b) => {
                let range = range(a, b);
                let (end, part) = (range.end, bytes[range].to_vec());
                bytes.splice(end..end, part);
            }
            Self::Cut(at) => bytes.truncate(at.index(n)),
        }
    }
}

/// Changed copies of `seeds`, and noise.
pub fn bytes(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec(Change::any(), 0..6);
    let changed = (prop::sample::select(seeds), changes).prop_map(|(mut bytes, changes)| {
        for change in changes {
            change.apply(&mut bytes);
        }
        bytes
    });
    prop_oneof![9 => changed, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// The same as text.
pub fn text(seeds: &[&str]) -> impl Strategy<Value = String> {
    let seeds = seeds.iter().map(|s| s.as_bytes().to_vec()).collect();
    bytes(seeds).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// What nobody expects in a field.
fn odd() -> impl Strategy<Value = Value> {
    let texts = prop_oneof![
        Just(String::new()),
        Just("x".repeat(5_000)),
        prop::sample::select(WORDS).prop_map(|w| String::from_utf8_lossy(w).into_owned()),
        any::<String>(),
    ];
    prop_oneof![
        4 => texts.prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        1 => Just(json!(u64::MAX)),
        1 => Just(json!(1.5e300)),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(json!([])),
        1 => Just(json!({})),
        1 => Just(json!([["x"], {"x": 1}, null, 1])),
        1 => Just(json!(vec!["x"; 1_000])),
    ]
}

/// Every place in a value, depth first, as JSON pointers.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{at}/{name}"), out);
            }
        }
        Value::Array(members) => {
            for (i, member) in members.iter().enumerate() {
                places(member, &format!("{at}/{i}"), out);
            }
        }
        _ => {}
    }
}

/// Copies of `seeds` with odd values in their places, or without a field.
pub fn values(seeds: Vec<Value>) -> impl Strategy<Value = Value> {
    let changes = prop::collection::vec((any::<Index>(), prop::option::weighted(0.8, odd())), 1..4);
    (prop::sample::select(seeds), changes).prop_map(|(mut value, changes)| {
        for (at, new) in changes {
            let mut all = Vec::new();
            places(&value, "", &mut all);
            let place = at.get(&all);
            match (new, place.rsplit_once('/')) {
                (Some(new), _) => *value.pointer_mut(place).unwrap() = new,
                (None, Some((parent, name))) => {
                    if let Some(Value::Object(fields)) = value.pointer_mut(parent) {
                        fields.remove(&name.replace("~1", "/").replace("~0", "~"));
                    }
                }
                (None, None) => {}
            }
        }
        value
    })
}
