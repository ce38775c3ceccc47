use super::support::NOW;
use certctl::{
    clock::Rng,
    crypt::{KeyRing, MachineKey, OsRng, Place, RingDoc, RingError, Sealed, secret},
};
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::LazyLock};

const PLACE: Place<'static> = Place {
    coll: "ca_node",
    id: "ca-issuing",
    purpose: "key",
};
const SECRET: &[u8] = b"correct horse battery staple";

struct Made {
    machine: MachineKey,
    doc: RingDoc,
    ring: KeyRing,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let machine = MachineKey::generate(&OsRng);
    let (doc, ring) = KeyRing::create(&machine, &OsRng, NOW);
    Made { machine, doc, ring }
});

fn at([coll, id, purpose]: &[String; 3]) -> Place<'_> {
    Place { coll, id, purpose }
}

/// Every text that differs from `text` in one bit and is still a text.
fn flipped(text: &str) -> impl Iterator<Item = String> {
    (0..text.len() * 8).filter_map(|bit| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        String::from_utf8(bytes).ok()
    })
}

/// `sealed` with one bit changed, for every bit of every part.
fn damaged(sealed: &Sealed) -> Vec<Sealed> {
    let with = |change: fn(&mut Sealed) -> &mut String| {
        let text = change(&mut sealed.clone()).clone();
        flipped(&text)
            .map(|flipped| {
                let mut sealed = sealed.clone();
                *change(&mut sealed) = flipped;
                sealed
            })
            .collect::<Vec<_>>()
    };
    let parts = [
        with(|s| &mut s.key),
        with(|s| &mut s.salt),
        with(|s| &mut s.nonce),
        with(|s| &mut s.ct),
    ];
    assert!(parts.iter().all(|part| !part.is_empty()));
    parts.concat()
}

#[test]
fn a_ring_opens_again_by_its_machine_key() {
    let sealed = MADE.ring.seal(PLACE, SECRET, &OsRng);
    let stored = serde_json::to_string(&MADE.doc).unwrap();
    let doc: RingDoc = serde_json::from_str(&stored).unwrap();
    let machine = MachineKey::from_text(&MADE.machine.to_text()).unwrap();
    let ring = KeyRing::open_ring(&doc, &machine).unwrap();
    assert_eq!(ring.open(PLACE, &sealed).unwrap().as_slice(), SECRET);
    let sealed = ring.seal(PLACE, SECRET, &OsRng);
    assert_eq!(MADE.ring.open(PLACE, &sealed).unwrap().as_slice(), SECRET);
}

#[test]
fn a_wrong_machine_key_is_said_as_such() {
    let other = MachineKey::generate(&OsRng);
    let refusal = KeyRing::open_ring(&MADE.doc, &other).unwrap_err();
    assert_eq!(refusal, RingError::WrongKey);
    assert!(refusal.to_string().contains("machine.key"));
    let text = MADE.machine.to_text();
    for flipped in flipped(text.trim_end()) {
        // Most are no hexadecimal digits any more.
        if let Ok(machine) = MachineKey::from_text(&flipped)
            && *machine.to_text() != *text
        {
            let refusal = KeyRing::open_ring(&MADE.doc, &machine).unwrap_err();
            assert_eq!(refusal, RingError::WrongKey);
        }
    }
}

#[test]
fn a_machine_key_is_64_lower_case_digits() {
    let text = MADE.machine.to_text();
    assert_eq!((text.len(), text.ends_with('\n')), (65, true));
    let digits = text.trim_end();
    for good in [digits.to_owned(), format!(" {digits}\r\n")] {
        assert_eq!(*MachineKey::from_text(&good).unwrap().to_text(), *text);
    }
    let (short, long) = (&digits[2..], format!("{digits}00"));
    let other = format!("{}g", &digits[1..]);
    let capital = format!("A{}", &digits[1..]);
    for bad in ["", short, &long, &other, &capital] {
        assert_eq!(MachineKey::from_text(bad).unwrap_err(), RingError::Text);
    }
}

