use super::support::{Ca, Desk, NOW, asking, p256};
use certctl::{
    clock::Rng,
    crypt::{OsRng, RingCrypto},
    pki::Serial,
};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeSet;

fn positive() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..=20).prop_map(|mut octets| {
        octets[0] = (octets[0] & 0x7f).max(1);
        octets
    })
}

proptest! {
    #[test]
    fn a_random_serial_carries_all_its_bits(bits: [u8; 16]) {
        let octets = Serial::random(bits).octets();
        prop_assert!(octets.len() <= 20 && octets.ends_with(&bits));
        // Neither negative nor with a first octet that DER would drop.
        prop_assert!((1..0x80).contains(&octets[0]));
    }

    #[test]
    fn all_forms_of_a_serial_mean_the_same(octets in positive()) {
        let serial = Serial::from_bytes(&octets).unwrap();
        prop_assert_eq!(&serial.octets(), &octets);
        prop_assert_eq!(&serial.to_string().parse::<Serial>().unwrap(), &serial);
        let json = serde_json::to_string(&serial).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Serial>(&json).unwrap(), &serial);
        let colons: Vec<String> = octets.iter().map(|b| format!("{b:02x}")).collect();
        prop_assert_eq!(serial.colon_hex(), colons.join(":"));
        let padded = [&[0][..], &octets].concat();
        prop_assert_eq!(Serial::from_bytes(&padded).unwrap(), serial);
    }

    #[test]
    fn what_reads_as_a_serial_is_shown_as_it_was(text in "[0-9a-fA-F]{0,44}|.{0,8}") {
        if let Ok(serial) = text.parse::<Serial>() {
            prop_assert_eq!(serial.to_string(), text);
            prop_assert!(serial.octets().len() <= 20);
            let with_sign = [&[0][..], &serial.octets()].concat();
            prop_assert_eq!(Serial::from_bytes(&with_sign).unwrap(), serial);
        }
    }
}

#[test]
fn serials_do_not_repeat() {
    let mut seen = BTreeSet::new();
    for _ in 0..10_000 {
        let mut bits = [0; 16];
        OsRng.fill(&mut bits);
        assert!(seen.insert(Serial::random(bits).to_string()));
    }
}

#[test]
fn what_is_no_serial_is_refused() {
    let long = "1".repeat(41);
    let high = "8".repeat(40);
    let texts = ["", "0", "01", "-1", "AB", "0x1", "1 ", "1:2", &long, &high];
    for text in texts {
        let refusal = text.parse::<Serial>().unwrap_err().to_string();
        assert!(refusal.contains("a serial number is"), "{text:?}");
    }
    let octets: [&[u8]; 5] = [&[], &[0], &[0, 0], &[0x80], &[1; 21]];
    for octets in octets {
        assert!(Serial::from_bytes(octets).is_err(), "{octets:?}");
    }
}

#[test]
fn openssl_reads_the_serial_that_was_asked_for() {
    let ca = Ca::new(&RingCrypto, NOW);
    let desk = Desk::new();
    for seed in [[0; 16], [0xff; 16], [0x80; 16]] {
        let mut asked = asking(&["www.example.test"], p256().public_key(), NOW);
        asked.serial_seed = seed;
        let chain = ca.issue(&asked);
        assert_eq!(*chain.leaf().serial(), Serial::random(seed));
        desk.put("leaf.pem", chain.leaf().pem());
        let shown = desk.openssl(&["x509", "-in", "leaf.pem", "-noout", "-serial"]);
        let expected = format!("serial={}\n", chain.leaf().serial());
        assert!(shown.eq_ignore_ascii_case(&expected), "{shown}");
    }
}
