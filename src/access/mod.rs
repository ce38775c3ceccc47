//! Permissions, roles and credentials.

/// The right to do one kind of thing. The names are those of the API's catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Read certificates, versions, orders and deployments.
    CertRead,
    /// Create certificates, renew them, send CSRs.
    CertIssue,
    /// Edit certificates, deploy them again.
    CertEdit,
    /// Revoke certificates.
    CertRevoke,
    /// Put certificates away.
    CertDelete,
    /// Read issuers.
    IssuerRead,
    /// Create issuers.
    IssuerEdit,
    /// Read jobs.
    JobRead,
    /// Cancel jobs.
    JobCancel,
    /// Read targets.
    TargetRead,
    /// Create, edit and test targets.
    TargetEdit,
    /// Delete targets.
    TargetDelete,
    /// Read agents.
    AgentRead,
    /// Make and revoke join tokens.
    AgentEdit,
    /// Retire agents.
    AgentRetire,
    /// Read the audit log.
    AuditRead,
    /// Read metrics.
    MetricsRead,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 17] = [
        Self::CertRead,
        Self::CertIssue,
        Self::CertEdit,
        Self::CertRevoke,
        Self::CertDelete,
        Self::IssuerRead,
        Self::IssuerEdit,
        Self::JobRead,
        Self::JobCancel,
        Self::TargetRead,
        Self::TargetEdit,
        Self::TargetDelete,
        Self::AgentRead,
        Self::AgentEdit,
        Self::AgentRetire,
        Self::AuditRead,
        Self::MetricsRead,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CertRead => "cert.read",
            Self::CertIssue => "cert.issue",
            Self::CertEdit => "cert.edit",
            Self::CertRevoke => "cert.revoke",
            Self::CertDelete => "cert.delete",
            Self::IssuerRead => "issuer.read",
            Self::IssuerEdit => "issuer.edit",
            Self::JobRead => "job.read",
            Self::JobCancel => "job.cancel",
            Self::TargetRead => "target.read",
            Self::TargetEdit => "target.edit",
            Self::TargetDelete => "target.delete",
            Self::AgentRead => "agent.read",
            Self::AgentEdit => "agent.edit",
            Self::AgentRetire => "agent.retire",
            Self::AuditRead => "audit.read",
            Self::MetricsRead => "metrics.read",
        }
    }
}

/// A built-in set of permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May do everything.
    Admin,
    /// Runs the fleet.
    Operator,
    /// Looks.
    Viewer,
    /// Reads the audit log.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::Viewer, Self::Auditor];

    /// The id, e.g. `r-admin`.
    pub fn id(self) -> &'static str {
        match self {
            Self::Admin => "r-admin",
            Self::Operator => "r-operator",
            Self::Viewer => "r-viewer",
            Self::Auditor => "r-auditor",
        }
    }

    /// The role of this id.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.id() == id)
    }

    /// Whether it holds `permission`.
    pub fn allows(self, permission: Permission) -> bool {
        use Permission::{
            AgentRead, AgentRetire, AuditRead, CertRead, IssuerRead, JobRead, MetricsRead,
            TargetRead,
        };
        match self {
            Self::Admin => true,
            Self::Operator => permission != AgentRetire,
            Self::Viewer => matches!(
                permission,
                CertRead | IssuerRead | JobRead | TargetRead | AgentRead | AuditRead | MetricsRead
            ),
            Self::Auditor => matches!(permission, AuditRead),
        }
    }
}