#[test]
fn no_changed_bit_of_a_sealed_value_opens() {
    for damaged in damaged(&MADE.ring.seal(PLACE, SECRET, &OsRng)) {
        let opened = MADE.ring.open(PLACE, &damaged);
        // A changed name of the key is that of another one.
        let refused = matches!(opened, Err(RingError::Value | RingError::NoKey));
        assert!(refused, "{damaged:?}");
    }
}

#[test]
fn no_changed_bit_of_a_ring_opens() {
    let open = |doc: &RingDoc| KeyRing::open_ring(doc, &MADE.machine).map(|_| ());
    let changed = |change: &dyn Fn(&mut RingDoc)| {
        let mut doc = MADE.doc.clone();
        change(&mut doc);
        open(&doc)
    };
    assert_eq!(open(&MADE.doc), Ok(()));
    for canary in damaged(&MADE.doc.canary) {
        let said = changed(&|doc| doc.canary = canary.clone());
        assert_eq!(said, Err(RingError::Damaged));
    }
    let place = Place {
        coll: "ring",
        id: "ring",
        purpose: "canary",
    };
    let other_bird = MADE.ring.seal(place, SECRET, &OsRng);
    let said = changed(&|doc| doc.canary = other_bird.clone());
    assert_eq!(said, Err(RingError::Damaged));
    let (name, key) = MADE.doc.keys.iter().next().unwrap();
    for key in damaged(key) {
        let said = changed(&|doc| drop(doc.keys.insert(name.clone(), key.clone())));
        assert_eq!(said, Err(RingError::Damaged));
    }
    let slot = serde_json::to_value(&MADE.doc.slots[0]).unwrap();
    let wrapped: Sealed = serde_json::from_value(slot["wrapped"].clone()).unwrap();
    for wrapped in damaged(&wrapped) {
        let mut slot = slot.clone();
        slot["wrapped"] = serde_json::to_value(wrapped).unwrap();
        let said = changed(&|doc| doc.slots = vec![serde_json::from_value(slot.clone()).unwrap()]);
        assert_eq!(said, Err(RingError::WrongKey));
    }
    assert_eq!(changed(&|doc| doc.slots.clear()), Err(RingError::WrongKey));
    assert_eq!(changed(&|doc| doc.keys.clear()), Err(RingError::Damaged));
    assert_eq!(
        changed(&|doc| doc.writes.push('x')),
        Err(RingError::Damaged)
    );
}

#[test]
fn keys_of_a_ring_cannot_change_places() {
    let (other, _) = KeyRing::create(&MADE.machine, &OsRng, NOW);
    let opens = |doc: &RingDoc| KeyRing::open_ring(doc, &MADE.machine).map(|_| ());
    // One machine key wraps the keys of two rings; their parts do not mix.
    let mut mixed = MADE.doc.clone();
    mixed.canary = other.canary.clone();
    assert_eq!(opens(&mixed), Err(RingError::Damaged));
    let mut mixed = MADE.doc.clone();
    mixed.slots = other.slots.clone();
    assert_eq!(opens(&mixed), Err(RingError::Damaged));
    let mut renamed = MADE.doc.clone();
    let key = renamed.keys.pop_first().unwrap().1;
    renamed.keys.insert("k-0".into(), key);
    renamed.writes = "k-0".into();
    assert_eq!(opens(&renamed), Err(RingError::Damaged));

    let sealed = KeyRing::open_ring(&other, &MADE.machine)
        .unwrap()
        .seal(PLACE, SECRET, &OsRng);
    assert_eq!(
        MADE.ring.open(PLACE, &sealed).unwrap_err(),
        RingError::NoKey
    );
}

#[test]
fn the_parts_of_a_place_do_not_run_together() {
    let place = |coll, id, purpose| Place { coll, id, purpose };
    let sealed = MADE.ring.seal(place("ab", "cd", "ef"), SECRET, &OsRng);
    let others = [
        place("a", "bcd", "ef"),
        place("abc", "d", "ef"),
        place("ab", "c", "def"),
        place("ab", "cdef", ""),
        place("cd", "ab", "ef"),
        place("ab", "ef", "cd"),
        place("ab", "cd", "eF"),
    ];
    assert!(MADE.ring.open(place("ab", "cd", "ef"), &sealed).is_ok());
    for other in others {
        assert_eq!(
            MADE.ring.open(other, &sealed).unwrap_err(),
            RingError::Value,
            "{other:?}"
        );
    }
}

