//! What is said in the clear before TLS begins, by the protocols that begin so.

use std::{fmt, io, str::FromStr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How TLS begins on an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// At once.
    #[default]
    Tls,
    /// By `STARTTLS` in SMTP (RFC 3207).
    Smtp,
    /// By `STARTTLS` in IMAP (RFC 2595, section 3).
    Imap,
    /// By `STLS` in POP3 (RFC 2595, section 4).
    Pop3,
    /// By PostgreSQL's `SSLRequest` (its manual, "Message Flow").
    Postgres,
}

/// The protocols as they are written before `://`.
const NAMES: [(Protocol, &str); 5] = [
    (Protocol::Tls, "tls"),
    (Protocol::Smtp, "smtp"),
    (Protocol::Imap, "imap"),
    (Protocol::Pop3, "pop3"),
    (Protocol::Postgres, "postgres"),
];

/// A word that names no protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownProtocol;

impl FromStr for Protocol {
    type Err = UnknownProtocol;
    fn from_str(s: &str) -> Result<Self, UnknownProtocol> {
        let named = NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(s));
        named.map(|(protocol, _)| *protocol).ok_or(UnknownProtocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(protocol, _)| protocol == self);
        f.write_str(name.map_or("tls", |(_, name)| name))
    }
}

/// The longest line a server may write, in bytes.
const LINE: usize = 4_096;
/// The most lines of one answer.
const LINES: usize = 128;
/// Characters of an answer that an error repeats.
const TOLD: usize = 200;
/// What we call ourselves to a mail server; it need not resolve.
const CALLER: &str = "certctl.internal";
/// Length and code of PostgreSQL's `SSLRequest`: 8, 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Why a peer did not begin TLS.
#[derive(Debug)]
pub(super) struct Unbegun {
    /// What it answered instead, and what to do.
    pub reason: String,
    /// The connection ended: it may begin the next time.
    pub cut: bool,
}

impl From<String> for Unbegun {
    fn from(reason: String) -> Self {
        let cut = false;
        Self { reason, cut }
    }
}

impl From<&str> for Unbegun {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

impl Protocol {
    /// Says what is to be said before the handshake. Whatever the server wrote beyond that is
    /// refused: somebody on the way may have put it there to have it read as if it came by TLS
    /// (CVE-2011-0411, CVE-2021-23222).
    ///
    /// # Errors
    /// What the server answered instead, and what to do.
    pub(super) async fn begin(self, stream: &mut TcpStream) -> Result<(), Unbegun> {
        let mut talk = Talk {
            stream,
            read: Vec::new(),
        };
        match self {
            Self::Tls => return Ok(()),
            Self::Smtp => talk.smtp().await?,
            Self::Imap => talk.imap().await?,
            Self::Pop3 => talk.pop3().await?,
            Self::Postgres => talk.postgres().await?,
        }
        let early =
            !talk.read.is_empty() || matches!(talk.stream.try_read(&mut [0]), Ok(n) if n > 0);
        if early {
            return Err(
                "it wrote more in the clear than its leave to begin TLS: somebody on the \
                        way may have added that; check the network between"
                    .into(),
            );
        }
        Ok(())
    }
}

/// A conversation in the clear.
struct Talk<'a> {
    stream: &'a mut TcpStream,
    /// Received and not looked at yet.
    read: Vec<u8>,
}

