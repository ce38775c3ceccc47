//! The built-in roles.

use super::{Permission, Permissions};

/// A built-in role. It is part of the program: it cannot be edited or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May do everything.
    Admin,
    /// Runs the fleet: everything but access, deletion of profiles and issuers, and retirement.
    Operator,
    /// Reads everything but access.
    Viewer,
    /// What a foreign agent needs that calls with a key.
    Agent,
    /// What a client of the model context protocol may do.
    Mcp,
    /// What scripts and the command line may do; makes and rotates keys.
    Cli,
    /// Reads and exports the audit log.
    Auditor,
}

impl Role {
    /// Every built-in role.
    pub const ALL: [Self; 7] = [
        Self::Admin,
        Self::Operator,
        Self::Viewer,
        Self::Agent,
        Self::Mcp,
        Self::Cli,
        Self::Auditor,
    ];

    /// The id, e.g. `r-admin`.
    pub const fn id(self) -> &'static str {
        self.row().0
    }

    /// The name, e.g. `admin`.
    pub fn name(self) -> &'static str {
        self.id().trim_start_matches("r-")
    }

    /// What it is for.
    pub const fn about(self) -> &'static str {
        self.row().1
    }

    /// What it holds, everywhere.
    pub const fn permissions(self) -> Permissions {
        self.row().2
    }

    /// The role of this id.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.id() == id)
    }

    /// The role of this id or name.
    pub fn of_text(text: &str) -> Option<Self> {
        Self::of_id(text).or_else(|| Self::ALL.into_iter().find(|r| r.name() == text))
    }

    /// Whether it holds `permission`.
    pub const fn allows(self, permission: Permission) -> bool {
        self.permissions().contains(permission)
    }

    const fn row(self) -> Row {
        match self {
            Self::Admin => ("r-admin", "May do everything.", Permissions::ALL),
            Self::Operator => (
                "r-operator",
                "Runs the fleet: everything but access, deletion of profiles and issuers, and retirement.",
                OPERATOR,
            ),
            Self::Viewer => ("r-viewer", "Reads everything but access.", VIEWER),
            Self::Agent => (
                "r-agent",
                "What a foreign agent needs that calls with a key.",
                AGENT,
            ),
            Self::Mcp => (
                "r-mcp",
                "What a client of the model context protocol may do.",
                MCP,
            ),
            Self::Cli => (
                "r-cli",
                "What scripts and the command line may do; makes and rotates keys.",
                CLI,
            ),
            Self::Auditor => ("r-auditor", "Reads and exports the audit log.", AUDITOR),
        }
    }
}

/// Id, what it is for, what it holds.
type Row = (&'static str, &'static str, Permissions);

const OPERATOR: Permissions = {
    use Permission::*;
    Permissions::of(&[
        CertRead,
        CertIssue,
        CertEdit,
        CertRevoke,
        CertDelete,
        ProfileRead,
        ProfileEdit,
        IssuerRead,
        IssuerEdit,
        TargetRead,
        TargetEdit,
        TargetDelete,
        AgentRead,
        AgentEdit,
        AuditRead,
        AuthUserRead,
        JobRead,
        JobCancel,
        ApprovalRead,
        ApprovalApprove,
        ApprovalReject,
        PolicyRead,
        PolicyEdit,
        PolicyDelete,
        TeamRead,
        TeamEdit,
        TeamDelete,
        OwnerRead,
        OwnerEdit,
        OwnerDelete,
        NotificationRead,
        NotificationEdit,
        DiscoveryRead,
        DiscoveryRun,
        DiscoveryClaim,
        NetworkScanRead,
        NetworkScanEdit,
        NetworkScanRun,
        HealthcheckRead,
        HealthcheckEdit,
        HealthcheckDelete,
        HealthcheckAcknowledge,
        DigestRead,
        DigestSend,
        VerificationRead,
        VerificationRun,
        StatsRead,
        MetricsRead,
        BackupRead,
        DoctorRun,
    ])
};
const VIEWER: Permissions = {
    use Permission::*;
    Permissions::of(&[
        CertRead,
        ProfileRead,
        IssuerRead,
        TargetRead,
        AgentRead,
        AuditRead,
        JobRead,
        ApprovalRead,
        PolicyRead,
        TeamRead,
        OwnerRead,
        NotificationRead,
        DiscoveryRead,
        NetworkScanRead,
        HealthcheckRead,
        DigestRead,
        VerificationRead,
        StatsRead,
        MetricsRead,
        BackupRead,
    ])
};
const AGENT: Permissions = {
    use Permission::*;
    Permissions::of(&[
        CertRead,
        AgentHeartbeat,
        AgentJobPoll,
        AgentJobComplete,
        AgentJobReport,
        DiscoveryRun,
        VerificationRun,
    ])
};
const MCP: Permissions = {
    use Permission::*;
    Permissions::of(&[
        CertRead,
        CertIssue,
        CertEdit,
        CertRevoke,
        ProfileRead,
        ProfileEdit,
        IssuerRead,
        IssuerEdit,
        TargetRead,
        TargetEdit,
        AgentRead,
        AuditRead,
        JobRead,
        JobCancel,
        ApprovalRead,
        ApprovalApprove,
        ApprovalReject,
        PolicyRead,
        TeamRead,
        OwnerRead,
        NotificationRead,
        NotificationEdit,
        DiscoveryRead,
        DiscoveryClaim,
        NetworkScanRead,
        NetworkScanRun,
        HealthcheckRead,
        HealthcheckAcknowledge,
        DigestRead,
        VerificationRead,
        VerificationRun,
        StatsRead,
        MetricsRead,
    ])
};
const CLI: Permissions = {
    use Permission::*;
    Permissions::of(&[
        CertRead,
        CertIssue,
        CertEdit,
        CertRevoke,
        CertDelete,
        ProfileRead,
        ProfileEdit,
        IssuerRead,
        IssuerEdit,
        TargetRead,
        TargetEdit,
        TargetDelete,
        AgentRead,
        AgentEdit,
        AuditRead,
        AuthKeyList,
        AuthKeyCreate,
        AuthKeyRotate,
        JobRead,
        JobCancel,
        ApprovalRead,
        ApprovalApprove,
        ApprovalReject,
        PolicyRead,
        PolicyEdit,
        PolicyDelete,
        TeamRead,
        TeamEdit,
        OwnerRead,
        OwnerEdit,
        NotificationRead,
        NotificationEdit,
        DiscoveryRead,
        DiscoveryRun,
        DiscoveryClaim,
        NetworkScanRead,
        NetworkScanEdit,
        NetworkScanRun,
        HealthcheckRead,
        HealthcheckEdit,
        HealthcheckAcknowledge,
        DigestRead,
        DigestSend,
        VerificationRead,
        VerificationRun,
        StatsRead,
        MetricsRead,
        BackupRead,
        DoctorRun,
    ])
};
const AUDITOR: Permissions = {
    use Permission::*;
    Permissions::of(&[AuditRead, AuditExport, AuthUserRead])
};
