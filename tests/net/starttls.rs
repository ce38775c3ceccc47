//! The probe where TLS begins after some words in the clear, against peers that follow a script.

use super::pki::{AMPLE, Ca, Pair, dialer};
use certctl::{
    net::{Endpoint, Probe, ProbeError, Protocol, Served, TlsProbe},
    sys::Tasks,
};
use rustls::ServerConfig;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

/// What a peer does, step by step; then it shakes hands.
#[derive(Clone, Copy)]
enum Step {
    Say(&'static [u8]),
    /// Exactly these bytes are to come.
    Hear(&'static [u8]),
    /// The same again and again, until nobody listens.
    Flood(&'static [u8]),
    /// Nothing any more.
    Hang,
    Close,
}
use Step::{Close, Flood, Hang, Hear, Say};

const EHLO: Step = Hear(b"EHLO certctl.internal\r\n");
const SSL_REQUEST: Step = Hear(&[0, 0, 0, 8, 4, 210, 22, 47]);

/// The scripts of servers that begin TLS, some of them wordy.
fn good() -> [(Protocol, Vec<Step>); 6] {
    [
        (
            Protocol::Smtp,
            vec![
                Say(b"220-mail.example.org\r\n220 ESMTP ready\r\n"),
                EHLO,
                Say(b"250-mail.example.org\r\n250-SIZE 1000\r\n250-star"),
                Say(b"ttls\r\n250 8BITMIME\r\n"),
                Hear(b"STARTTLS\r\n"),
                Say(b"220 go ahead\r\n"),
            ],
        ),
        (
            Protocol::Smtp,
            vec![
                Say(b"220\r\n"),
                EHLO,
                Say(b"250 STARTTLS\r\n"),
                Hear(b"STARTTLS\r\n"),
                Say(b"220 2.0.0 Ready\r\n"),
            ],
        ),
        (
            Protocol::Imap,
            vec![
                Say(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n"),
                Hear(b"a STARTTLS\r\n"),
                Say(b"* CAPABILITY IMAP4rev1\r\na OK begin\r\n"),
            ],
        ),
        (
            Protocol::Pop3,
            vec![
                Say(b"+OK ready\r\n"),
                Hear(b"STLS\r\n"),
                Say(b"+OK begin\r\n"),
            ],
        ),
        (Protocol::Postgres, vec![SSL_REQUEST, Say(b"S")]),
        (Protocol::Tls, vec![]),
    ]
}

async fn follow(stream: &mut TcpStream, script: &[Step]) -> std::io::Result<bool> {
    for step in script {
        match step {
            Say(words) => stream.write_all(words).await?,
            Hear(words) => {
                let mut heard = vec![0; words.len()];
                stream.read_exact(&mut heard).await?;
                assert_eq!(heard, *words, "{}", String::from_utf8_lossy(&heard));
            }
            Flood(words) => loop {
                stream.write_all(words).await?;
            },
            Hang => std::future::pending().await,
            Close => return Ok(false),
        }
    }
    Ok(true)
}

/// Looks at a peer that follows a script; gives what is seen.
#[expect(clippy::disallowed_methods, reason = "a peer of the test")]
async fn look(
    protocol: Protocol,
    script: Vec<Step>,
    pair: &Pair,
    limit: Duration,
) -> Result<Served, ProbeError> {
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                pair.chain.iter().cloned().map(Into::into).collect(),
                pair.key.clone().try_into().unwrap(),
            )
            .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint {
        protocol,
        ..Endpoint::tls("localhost", listener.local_addr().unwrap().port())
    };
    let tasks = Tasks::new();
    tasks.spawn("peer", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if follow(&mut stream, &script).await.unwrap_or(false) {
                let _ = acceptor.accept(stream).await;
            }
        }
    });
    let probe = TlsProbe::new(dialer()).unwrap();
    let seen = probe.tls(&endpoint, "www.example.org", limit).await;
    tasks.abort_all();
    seen
}

async fn refusal(protocol: Protocol, script: Vec<Step>) -> String {
    let pair = Ca::new("ca").sign(&["www.example.org"]);
    let error = look(protocol, script, &pair, AMPLE).await.unwrap_err();
    assert!(matches!(error, ProbeError::Handshake { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn what_is_served_after_starttls_is_seen() {
    let pair = Ca::new("ca").sign(&["www.example.org"]);
    for (protocol, script) in good() {
        let served = look(protocol, script, &pair, AMPLE).await;
        assert_eq!(served.unwrap().chain, pair.chain, "{protocol}");
    }
}

#[tokio::test]
async fn a_server_that_begins_no_tls_is_told_in_its_own_words() {
    let greeting = Say(b"220 mail\r\n");
    let cases: Vec<(Protocol, Vec<Step>, &str)> = vec![
        (Protocol::Smtp, vec![Say(b"554 go away\r\n")], "554 go away"),
        (Protocol::Smtp, vec![Say(b"2200 x\r\n")], "2200 x"),
        (
            Protocol::Smtp,
            vec![greeting, EHLO, Say(b"502 what?\r\n")],
            "502 what?\" to EHLO",
        ),
        (
            Protocol::Smtp,
            vec![greeting, EHLO, Say(b"250-mail\r\n250 XSTARTTLS\r\n")],
            "does not offer STARTTLS",
        ),
        (
            Protocol::Smtp,
            vec![
                greeting,
                EHLO,
                Say(b"250 STARTTLS\r\n"),
                Hear(b"STARTTLS\r\n"),
                Say(b"454 TLS not available\r\n"),
            ],
            "454 TLS not available\" to STARTTLS",
        ),
        (Protocol::Imap, vec![Say(b"* PREAUTH hi\r\n")], "PREAUTH"),
        (Protocol::Imap, vec![Say(b"* BYE\r\n")], "* BYE"),
        (
            Protocol::Imap,
            vec![
                Say(b"* OK hi\r\n"),
                Hear(b"a STARTTLS\r\n"),
                Say(b"a BAD no TLS here\r\n"),
            ],
            "a BAD no TLS here",
        ),
        (Protocol::Pop3, vec![Say(b"-ERR busy\r\n")], "-ERR busy"),
        (
            Protocol::Pop3,
            vec![Say(b"+OK\r\n"), Hear(b"STLS\r\n"), Say(b"-ERR unknown\r\n")],
            "-ERR unknown\" to STLS",
        ),
        (Protocol::Postgres, vec![SSL_REQUEST, Say(b"N")], "ssl = on"),
        (Protocol::Postgres, vec![SSL_REQUEST, Say(b"E")], "\"E\""),
        (Protocol::Pop3, vec![Close], "closed the connection"),
        (
            Protocol::Imap,
            vec![Say(b"\x16\x03\x01\0\x05hello\x1b]0;x\x07\n")],
            "\\u{1b}",
        ),
    ];
    for (protocol, script, says) in cases {
        let error = refusal(protocol, script).await;
        assert!(error.contains(says), "{says:?} in {error:?}");
        assert!(!error.contains(char::is_control), "{error:?}");
        assert!(error.len() < 600, "{error}");
    }
}

#[tokio::test]
async fn words_that_came_in_the_clear_before_tls_are_refused() {
    for (protocol, mut script) in good() {
        let Some(Say(leave)) = script.pop() else {
            continue;
        };
        // In the very segment of the leave: no handshake could tell them apart.
        let with: &'static [u8] = [leave, b"250 injected\r\n"].concat().leak();
        script.push(Say(with));
        let error = refusal(protocol, script).await;
        assert!(error.contains("in the clear"), "{protocol}: {error}");
    }
    let early = vec![Say(b"+OK ready\r\n+OK begin\r\n")];
    let error = refusal(Protocol::Pop3, early).await;
    assert!(error.contains("before it is asked"), "{error}");
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read_for_ever() {
    for (protocol, script) in [
        (Protocol::Smtp, vec![Flood(b"220-more\r\n")]),
        (Protocol::Smtp, vec![Flood(b"220 no end of a line ")]),
        (Protocol::Imap, vec![Flood(b"* OK no end of a line ")]),
        (
            Protocol::Imap,
            vec![
                Say(b"* OK\r\n"),
                Hear(b"a STARTTLS\r\n"),
                Flood(b"* 1 EXISTS\r\n"),
            ],
        ),
        (Protocol::Pop3, vec![Flood(b"\0\0\0\0\0\0\0\0")]),
    ] {
        let error = refusal(protocol, script).await;
        assert!(error.contains("has no end"), "{protocol}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_stops_in_the_middle_is_given_its_time_and_no_more() {
    let pair = Ca::new("ca").sign(&["www.example.org"]);
    for (protocol, script) in good() {
        for steps in 0..script.len() {
            let mut script = script[..steps].to_vec();
            script.push(Hang);
            let limit = Duration::from_millis(30);
            let error = look(protocol, script, &pair, limit).await.unwrap_err();
            assert!(matches!(error, ProbeError::Timeout { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn a_server_that_says_it_begins_and_speaks_no_tls_is_told() {
    let pair = Ca::new("ca").sign(&["www.example.org"]);
    let script = vec![
        Say(b"+OK\r\n"),
        Hear(b"STLS\r\n"),
        Say(b"+OK\r\n"),
        // The first byte of the client's handshake.
        Hear(b"\x16"),
        Say(b"-ERR what is that?\r\n"),
        Hang,
    ];
    let error = look(Protocol::Pop3, script, &pair, AMPLE).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("does not speak TLS"), "{error}");
}