impl Talk<'_> {
    async fn smtp(&mut self) -> Result<(), Unbegun> {
        self.reply("220", "on connecting").await?;
        self.say(&format!("EHLO {CALLER}")).await?;
        let offers = self.reply("250", "EHLO").await?;
        let offered = |line: &String| line.get(4..).is_some_and(|w| is(w.trim(), "STARTTLS"));
        if !offers.iter().any(offered) {
            return Err("it does not offer STARTTLS; enable TLS on the server".into());
        }
        self.say("STARTTLS").await?;
        self.reply("220", "STARTTLS").await.map(drop)
    }

    /// The lines of one reply (RFC 5321, section 4.2.1), which must have this code.
    async fn reply(&mut self, code: &str, to: &str) -> Result<Vec<String>, Unbegun> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            let more = match line.strip_prefix(code).map(|rest| rest.bytes().next()) {
                Some(Some(b'-')) => true,
                Some(None | Some(b' ')) => false,
                _ => return Err(unexpected(&line, to)),
            };
            lines.push(line);
            if !more {
                return Ok(lines);
            }
            if lines.len() == LINES {
                return Err(endless());
            }
        }
    }

    async fn imap(&mut self) -> Result<(), Unbegun> {
        let greeting = self.line().await?;
        if !starts(&greeting, "* OK") {
            return Err(unexpected(&greeting, "on connecting"));
        }
        self.say("a STARTTLS").await?;
        for _ in 0..LINES {
            let line = self.line().await?;
            if starts(&line, "a OK") {
                return Ok(());
            }
            if !line.starts_with("* ") || starts(&line, "* BYE") {
                return Err(unexpected(&line, "STARTTLS"));
            }
        }
        Err(endless())
    }

    async fn pop3(&mut self) -> Result<(), Unbegun> {
        for to in ["on connecting", "STLS"] {
            if to == "STLS" {
                self.say(to).await?;
            }
            let line = self.line().await?;
            if !starts(&line, "+OK") {
                return Err(unexpected(&line, to));
            }
        }
        Ok(())
    }

    async fn postgres(&mut self) -> Result<(), Unbegun> {
        self.write(&SSL_REQUEST).await?;
        self.receive().await?;
        match self.read.remove(0) {
            b'S' => Ok(()),
            b'N' => Err("it has TLS switched off; set `ssl = on` in its postgresql.conf".into()),
            other => Err(unexpected(
                &char::from(other).escape_default().to_string(),
                "SSLRequest",
            )),
        }
    }

    async fn say(&mut self, line: &str) -> Result<(), Unbegun> {
        if !self.read.is_empty() {
            return Err("it answers before it is asked; check the port".into());
        }
        self.write(format!("{line}\r\n").as_bytes()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Unbegun> {
        self.stream.write_all(bytes).await.map_err(|e| broken(&e))
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<String, Unbegun> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.read.len() >= LINE {
                return Err(endless());
            }
            self.receive().await?;
        }
    }

    /// Waits for some more, at most a line's length.
    async fn receive(&mut self) -> Result<(), Unbegun> {
        let mut some = [0; LINE];
        match self.stream.read(&mut some).await {
            Ok(0) => Err(Unbegun {
                reason: "it closed the connection before TLS began; check the port".into(),
                cut: true,
            }),
            Ok(n) => {
                self.read.extend_from_slice(&some[..n]);
                Ok(())
            }
            Err(e) => Err(broken(&e)),
        }
    }
}

fn is(word: &str, expected: &str) -> bool {
    word.eq_ignore_ascii_case(expected)
}

/// Whether a line is these words, or they and more.
fn starts(line: &str, words: &str) -> bool {
    let (head, rest) = match line.split_at_checked(words.len()) {
        Some(parts) => parts,
        None => return false,
    };
    is(head, words) && (rest.is_empty() || rest.starts_with(' '))
}

fn unexpected(line: &str, to: &str) -> Unbegun {
    let said: String = line
        .chars()
        .take(TOLD)
        .flat_map(char::escape_debug)
        .collect();
    let when = match to {
        "on connecting" => to.to_owned(),
        command => format!("to {command}"),
    };
    format!("it answered \"{said}\" {when}; check the port and that TLS is enabled on the server")
        .into()
}

fn endless() -> Unbegun {
    "its answer before TLS has no end; check the port".into()
}

fn broken(error: &io::Error) -> Unbegun {
    Unbegun {
        reason: format!("the connection broke before TLS began: {error}"),
        cut: true,
    }
}
