//! Issuers on the wire.

use super::{Edits, Ignored};
use crate::app::IssuerView;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// An issuer to make. Has no `Debug`: the key must not reach a log.
#[derive(Deserialize, ToSchema)]
pub struct IssuerNew {
    /// Its id; made when absent.
    #[serde(default)]
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// `GenericCA`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The CA: to be made, or with `ca_cert_pem` and `ca_key_pem` one that is brought in.
    pub config: IssuerConfigNew,
    /// A new issuer may be asked, whatever this says.
    #[serde(default, skip_serializing)]
    #[schema(ignore)]
    pub enabled: Ignored,
}

/// The CA to make or to bring in.
#[derive(Deserialize, ToSchema)]
pub struct IssuerConfigNew {
    /// The CA's certificate, then those above it, PEM.
    #[serde(default)]
    pub ca_cert_pem: String,
    /// The CA's private key, PEM.
    #[serde(default)]
    pub ca_key_pem: String,
    /// The passphrase of an encrypted key.
    #[serde(default)]
    pub ca_key_passphrase: Option<String>,
    /// Not taken.
    #[serde(default)]
    pub ca_cert_path: Option<String>,
    /// Not taken.
    #[serde(default)]
    pub ca_key_path: Option<String>,
    /// What a CA that is made is called; the issuer's name when absent.
    #[serde(default)]
    pub ca_common_name: Option<String>,
    /// The kind of the keys that are made; `ECDSA-P256` when absent.
    #[serde(default)]
    pub key_algorithm: Option<String>,
    /// How long the issuing CA that is made lasts; 1825 when absent.
    #[serde(default, deserialize_with = "days")]
    pub validity_days: Option<u32>,
    /// How long its root lasts; 3650 when absent.
    #[serde(default, deserialize_with = "days")]
    pub root_validity_days: Option<u32>,
    /// DNS names under which it may certify; all when absent.
    #[serde(default)]
    pub permitted_names: Vec<String>,
    /// DNS names under which it may not.
    #[serde(default)]
    pub excluded_names: Vec<String>,
}

/// A number of days, also as a text: forms send texts.
fn days<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Days {
        Number(u32),
        Text(String),
    }
    match Option::<Days>::deserialize(d)? {
        None => Ok(None),
        Some(Days::Number(n)) => Ok(Some(n)),
        Some(Days::Text(text)) if text.is_empty() => Ok(None),
        Some(Days::Text(text)) => match text.parse() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(D::Error::custom("a number of days is expected")),
        },
    }
}

/// What is to change of an issuer; what is absent stays.
#[derive(Deserialize, ToSchema)]
pub struct IssuerChange {
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Its type, which does not change.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Whether it may be asked.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Its configuration, as it is shown: a CA does not change.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub config: Option<Map<String, Value>>,
}

impl Edits for IssuerChange {
    type Resource = IssuerShape;
}

/// An issuer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Issuer)]
pub struct IssuerShape {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The CA that signs.
    pub config: IssuerConfigShape,
    /// Whether it may be asked.
    pub enabled: bool,
    /// `database`.
    pub source: String,
    /// `untested`, `success` or `failed`.
    pub test_status: String,
    /// When it was last tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub last_tested_at: Option<String>,
    /// What the last test found wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_error: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last edited.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// The CA that signs for an issuer. Its key is not shown.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = IssuerConfig)]
pub struct IssuerConfigShape {
    /// The CA's subject.
    pub ca_common_name: String,
    /// The CA node, part of the address of its revocation list.
    pub ca_node: String,
    /// The CA's certificate, PEM.
    pub ca_cert_pem: String,
    /// Always `********`.
    pub ca_key_pem: String,
    /// The kind of its key.
    pub key_algorithm: String,
    /// SHA-256 of its certificate, lower hex.
    pub fingerprint_sha256: String,
    /// Its end.
    #[schema(format = DateTime)]
    pub expires_at: String,
}

impl From<&IssuerView> for IssuerShape {
    fn from(view: &IssuerView) -> Self {
        let (issuer, ca) = (&view.issuer, &view.certificate);
        let test = view.test.as_ref();
        let test_error = test.and_then(|test| test.fault.clone());
        let test_status = match (test, &test_error) {
            (None, _) => "untested",
            (Some(_), None) => "success",
            (Some(_), Some(_)) => "failed",
        };
        Self {
            id: issuer.id.to_string(),
            name: issuer.name.clone(),
            kind: "GenericCA".into(),
            config: IssuerConfigShape {
                ca_common_name: ca.subject().to_owned(),
                ca_node: view.node.to_string(),
                ca_cert_pem: ca.pem(),
                ca_key_pem: "********".into(),
                key_algorithm: ca.key_algorithm().to_string(),
                fingerprint_sha256: ca.fingerprint_sha256().to_owned(),
                expires_at: ca.not_after().to_string(),
            },
            enabled: issuer.enabled,
            source: "database".into(),
            test_status: test_status.into(),
            last_tested_at: test.map(|test| test.at.to_string()),
            test_error,
            created_at: issuer.created_at.to_string(),
            updated_at: issuer.updated_at.to_string(),
        }
    }
}
