//! Who can open a bundle.

use super::BackupError;
use crate::crypt::Recipient;
use age::{
    DecryptError, Decryptor, Encryptor,
    secrecy::SecretString,
    stream::{StreamReader, StreamWriter},
};
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use std::io::{self, BufRead, BufReader, Read, Write};
use zeroize::Zeroizing;

/// Begins a bundle that is not encrypted.
const MAGIC: &[u8] = b"certctl-backup/1\n";
/// Begins every age file.
const AGE: &[u8] = b"age-encryption.org/";
/// So many bytes show whether a file begins as a bundle does.
pub const BEGINNING: usize = AGE.len();

/// Whether a file that begins with these bytes begins as a bundle does. That is no proof of it.
pub fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(AGE) || bytes.starts_with(MAGIC)
}

/// scrypt of 2^22 takes 4 GiB and half a minute: nobody is asked for more than that.
const MOST_WORK: u8 = 22;

/// How a bundle is encrypted.
#[derive(Clone)]
pub enum Lock {
    /// Not at all.
    Open,
    /// By a passphrase.
    Passphrase(Zeroizing<String>),
    /// For recipients.
    Recipients(Vec<Recipient>),
}

/// What may open a bundle.
#[derive(Clone, Default)]
pub struct Keys {
    passphrase: Option<Zeroizing<String>>,
    identities: Vec<age::x25519::Identity>,
}

impl Keys {
    /// A passphrase, too.
    #[must_use]
    pub fn passphrase(mut self, passphrase: Zeroizing<String>) -> Self {
        self.passphrase = Some(passphrase);
        self
    }

    /// A passphrase, where there is none yet.
    #[must_use]
    pub fn or_passphrase(mut self, passphrase: Zeroizing<String>) -> Self {
        self.passphrase.get_or_insert(passphrase);
        self
    }

    /// The identities in a text, too: one a line, `AGE-SECRET-KEY-1...`; lines that begin with #
    /// say something else.
    ///
    /// # Errors
    /// When a line is none, or there is none.
    pub fn identities(mut self, text: &str) -> Result<Self, BackupError> {
        let none = BackupError::Locked(
            "the identity file holds another line than AGE-SECRET-KEY-1..., or none of those: name \
             the file that `age-keygen` wrote (a recipient, age1..., opens nothing)",
        );
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let before = self.identities.len();
        for line in lines {
            let Ok(identity) = line.parse() else {
                return Err(none);
            };
            self.identities.push(identity);
        }
        if self.identities.len() == before {
            return Err(none);
        }
        Ok(self)
    }

    /// The identity that a machine derives from its own key, too.
    #[must_use]
    pub fn machine(mut self, secret: &[u8; 32]) -> Self {
        let hrp = bech32::Hrp::parse("age-secret-key-").ok();
        let text = hrp.and_then(|hrp| bech32::encode::<bech32::Bech32>(hrp, secret).ok());
        self.identities
            .extend(text.and_then(|text| Zeroizing::new(text).parse().ok()));
        self
    }

    /// An identity that nobody keeps: by it, whoever makes a bundle for others can read it back.
    pub fn passing() -> Self {
        Self {
            passphrase: None,
            identities: vec![age::x25519::Identity::generate()],
        }
    }

    /// These, and those of another.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.passphrase = self.passphrase.or(other.passphrase);
        self.identities.extend(other.identities);
        self
    }

    /// The recipients of these identities.
    pub fn recipients(&self) -> Vec<Recipient> {
        let identities = self.identities.iter();
        identities.map(|i| i.to_public().into()).collect()
    }
}

fn secret(passphrase: &str) -> SecretString {
    SecretString::from(passphrase.to_owned())
}

/// The bytes of a bundle on their way out.
pub enum Locked<W: Write> {
    Open(Summed<W>),
    Age(StreamWriter<W>),
}

impl<W: Write> Locked<W> {
    pub fn new(lock: &Lock, mut out: W) -> Result<Self, BackupError> {
        let encryptor = match lock {
            Lock::Open => {
                out.write_all(MAGIC)?;
                let mut sum = Context::new(&SHA256);
                sum.update(MAGIC);
                return Ok(Self::Open(Summed { out, sum }));
            }
            Lock::Passphrase(passphrase) => Encryptor::with_user_passphrase(secret(passphrase)),
            Lock::Recipients(all) => {
                let all = all.iter().map(|r| r.age() as &dyn age::Recipient);
                Encryptor::with_recipients(all)
                    .map_err(|e| BackupError::CannotLock(e.to_string()))?
            }
        };
        Ok(Self::Age(encryptor.wrap_output(out)?))
    }

