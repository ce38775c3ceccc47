//! The catalogue of permissions, and sets of them.

use serde::{Deserialize, Serialize};
use std::{fmt, ops::BitOr, str::FromStr};

/// Writes the enum, the catalogue in its order, and the names from one table.
macro_rules! catalogue {
    ($($(#[$about:meta])* $variant:ident = $name:literal,)+) => {
        /// The right to do one kind of thing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&str")]
        pub enum Permission {
            $($(#[$about])* $variant,)+
        }

        impl Permission {
            /// Every permission, in the order of the catalogue.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name on the wire, e.g. `cert.read`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

catalogue! {
    /// Read certificates, versions, orders and deployments; export them.
    CertRead = "cert.read",
    /// Create certificates, renew them, send CSRs.
    CertIssue = "cert.issue",
    /// Edit certificates, deploy them again.
    CertEdit = "cert.edit",
    /// Revoke certificates.
    CertRevoke = "cert.revoke",
    /// Put certificates away.
    CertDelete = "cert.delete",
    /// Revoke many certificates in one call.
    CertBulkRevoke = "cert.bulk_revoke",
    /// Read profiles.
    ProfileRead = "profile.read",
    /// Create and edit profiles.
    ProfileEdit = "profile.edit",
    /// Delete profiles.
    ProfileDelete = "profile.delete",
    /// Read issuers.
    IssuerRead = "issuer.read",
    /// Create, edit and test issuers.
    IssuerEdit = "issuer.edit",
    /// Delete issuers.
    IssuerDelete = "issuer.delete",
    /// Read targets.
    TargetRead = "target.read",
    /// Create, edit and test targets.
    TargetEdit = "target.edit",
    /// Delete targets.
    TargetDelete = "target.delete",
    /// Read agents and join tokens.
    AgentRead = "agent.read",
    /// Make and revoke join tokens, edit agents and agent groups.
    AgentEdit = "agent.edit",
    /// Retire agents.
    AgentRetire = "agent.retire",
    /// Say that an agent lives.
    AgentHeartbeat = "agent.heartbeat",
    /// Fetch an agent's work, send its CSRs.
    AgentJobPoll = "agent.job.poll",
    /// Say how an agent's job ended.
    AgentJobComplete = "agent.job.complete",
    /// Report on an agent's job.
    AgentJobReport = "agent.job.report",
    /// Read the audit log.
    AuditRead = "audit.read",
    /// Export the audit log.
    AuditExport = "audit.export",
    /// Read policy rules and renewal policies.
    PolicyRead = "policy.read",
    /// Create and edit policy rules and renewal policies.
    PolicyEdit = "policy.edit",
    /// Delete policy rules and renewal policies.
    PolicyDelete = "policy.delete",
    /// Read teams.
    TeamRead = "team.read",
    /// Create and edit teams.
    TeamEdit = "team.edit",
    /// Delete teams.
    TeamDelete = "team.delete",
    /// Read owners.
    OwnerRead = "owner.read",
    /// Create and edit owners.
    OwnerEdit = "owner.edit",
    /// Delete owners.
    OwnerDelete = "owner.delete",
    /// Read roles.
    AuthRoleList = "auth.role.list",
    /// Make roles.
    AuthRoleCreate = "auth.role.create",
    /// Edit roles of one's own making.
    AuthRoleEdit = "auth.role.edit",
    /// Delete roles of one's own making.
    AuthRoleDelete = "auth.role.delete",
    /// Grant roles to keys.
    AuthRoleAssign = "auth.role.assign",
    /// Take roles from keys.
    AuthRoleRevoke = "auth.role.revoke",
    /// Read who holds keys.
    AuthKeyList = "auth.key.list",
    /// Make keys.
    AuthKeyCreate = "auth.key.create",
    /// Give keys a new secret.
    AuthKeyRotate = "auth.key.rotate",
    /// End keys.
    AuthKeyDelete = "auth.key.delete",
    /// Make the first administrator.
    AuthBootstrapUse = "auth.bootstrap.use",
    /// Read browser sessions.
    AuthSessionList = "auth.session.list",
    /// Read the browser sessions of others.
    AuthSessionListAll = "auth.session.list.all",
    /// End the browser sessions of others.
    AuthSessionRevoke = "auth.session.revoke",
    /// Read identity providers.
    AuthOidcList = "auth.oidc.list",
    /// Connect identity providers.
    AuthOidcCreate = "auth.oidc.create",
    /// Edit identity providers and their mappings.
    AuthOidcEdit = "auth.oidc.edit",
    /// Delete identity providers.
    AuthOidcDelete = "auth.oidc.delete",
    /// Manage emergency passwords.
    AuthBreakglassAdmin = "auth.breakglass.admin",
    /// Sign in with an emergency password.
    AuthBreakglassLogin = "auth.breakglass.login",
    /// Read who signs in by an identity provider.
    AuthUserRead = "auth.user.read",
    /// Shut out who signs in by an identity provider.
    AuthUserDeactivate = "auth.user.deactivate",
    /// See how revocation lists are made.
    CrlAdmin = "crl.admin",
    /// See and reload the SCEP server.
    ScepAdmin = "scep.admin",
    /// See and reload the EST server.
    EstAdmin = "est.admin",
    /// Manage the CAs whose keys the server holds.
    CaHierarchyManage = "ca.hierarchy.manage",
    /// Read jobs.
    JobRead = "job.read",
    /// Cancel jobs.
    JobCancel = "job.cancel",
    /// Read requests for approval.
    ApprovalRead = "approval.read",
    /// Approve what waits for it.
    ApprovalApprove = "approval.approve",
    /// Refuse what waits for approval.
    ApprovalReject = "approval.reject",
    /// Read notifications.
    NotificationRead = "notification.read",
    /// Edit notifications.
    NotificationEdit = "notification.edit",
    /// Read what discovery found.
    DiscoveryRead = "discovery.read",
    /// Hand in what discovery found.
    DiscoveryRun = "discovery.run",
    /// Take found certificates under management, or dismiss them.
    DiscoveryClaim = "discovery.claim",
    /// Read network scans.
    NetworkScanRead = "network_scan.read",
    /// Create, edit and delete network scans.
    NetworkScanEdit = "network_scan.edit",
    /// Run network scans.
    NetworkScanRun = "network_scan.run",
    /// Read health checks.
    HealthcheckRead = "healthcheck.read",
    /// Create and edit health checks.
    HealthcheckEdit = "healthcheck.edit",
    /// Delete health checks.
    HealthcheckDelete = "healthcheck.delete",
    /// Acknowledge failing health checks.
    HealthcheckAcknowledge = "healthcheck.acknowledge",
    /// Read the digest.
    DigestRead = "digest.read",
    /// Send the digest.
    DigestSend = "digest.send",
    /// Read how deployments were verified.
    VerificationRead = "verification.read",
    /// Report how a deployment was verified.
    VerificationRun = "verification.run",
    /// Read statistics.
    StatsRead = "stats.read",
    /// Read metrics.
    MetricsRead = "metrics.read",
    /// See which backups there are, and how a restore stands.
    BackupRead = "backup.read",
    /// Make backups, which hold every secret; let a restored server act.
    BackupRun = "backup.run",
    /// Have the whole installation looked at.
    DoctorRun = "doctor.run",
    /// See the keys that seal secrets, make new ones, and seal anew.
    SecretsRotate = "secrets.rotate",
}

impl Permission {
    /// What it is a permission on: the name up to its last dot. `auth.session.list.all` stands
    /// beside `auth.session.list`.
    pub fn namespace(self) -> &'static str {
        let name = match self {
            Self::AuthSessionListAll => Self::AuthSessionList.as_str(),
            one => one.as_str(),
        };
        name.rsplit_once('.')
            .map_or(name, |(namespace, _)| namespace)
    }

    const fn bit(self) -> u128 {
        1 << self as u32
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no permission.
#[derive(Debug, Clone, thiserror::Error)]
#[error("there is no permission {0:?}: `certctl roles permissions` lists them")]
pub struct UnknownPermission(String);

impl FromStr for Permission {
    type Err = UnknownPermission;
    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        let named = Self::ALL.into_iter().find(|p| p.as_str() == text);
        named.ok_or_else(|| UnknownPermission(text.chars().take(64).collect()))
    }
}

impl TryFrom<String> for Permission {
    type Error = UnknownPermission;
    fn try_from(text: String) -> Result<Self, UnknownPermission> {
        text.parse()
    }
}

impl From<Permission> for &str {
    fn from(permission: Permission) -> Self {
        permission.as_str()
    }
}

/// A set of permissions.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u128);

impl Permissions {
    /// No permission.
    pub const NONE: Self = Self(0);
    /// Every permission.
    pub const ALL: Self = Self::of(&Permission::ALL);

    /// These permissions.
    pub const fn of(permissions: &[Permission]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < permissions.len() {
            bits |= permissions[i].bit();
            i += 1;
        }
        Self(bits)
    }

    /// Whether `permission` is one of them.
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// Those of them that `others` does not hold.
    #[must_use]
    pub const fn beyond(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each, in the order of the catalogue.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        let all = Permission::ALL.into_iter();
        all.filter(move |permission| self.contains(*permission))
    }
}

impl BitOr for Permissions {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        let bits = permissions.into_iter().map(Permission::bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(Permission::as_str))
            .finish()
    }
}
