//! The version in use with its private key, taken out on the host where the key is.

use super::Paths;
use crate::{
    clock::Rng,
    crypt::PrivateKey,
    id::Id,
    pki::{
        Chain,
        pkcs12::{self, Contents, Protection, Unwritable},
    },
    sys::{FileError, Files},
};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The longest file of a version, in bytes.
const MAX_PEM: usize = 256 << 10;
/// Rounds of PBKDF2: half a second of a processor for each guess at the password.
const ROUNDS: u32 = 600_000;

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no such version on this host.
    #[error(
        "{0} is not there: this agent has deployed no version of the certificate, or keeps its \
         links elsewhere (--live-dir)"
    )]
    Absent(PathBuf),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What a file holds.
    #[error("{0}: {1}")]
    Content(PathBuf, String),
    /// It cannot be written.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
}

/// The version that `live/<certificate>` leads to, with its key, as PKCS#12.
///
/// # Errors
/// When it is not there whole, or the password cannot be one.
pub fn export(
    files: &dyn Files,
    paths: &Paths,
    certificate: &Id,
    password: &str,
    rng: &dyn Rng,
) -> Result<Zeroizing<Vec<u8>>, ExportError> {
    pkcs12::fit(password)?;
    let dir = paths.live.join(certificate.as_str());
    let read = |name: &str| -> Result<(PathBuf, Zeroizing<String>), ExportError> {
        let path = dir.join(name);
        let bytes = match files.read(&path, MAX_PEM) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(e) if e.is_not_found() => return Err(ExportError::Absent(path)),
            Err(e) => return Err(e.into()),
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok((path, Zeroizing::new(text)))
    };
    let (path, chain) = read("fullchain.pem")?;
    let chain = Chain::from_pem(&chain).map_err(|e| ExportError::Content(path, e.to_string()))?;
    let (path, key) = read("privkey.pem")?;
    let content = |says: String| ExportError::Content(path.clone(), says);
    let key = PrivateKey::from_pkcs8_pem(&key).map_err(|e| content(e.to_string()))?;
    if key.public_key() != chain.leaf().public_key() {
        // Between two reads another version took the place.
        let says = "it is not the key of fullchain.pem: a deployment is going on, try again";
        return Err(content(says.into()));
    }
    let mut seed = [0; 96];
    rng.fill(&mut seed);
    let contents = Contents {
        name: certificate.as_str(),
        chain: &chain,
        key_pkcs8: Some(key.pkcs8_der()),
    };
    let protection = Protection {
        password,
        rounds: ROUNDS,
        seed,
    };
    Ok(Zeroizing::new(pkcs12::write(&contents, &protection)?))
}