#[test]
fn equal_values_are_sealed_differently() {
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let Sealed {
            salt, nonce, ct, ..
        } = MADE.ring.seal(PLACE, SECRET, &OsRng);
        assert!(seen.insert(salt) && seen.insert(nonce) && seen.insert(ct));
    }
}

#[test]
fn nothing_shows_a_secret() {
    let machine_text = MADE.machine.to_text();
    let shown = [
        format!("{:?}", MADE.machine),
        format!("{:?}", MADE.ring),
        format!("{:?}", MADE.doc),
        format!("{:?}", MADE.ring.seal(PLACE, SECRET, &OsRng)),
        MADE.ring.seal(PLACE, SECRET, &OsRng).to_string(),
        serde_json::to_string(&MADE.doc).unwrap(),
        [
            RingError::WrongKey,
            RingError::Damaged,
            RingError::Value,
            RingError::NoKey,
            RingError::Text,
        ]
        .map(|e| format!("{e} {e:?}"))
        .join(" "),
    ];
    let secret = std::str::from_utf8(SECRET).unwrap();
    for shown in shown {
        assert!(
            !shown.contains(machine_text.trim_end()) && !shown.contains(secret),
            "{shown}"
        );
        assert!(
            !shown.contains(&data_encoding::BASE64.encode(SECRET)),
            "{shown}"
        );
    }
    assert_eq!(format!("{:?}", MADE.machine), "MachineKey");
    assert_eq!(format!("{:?}", MADE.ring), "KeyRing(1 keys)");
}

#[test]
fn what_opens_is_wiped_after_use() {
    fn wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
    wiped(
        &MADE
            .ring
            .open(PLACE, &MADE.ring.seal(PLACE, SECRET, &OsRng))
            .unwrap(),
    );
    wiped(&MADE.machine.to_text());
    wiped(&secret::generate("", &OsRng));
}

#[test]
fn shown_secrets_have_256_bits_and_are_known_by_their_hash() {
    let (a, b) = (
        secret::generate("cta_", &OsRng),
        secret::generate("cta_", &OsRng),
    );
    let body = a.strip_prefix("cta_").unwrap();
    assert_eq!(
        data_encoding::BASE64URL_NOPAD
            .decode(body.as_bytes())
            .unwrap()
            .len(),
        32
    );
    assert_ne!(*a, *b);
    assert!(secret::same(&secret::hash(&a), &secret::hash(&a)));
    assert!(!secret::same(&secret::hash(&a), &secret::hash(&b)));
    assert!(!secret::same(&secret::hash(&a), ""));
    // SHA-256 of "abc": FIPS 180-2, appendix B.1.
    let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(secret::hash("abc"), known);
}

#[test]
fn the_kernel_gives_other_bytes_each_time() {
    let draw = || {
        let mut bytes = [0; 32];
        OsRng.fill(&mut bytes);
        bytes
    };
    assert_ne!(draw(), draw());
}

proptest! {
    #[test]
    fn a_value_opens_at_its_place_alone(
        plain: Vec<u8>,
        parts in proptest::array::uniform3("[a-c|]{0,4}"),
        others in proptest::array::uniform3("[a-c|]{0,4}"),
    ) {
        let sealed = MADE.ring.seal(at(&parts), &plain, &OsRng);
        prop_assert_eq!(&*MADE.ring.open(at(&parts), &sealed).unwrap(), &plain);
        let moved = MADE.ring.open(at(&others), &sealed);
        prop_assert_eq!(moved.is_ok(), parts == others);
        let text = sealed.to_string();
        prop_assert_eq!(text.parse::<Sealed>().unwrap(), sealed);
    }

    #[test]
    fn garbage_does_not_open(text in "[a-zA-Z0-9+/=.]{0,80}|k-[0-9a-f]{8}(\\.[A-Za-z0-9+/]{4,44}){3}") {
        if let Ok(sealed) = text.parse::<Sealed>() {
            prop_assert_eq!(sealed.to_string(), text);
            let opened = MADE.ring.open(PLACE, &sealed);
            prop_assert!(matches!(opened, Err(RingError::Value | RingError::NoKey)));
        }
    }
}