    /// Writes what ends the bundle; without it, it cannot be read.
    pub fn finish(self) -> Result<W, BackupError> {
        match self {
            Self::Open(Summed { mut out, sum }) => {
                out.write_all(sum.finish().as_ref())?;
                Ok(out)
            }
            Self::Age(age) => Ok(age.finish()?),
        }
    }
}

impl<W: Write> Write for Locked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Open(Summed { out, sum }) => {
                out.write_all(bytes)?;
                sum.update(bytes);
                Ok(bytes.len())
            }
            Self::Age(age) => age.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Open(Summed { out, .. }) => out.flush(),
            Self::Age(age) => age.flush(),
        }
    }
}

/// Bytes and the sum of them, which follows them.
pub struct Summed<W> {
    out: W,
    sum: Context,
}

/// The bytes of a bundle on their way in.
pub enum Unlocked<R: Read> {
    Open(Box<Checked<BufReader<R>>>),
    Age(Box<StreamReader<BufReader<R>>>),
}

impl<R: Read> Unlocked<R> {
    pub fn new(keys: &Keys, from: R) -> Result<Self, BackupError> {
        let mut from = BufReader::with_capacity(64 << 10, from);
        let start = from.fill_buf()?;
        if start.starts_with(AGE) {
            return Self::age(keys, from);
        }
        let mut magic = [0; MAGIC.len()];
        match from.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Ok(()) => return Err(BackupError::NoBackup),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(BackupError::NoBackup);
            }
            Err(e) => return Err(e.into()),
        }
        let mut sum = Context::new(&SHA256);
        sum.update(MAGIC);
        Ok(Self::Open(Box::new(Checked {
            from,
            sum: Some(sum),
            ahead: Vec::new(),
        })))
    }

    fn age(keys: &Keys, from: BufReader<R>) -> Result<Self, BackupError> {
        let decryptor = Decryptor::new_buffered(from).map_err(unlock_error)?;
        let reader = if decryptor.is_scrypt() {
            let Some(passphrase) = &keys.passphrase else {
                return Err(BackupError::Locked(
                    "only a passphrase opens it: name its file by --passphrase-file",
                ));
            };
            let mut identity = age::scrypt::Identity::new(secret(passphrase));
            identity.set_max_work_factor(MOST_WORK);
            decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))
        } else {
            let identities = keys.identities.iter();
            decryptor.decrypt(identities.map(|i| i as &dyn age::Identity))
        };
        Ok(Self::Age(Box::new(reader.map_err(unlock_error)?)))
    }
}

fn unlock_error(e: DecryptError) -> BackupError {
    match e {
        DecryptError::NoMatchingKeys => BackupError::Locked(
            "no key at hand opens it: name the file of an identity it was encrypted to by --identity",
        ),
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            BackupError::Locked("the passphrase is another, or its beginning is damaged")
        }
        DecryptError::Io(e) => e.into(),
        e => BackupError::Damaged(e.to_string()),
    }
}

impl<R: Read> Read for Unlocked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Open(checked) => checked.read(into),
            Self::Age(age) => age.read(into),
        }
    }
}

/// Bytes that are followed by their sum, which is looked at when they end.
pub struct Checked<R> {
    from: R,
    /// `None` once it was seen to be right.
    sum: Option<Context>,
    /// Read and not given out: at least as many as a sum has, for they may be it.
    ahead: Vec<u8>,
}

impl<R: BufRead> Read for Checked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.sum.is_none() || into.is_empty() {
            return Ok(0);
        }
        while self.ahead.len() <= SHA256_OUTPUT_LEN {
            let more = self.from.fill_buf()?;
            if more.is_empty() {
                let sum = self.sum.take().map(Context::finish);
                return match sum {
                    Some(sum) if sum.as_ref() == self.ahead => Ok(0),
                    _ => Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "its checksum is another, or it ends too early",
                    )),
                };
            }
            let n = more.len();
            self.ahead.extend_from_slice(more);
            self.from.consume(n);
        }
        let n = into.len().min(self.ahead.len() - SHA256_OUTPUT_LEN);
        let given = into.get_mut(..n).unwrap_or_default();
        given.copy_from_slice(self.ahead.get(..n).unwrap_or_default());
        if let Some(sum) = &mut self.sum {
            sum.update(given);
        }
        self.ahead.drain(..n);
        Ok(n)
    }
}
