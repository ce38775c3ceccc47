//! Who may call what: one table of all routes, against every kind of caller.

use super::routes;
use crate::support::{Call, DAY, HOUR, TestAgent, TestApp, text};
use certctl::{
    access::{Permission, Permissions, Role},
    agent::protocol::WorkItem,
    app::Browser,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// Anyone.
    Open,
    /// Anyone with a credential.
    Known,
    /// Whoever holds this permission.
    Needs(Permission),
    /// The agent named in the path.
    ThatAgent,
}

use Door::{Known, Needs, Open, ThatAgent};
use Permission::*;

/// Every route: who is let in, and what the right caller is answered.
#[rustfmt::skip]
const ROUTES: &[(&str, Door, u16)] = &[
    ("GET /health", Open, 200),
    ("GET /ready", Open, 200),
    ("GET /api/v1/openapi.json", Open, 200),
    ("GET /api/v1/certificates", Needs(CertRead), 200),
    ("POST /api/v1/certificates", Needs(CertIssue), 201),
    ("GET /api/v1/certificates/{id}", Needs(CertRead), 200),
    ("GET /api/v1/certificates/{id}/versions", Needs(CertRead), 200),
    ("POST /api/v1/certificates/{id}/versions", Needs(CertIssue), 201),
    ("GET /api/v1/certificates/{id}/deployments", Needs(CertRead), 200),
    ("GET /api/v1/certificates/{id}/served", Needs(CertRead), 200),
    ("POST /api/v1/certificates/{id}/check", Needs(CertRead), 200),
    ("POST /api/v1/certificates/{id}/renew", Needs(CertIssue), 202),
    ("DELETE /api/v1/certificates/{id}", Needs(CertDelete), 204),
    ("POST /api/v1/certificates/{id}/revoke", Needs(CertRevoke), 200),
    ("GET /api/v1/certificates/{id}/export/pem", Needs(CertRead), 200),
    ("PUT /api/v1/certificates/{id}", Needs(CertEdit), 200),
    ("GET /api/v1/profiles", Needs(ProfileRead), 200),
    ("POST /api/v1/profiles", Needs(ProfileEdit), 201),
    ("GET /api/v1/profiles/{id}", Needs(ProfileRead), 200),
    ("PUT /api/v1/profiles/{id}", Needs(ProfileEdit), 200),
    ("DELETE /api/v1/profiles/{id}", Needs(ProfileDelete), 204),
    ("GET /api/v1/renewal-policies", Needs(PolicyRead), 200),
    ("POST /api/v1/renewal-policies", Needs(PolicyEdit), 201),
    ("GET /api/v1/renewal-policies/{id}", Needs(PolicyRead), 200),
    ("PUT /api/v1/renewal-policies/{id}", Needs(PolicyEdit), 200),
    ("DELETE /api/v1/renewal-policies/{id}", Needs(PolicyDelete), 204),
    ("GET /api/v1/policies", Needs(PolicyRead), 200),
    ("POST /api/v1/policies", Needs(PolicyEdit), 201),
    ("GET /api/v1/policies/{id}", Needs(PolicyRead), 200),
    ("PUT /api/v1/policies/{id}", Needs(PolicyEdit), 200),
    ("DELETE /api/v1/policies/{id}", Needs(PolicyDelete), 204),
    ("GET /api/v1/owners", Needs(OwnerRead), 200),
    ("POST /api/v1/owners", Needs(OwnerEdit), 201),
    ("GET /api/v1/owners/{id}", Needs(OwnerRead), 200),
    ("PUT /api/v1/owners/{id}", Needs(OwnerEdit), 200),
    ("DELETE /api/v1/owners/{id}", Needs(OwnerDelete), 204),
    ("GET /api/v1/teams", Needs(TeamRead), 200),
    ("POST /api/v1/teams", Needs(TeamEdit), 201),
    ("GET /api/v1/teams/{id}", Needs(TeamRead), 200),
    ("PUT /api/v1/teams/{id}", Needs(TeamEdit), 200),
    ("DELETE /api/v1/teams/{id}", Needs(TeamDelete), 204),
    ("GET /api/v1/policies/{id}/violations", Needs(PolicyRead), 200),
    ("POST /api/v1/certificates/{id}/export/pkcs12", Needs(CertRead), 200),
    ("GET /api/v1/issuers", Needs(IssuerRead), 200),
    ("POST /api/v1/issuers", Needs(IssuerEdit), 201),
    ("GET /api/v1/issuers/{id}", Needs(IssuerRead), 200),
    ("PUT /api/v1/issuers/{id}", Needs(IssuerEdit), 200),
    ("DELETE /api/v1/issuers/{id}", Needs(IssuerDelete), 204),
    ("POST /api/v1/issuers/{id}/test", Needs(IssuerEdit), 200),
    ("GET /.well-known/pki/crl/{ca}", Open, 200),
    ("GET /.well-known/pki/crl/{ca}/{shard}", Open, 200),
    ("GET /.well-known/pki/ca/{file}", Open, 200),
    ("POST /api/v1/certificates/{id}/deploy", Needs(CertEdit), 202),
    ("GET /api/v1/orders/{id}", Needs(CertRead), 200),
    ("GET /api/v1/jobs", Needs(JobRead), 200),
    ("GET /api/v1/jobs/{id}", Needs(JobRead), 200),
    ("POST /api/v1/jobs/{id}/cancel", Needs(JobCancel), 202),
    ("GET /api/v1/targets", Needs(TargetRead), 200),
    ("POST /api/v1/targets", Needs(TargetEdit), 201),
    ("GET /api/v1/targets/{id}", Needs(TargetRead), 200),
    ("PUT /api/v1/targets/{id}", Needs(TargetEdit), 200),
    ("DELETE /api/v1/targets/{id}", Needs(TargetDelete), 204),
    ("POST /api/v1/targets/{id}/test", Needs(TargetEdit), 202),
    ("GET /api/v1/agents/tokens", Needs(AgentRead), 200),
    ("POST /api/v1/agents/tokens", Needs(AgentEdit), 201),
    ("GET /api/v1/agents/tokens/{id}", Needs(AgentRead), 200),
    ("DELETE /api/v1/agents/tokens/{id}", Needs(AgentEdit), 204),
    ("GET /api/v1/agents", Needs(AgentRead), 200),
    ("GET /api/v1/agents/retired", Needs(AgentRead), 200),
    ("GET /api/v1/agents/{id}", Needs(AgentRead), 200),
    ("DELETE /api/v1/agents/{id}", Needs(AgentRetire), 200),
    ("POST /api/v1/agents/{id}/retire", Needs(AgentRetire), 200),
    ("GET /api/v1/agents/{id}/ping", ThatAgent, 200),
    ("POST /api/v1/agents/{id}/credential", ThatAgent, 204),
    ("POST /api/v1/agents/enrol", Open, 201),
    ("GET /api/v1/agents/{id}/work", ThatAgent, 200),
    ("POST /api/v1/agents/{id}/observations", ThatAgent, 200),
    ("POST /api/v1/agents/{id}/jobs/{job}/lease", ThatAgent, 200),
    ("POST /api/v1/agents/{id}/jobs/{job}/csr", ThatAgent, 202),
    ("POST /api/v1/agents/{id}/jobs/{job}/report", ThatAgent, 200),
    ("GET /api/v1/audit", Needs(AuditRead), 200),
    ("GET /api/v1/version", Open, 200),
    ("GET /api/v1/auth/info", Open, 200),
    ("GET /api/v1/auth/check", Known, 200),
    ("GET /api/v1/auth/me", Known, 200),
    ("GET /api/v1/auth/permissions", Known, 200),
    ("GET /api/v1/auth/sessions", Known, 200),
    ("DELETE /api/v1/auth/sessions", Known, 200),
    ("DELETE /api/v1/auth/sessions/{id}", Needs(AuthSessionRevoke), 204),
    ("GET /api/v1/auth/keys", Needs(AuthKeyList), 200),
    ("POST /api/v1/auth/keys", Needs(AuthKeyCreate), 201),
    ("GET /api/v1/auth/keys/{id}", Needs(AuthKeyList), 200),
    ("DELETE /api/v1/auth/keys/{id}", Needs(AuthKeyDelete), 204),
    ("POST /api/v1/auth/keys/{id}/rotate", Needs(AuthKeyRotate), 200),
    ("POST /api/v1/auth/keys/{id}/roles", Needs(AuthRoleAssign), 204),
    ("DELETE /api/v1/auth/keys/{id}/roles/{role}", Needs(AuthRoleRevoke), 204),
    ("GET /api/v1/auth/roles", Needs(AuthRoleList), 200),
    ("POST /api/v1/auth/roles", Needs(AuthRoleCreate), 201),
    ("GET /api/v1/auth/roles/{id}", Needs(AuthRoleList), 200),
    ("PUT /api/v1/auth/roles/{id}", Needs(AuthRoleEdit), 200),
    ("DELETE /api/v1/auth/roles/{id}", Needs(AuthRoleDelete), 204),
    ("POST /api/v1/auth/roles/{id}/permissions", Needs(AuthRoleEdit), 204),
    ("DELETE /api/v1/auth/roles/{id}/permissions/{permission}", Needs(AuthRoleEdit), 204),
    ("GET /api/v1/audit/{id}", Needs(AuditRead), 200),
    ("GET /api/v1/audit/export", Needs(AuditExport), 200),
    ("POST /api/v1/audit/verify", Needs(AuditExport), 200),
    ("GET /api/v1/stats/summary", Needs(StatsRead), 200),
    ("GET /api/v1/stats/certificates-by-status", Needs(StatsRead), 200),
    ("GET /api/v1/stats/expiration-timeline", Needs(StatsRead), 200),
    ("GET /api/v1/stats/job-trends", Needs(StatsRead), 200),
    ("GET /api/v1/stats/issuance-rate", Needs(StatsRead), 200),
    ("POST /api/v1/certificates/bulk-revoke", Needs(CertBulkRevoke), 200),
    ("POST /api/v1/certificates/bulk-renew", Needs(CertIssue), 200),
    ("POST /api/v1/certificates/bulk-reassign", Needs(CertEdit), 200),
    ("GET /api/v1/metrics", Needs(MetricsRead), 200),
    ("GET /api/v1/metrics/prometheus", Needs(MetricsRead), 200),
    ("GET /api/v1/backups", Needs(BackupRead), 200),
    ("POST /api/v1/backups", Needs(BackupRun), 202),
    ("GET /api/v1/secrets", Needs(SecretsRotate), 200),
    ("POST /api/v1/secrets/rotate", Needs(SecretsRotate), 200),
    ("POST /api/v1/secrets/reseal", Needs(SecretsRotate), 200),
    ("GET /api/v1/doctor", Needs(DoctorRun), 200),
    ("POST /api/v1/doctor", Needs(DoctorRun), 202),
    ("GET /api/v1/restore", Needs(BackupRead), 200),
    // No store here was restored.
    ("POST /api/v1/restore/unfence", Needs(BackupRun), 409),
];

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Nobody,
    BasicAuth,
    EmptyBearer,
    NoText,
    WrongKey,
    EndedKey,
    Key(Role),
    /// A key with a role that was made here, and one whose scope is another thing.
    CustomKey,
    ThisAgent,
    OtherAgent,
    AgentWithWrongSecret,
    LocalUser,
    ViewersSession,
    EndedSession,
}

/// What [`Caller::CustomKey`] holds everywhere.
const CUSTOM: [Permission; 4] = [CertIssue, JobCancel, AuthRoleList, AuthKeyRotate];

const CALLERS: [Caller; 20] = [
    Caller::Nobody,
    Caller::BasicAuth,
    Caller::EmptyBearer,
    Caller::NoText,
    Caller::WrongKey,
    Caller::EndedKey,
    Caller::Key(Role::Admin),
    Caller::Key(Role::Operator),
    Caller::Key(Role::Viewer),
    Caller::Key(Role::Agent),
    Caller::Key(Role::Mcp),
    Caller::Key(Role::Cli),
    Caller::Key(Role::Auditor),
    Caller::CustomKey,
    Caller::ThisAgent,
    Caller::OtherAgent,
    Caller::AgentWithWrongSecret,
    Caller::LocalUser,
    Caller::ViewersSession,
    Caller::EndedSession,
];

const CHALLENGE: &str = r#"Bearer realm="certctl""#;
const ABSOLUTE: &str =
    r#"Bearer realm="certctl", error="invalid_token", error_description="absolute_timeout""#;

/// What a caller is answered at a door behind which `right` waits.
fn expected(caller: Caller, door: Door, right: u16) -> u16 {
    let needs = |allows: &dyn Fn(Permission) -> bool| match door {
        Needs(permission) => allows(permission),
        other => other == Known,
    };
    let holds = |role: Role| needs(&|permission| role.allows(permission));
    let lets_in = match caller {
        _ if door == Open => true,
        Caller::Nobody
        | Caller::BasicAuth
        | Caller::EmptyBearer
        | Caller::NoText
        | Caller::WrongKey
        | Caller::EndedKey
        | Caller::AgentWithWrongSecret
        | Caller::EndedSession => return 401,
        Caller::LocalUser => holds(Role::Admin),
        Caller::Key(role) => holds(role),
        Caller::ViewersSession => holds(Role::Viewer),
        Caller::CustomKey => needs(&|permission| CUSTOM.contains(&permission)),
        Caller::ThisAgent => matches!(door, ThatAgent | Known),
        Caller::OtherAgent => door == Known,
    };
    if lets_in { right } else { 403 }
}

/// A world with one of everything, and everybody's credentials.
struct World {
    app: TestApp,
    agent: TestAgent,
    other: TestAgent,
    target: String,
    version_csr: String,
    order: String,
    keys: Vec<(Role, String)>,
    custom: String,
    ended_key: String,
    session: String,
    ended_session: String,
    made: usize,
}

impl World {
    async fn new() -> Self {
        let app = TestApp::start().await;
        let ended_key = app.key_until(Role::Admin, Some(app.now().plus(HOUR))).await;
        let ended_session = app
            .app
            .sign_in(app.admin_key(), &Browser::default())
            .await
            .unwrap();
        app.advance(DAY);
        let mut keys = Vec::new();
        for role in Role::ALL {
            keys.push((role, app.key(role).await));
        }
        let viewer = app.key(Role::Viewer).await;
        let session = app.app.sign_in(&viewer, &Browser::default()).await.unwrap();
        let custom = custom_key(&app).await;
        let agent = app.agent("this").await;
        let other = app.agent("other").await;
        let target = app.target(&agent, "web").await;
        app.certificate("web", &[&target]).await;
        app.certificate("deployed", &[&target]).await;
        let jobs = agent.work(&app).await;
        let of = |name: &str| {
            let named = |job: &&WorkItem| job.certificate_id.as_ref().unwrap().as_str() == name;
            jobs.iter().find(named).unwrap()
        };
        agent.submit_csr(&app, of("deployed")).await.expect(202);
        let job = of("web").clone();
        let version_csr = agent.make_csr(&job);
        let order = text(&app.shown("web").await["holders"][0]["order_id"]);
        Self {
            app,
            agent,
            other,
            target,
            version_csr,
            order,
            keys,
            custom,
            ended_key,
            session,
            ended_session,
            made: 0,
        }
    }

    fn show<'a>(&self, call: Call<'a>, caller: Caller) -> Call<'a> {
        match caller {
            Caller::Nobody => call,
            Caller::BasicAuth => call.header("authorization", "Basic YWRtaW46YWRtaW4="),
            Caller::EmptyBearer => call.header("authorization", "Bearer  "),
            Caller::NoText => call.header("authorization", b"Bearer \xff\xfe"),
            Caller::WrongKey => call.bearer("ctl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            Caller::EndedKey => call.bearer(&self.ended_key),
            Caller::Key(role) => call.bearer(&self.keys.iter().find(|k| k.0 == role).unwrap().1),
            Caller::CustomKey => call.bearer(&self.custom),
            Caller::ThisAgent => call.bearer(&self.agent.credential()),
            Caller::OtherAgent => call.bearer(&self.other.credential()),
            Caller::AgentWithWrongSecret => call.bearer(&format!("cta_{}.wrong", self.agent.id)),
            Caller::LocalUser => call.local(1000),
            Caller::ViewersSession => call.session(&self.session),
            Caller::EndedSession => call.session(&self.ended_session),
        }
    }

    /// A job leased to this agent for a fresh certificate.
    async fn leased(&mut self) -> WorkItem {
        self.made += 1;
        let name = format!("cert-{}", self.made);
        self.app.certificate(&name, &[&self.target]).await;
        let mut jobs = self.agent.work(&self.app).await.into_iter();
        let of = |job: &WorkItem| job.certificate_id.as_ref().map(|id| id.as_str() == name);
        jobs.find(|job| of(job) == Some(true)).unwrap()
    }

    /// A certificate with a version whose key is outside.
    async fn issued(&mut self) -> String {
        self.made += 1;
        let name = format!("issued-{}", self.made);
        self.app.certificate(&name, &[]).await;
        let path = format!("/api/v1/certificates/{name}/versions");
        let csr = json!({"csr_pem": self.version_csr});
        self.app.post(&path, csr).await.expect(201);
        name
    }

    /// An issuer that nothing rests on.
    async fn issuer(&self, name: &str) -> String {
        let body = json!({"id": name, "name": name, "type": "GenericCA", "config": {}});
        self.app.post("/api/v1/issuers", body).await.expect(201);
        name.to_owned()
    }

    /// A request to the route that the right caller would be granted.
    async fn request(&mut self, route: &str) -> (String, Value) {
        self.made += 1;
        let path = route.split_once(' ').unwrap().1;
        let of = |kind: &str| path.replace("{id}", kind);
        let fresh = format!("fresh-{}", self.made);
        match route {
            "POST /api/v1/certificates" => {
                let body = json!({"name": fresh, "common_name": format!("{fresh}.example.org")});
                (path.into(), body)
            }
            "PUT /api/v1/certificates/{id}" => (of("web"), json!({"environment": fresh})),
            "POST /api/v1/certificates/{id}/versions" => {
                (of("web"), json!({"csr_pem": self.version_csr}))
            }
            "DELETE /api/v1/certificates/{id}" => (of(&self.issued().await), Value::Null),
            "POST /api/v1/certificates/{id}/revoke" => {
                (of(&self.issued().await), json!({"reason": "superseded"}))
            }
            "POST /api/v1/certificates/{id}/export/pkcs12" => {
                (of(&self.issued().await), json!({"password": "x"}))
            }
            "GET /api/v1/certificates/{id}/export/pem" => (of(&self.issued().await), Value::Null),
            "GET /api/v1/audit/{id}" => (of("audit-1"), Value::Null),
            "GET /api/v1/audit/export" => {
                let time = "from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z";
                (format!("{path}?{time}"), Value::Null)
            }
            "POST /api/v1/certificates/bulk-revoke" => {
                let id = self.issued().await;
                (
                    path.into(),
                    json!({"reason": "superseded", "certificate_ids": [id]}),
                )
            }
            "POST /api/v1/certificates/bulk-renew" => (path.into(), json!({"team_id": "none"})),
            "POST /api/v1/certificates/bulk-reassign" => {
                let owner = json!({"id": fresh, "name": fresh});
                self.app.post("/api/v1/owners", owner).await.expect(201);
                let body = json!({"certificate_ids": ["web"], "owner_id": fresh});
                (path.into(), body)
            }
            "DELETE /api/v1/issuers/{id}" => (of(&self.issuer(&fresh).await), Value::Null),
            "PUT /api/v1/issuers/{id}" => (of("iss-local"), json!({"name": fresh})),
            "POST /api/v1/issuers/{id}/test" => (of("iss-local"), Value::Null),
            "GET /api/v1/issuers/{id}" => (of("iss-local"), Value::Null),
            "POST /api/v1/issuers" => {
                let (cert, key) = foreign_ca(&fresh);
                let config = json!({"ca_cert_pem": cert, "ca_key_pem": key});
                let body = json!({"name": fresh, "type": "GenericCA", "config": config});
                (path.into(), body)
            }
            _ if path.starts_with("/.well-known/") => {
                let path = path.replace("{ca}", "iss-local");
                let path = path.replace("{shard}", "0.crl");
                (path.replace("{file}", "ca-local-root.cer"), Value::Null)
            }
            _ if governed(path) => {
                let body = match path.split('/').nth(3) {
                    Some("policies") => {
                        let config = json!({"max_days": 365});
                        json!({"name": fresh, "type": "CertificateLifetime", "config": config})
                    }
                    _ => json!({"name": fresh}),
                };
                match route.split_once(' ').unwrap().0 {
                    "POST" => (path.into(), body),
                    _ => {
                        let list = path.split("/{id}").next().unwrap();
                        let made = self.app.post(list, body.clone()).await.expect(201);
                        (of(&text(&made["id"])), body)
                    }
                }
            }
            "DELETE /api/v1/auth/sessions" => (format!("{path}?except=current"), Value::Null),
            "DELETE /api/v1/auth/sessions/{id}" => {
                let (name, key) = self.app.made_key(&fresh, &["r-viewer"]).await;
                let session = self.app.app.sign_in(&key, &Browser::default()).await;
                session.unwrap();
                let theirs = format!("/api/v1/auth/sessions?actor_id={name}");
                let theirs = self.app.get(&theirs).await;
                (of(&text(&theirs["sessions"][0]["id"])), Value::Null)
            }
            "POST /api/v1/auth/keys" => (
                path.into(),
                json!({"name": fresh, "role_ids": ["r-viewer"]}),
            ),
            _ if path.starts_with("/api/v1/auth/keys/") => {
                // One that holds nothing: who may hand out its secret gains nothing by it.
                let (name, _) = self.app.made_key(&fresh, &["r-auditor"]).await;
                let roles = format!("/api/v1/auth/keys/{name}/roles");
                if path.ends_with("/rotate") {
                    let gone = format!("{roles}/r-auditor");
                    self.app.admin("DELETE", &gone).send().await.expect(204);
                }
                let path = of(&name).replace("{role}", "r-auditor");
                let wish = match path.rsplit('/').next() {
                    Some("roles") => json!({"role_id": "r-viewer"}),
                    _ => json!({}),
                };
                (path, wish)
            }
            "POST /api/v1/auth/roles" => (path.into(), json!({"name": fresh})),
            _ if path.starts_with("/api/v1/auth/roles/") => {
                let wish = json!({"name": fresh, "permissions": [{"permission": "cert.read"}]});
                let made = self.app.post("/api/v1/auth/roles", wish).await.expect(201);
                let path = of(&text(&made["id"])).replace("{permission}", "cert.read");
                let wish = match path.rsplit('/').next() {
                    Some("permissions") => json!({"permission": "cert.edit"}),
                    _ => json!({"description": "more"}),
                };
                (path, wish)
            }
            "POST /api/v1/targets" => {
                let body = json!({
                    "name": fresh, "type": "File", "agent_id": self.agent.id, "config": {},
                });
                (path.into(), body)
            }
            "POST /api/v1/agents/tokens" | "POST /api/v1/doctor" => (path.into(), json!({})),
            "POST /api/v1/backups" => {
                while self.app.get(path).await["running"] == true {
                    tokio::task::yield_now().await;
                }
                let sink = format!("dir:{}", self.app.file("backups").display());
                (path.into(), json!({"sink": sink, "without_keys": true}))
            }
            "POST /api/v1/agents/enrol" => {
                let token = self.app.join_token(json!({})).await;
                (path.into(), TestAgent::wish(&fresh, &token, &fresh))
            }
            _ if path.starts_with("/api/v1/agents/tokens/{id}") => {
                let made = self.app.post("/api/v1/agents/tokens", json!({})).await;
                (of(&text(&made.expect(201)["id"])), Value::Null)
            }
            "DELETE /api/v1/agents/{id}" | "POST /api/v1/agents/{id}/retire" => {
                let agent = self.app.agent(&fresh).await;
                (of(&agent.id), json!({}))
            }
            "POST /api/v1/agents/{id}/credential" => {
                let hash = certctl::crypt::secret::hash(&fresh);
                (of(&self.agent.id), json!({"secret_sha256": hash}))
            }
            "GET /api/v1/jobs/{id}" | "POST /api/v1/jobs/{id}/cancel" => {
                (of(self.leased().await.id.as_str()), Value::Null)
            }
            "GET /api/v1/orders/{id}" => (of(&self.order), Value::Null),
            "PUT /api/v1/targets/{id}" => (of(&self.target), json!({"name": fresh})),
            "GET /api/v1/targets/{id}" | "POST /api/v1/targets/{id}/test" => {
                (of(&self.target), Value::Null)
            }
            "DELETE /api/v1/targets/{id}" => {
                let free = self.app.target(&self.agent, &fresh).await;
                (of(&free), Value::Null)
            }
            "POST /api/v1/certificates/{id}/deploy" => (of("deployed"), json!({})),
            _ if path.contains("{job}") => {
                let job = self.leased().await;
                let csr = self.agent.make_csr(&job);
                let body = json!({
                    "token": job.lease.token, "csr_pem": csr,
                    "outcome": "failed", "class": "permanent", "reason": "no room",
                });
                (of(&self.agent.id).replace("{job}", job.id.as_str()), body)
            }
            "POST /api/v1/agents/{id}/observations" => {
                (of(&self.agent.id), json!({"observations": []}))
            }
            _ if path.contains("/agents/") => (of(&self.agent.id), Value::Null),
            _ => (of("web"), Value::Null),
        }
    }
}

/// A path of documents that say how things are to be.
fn governed(path: &str) -> bool {
    let kind = path.split('/').nth(3);
    let kinds = [
        "profiles",
        "renewal-policies",
        "policies",
        "owners",
        "teams",
    ];
    kind.is_some_and(|kind| kinds.contains(&kind))
}

/// A key with [`CUSTOM`] everywhere, and everything on an issuer that there is not.
async fn custom_key(app: &TestApp) -> String {
    let permissions: Vec<_> = CUSTOM
        .iter()
        .map(|permission| json!({"permission": permission.as_str()}))
        .collect();
    let wish = json!({"name": "custom", "permissions": permissions});
    let role = app.post("/api/v1/auth/roles", wish).await.expect(201);
    let (name, key) = app.made_key("custom", &[&text(&role["id"])]).await;
    let path = format!("/api/v1/auth/keys/{name}/roles");
    let grant = json!({"role_id": "r-admin", "scope_type": "issuer", "scope_id": "iss-other"});
    app.post(&path, grant).await.expect(204);
    key
}

/// The certificate and key of a CA that was made elsewhere, good at the time of these tests.
pub fn foreign_ca(name: &str) -> (String, String) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![
        rcgen::KeyUsagePurpose::KeyCertSign,
        rcgen::KeyUsagePurpose::CrlSign,
    ];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// The document names every route, and asks of its caller what the table says.
#[test]
fn the_table_says_what_the_document_says() {
    let table = ROUTES.iter().map(|(route, door, _)| {
        let needs = match door {
            Open => "none",
            Known => "authenticated",
            Needs(permission) => permission.as_str(),
            ThatAgent => "agent",
        };
        format!("{route} needs {needs}")
    });
    let table: BTreeSet<String> = table.collect();
    assert_eq!(table, routes::with_needs());
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should_and_nobody_else() {
    let mut world = World::new().await;
    let mut wrong = Vec::new();
    for &(route, door, right) in ROUTES {
        for caller in CALLERS {
            let (path, body) = world.request(route).await;
            let method = route.split_once(' ').unwrap().0;
            let call = world.app.call(method, &path);
            let call = world.show(call, caller).json(&body);
            let before = world.app.seq();
            let answer = call.send().await;
            let expected = expected(caller, door, right);
            if answer.status != expected {
                wrong.push(format!(
                    "{route} by {caller:?}: {} instead of {expected}: {}",
                    answer.status, answer.body
                ));
            } else if expected >= 400 {
                if expected == 401 {
                    let challenge = &answer.headers["www-authenticate"];
                    let challenge = challenge.to_str().unwrap();
                    let ended = caller == Caller::EndedSession;
                    let expected = if ended { ABSOLUTE } else { CHALLENGE };
                    assert_eq!(challenge, expected, "{route} by {caller:?}");
                }
                answer.problem();
                assert_eq!(
                    world.app.seq(),
                    before,
                    "{route} by {caller:?} changed something"
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.app.check().await;
}

/// Who may change a thing is answered what became of it, whether or not they may read others.
#[tokio::test]
async fn an_edit_takes_its_own_permission_and_no_other() {
    let mut world = World::new().await;
    for &(route, door, right) in ROUTES.iter().filter(|row| row.0.starts_with("PUT ")) {
        let Needs(permission) = door else {
            panic!("{route} is open to others")
        };
        let (path, body) = world.request(route).await;
        let name = format!("only-{}", world.made);
        let wish = json!({"name": name, "permissions": [{"permission": permission.as_str()}]});
        let role = world.app.post("/api/v1/auth/roles", wish).await.expect(201);
        let (_, key) = world.app.made_key(&name, &[&text(&role["id"])]).await;
        let call = world.app.call("PUT", &path).bearer(&key).json(&body);
        assert_eq!(call.send().await.status, right, "{route}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_told_to_those_who_may_send_one() {
    let mut world = World::new().await;
    let document = certctl::api::document();
    let (mut wrong, mut bodies) = (Vec::new(), 0);
    for &(route, door, _) in ROUTES {
        let (method, path) = route.split_once(' ').unwrap();
        let operation = &document["paths"][path][method.to_lowercase()];
        let Needs(permission) = door else { continue };
        if operation.get("requestBody").is_none() {
            continue;
        }
        bodies += 1;
        let (path, _) = world.request(route).await;
        let may_not = Role::ALL.into_iter().find(|role| !role.allows(permission));
        for (role, expected) in [(Role::Admin, 400), (may_not.unwrap(), 403)] {
            let call = world.show(world.app.call(method, &path), Caller::Key(role));
            let answer = call.body("{").send().await;
            if answer.status != expected {
                let status = answer.status;
                wrong.push(format!(
                    "{route} by {role:?}: {status} instead of {expected}"
                ));
            }
        }
    }
    assert!(bodies >= 25, "only {bodies} calls take a body");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_refusal_names_the_permission_that_is_missing() {
    let app = TestApp::start().await;
    let viewer = app.key(Role::Viewer).await;
    let call = app.call("POST", "/api/v1/agents/tokens").bearer(&viewer);
    let message = call.json(&json!({})).send().await.refused(403);
    assert!(message.contains("agent.edit"), "{message}");
}

#[tokio::test]
async fn a_bearer_is_not_helped_by_the_session_or_socket_beside_it() {
    let app = TestApp::start().await;
    let session = app
        .app
        .sign_in(app.admin_key(), &Browser::default())
        .await
        .unwrap();
    let call = app.call("GET", "/api/v1/certificates").bearer("ctl_wrong");
    call.session(&session).local(0).send().await.refused(401);
}

#[tokio::test]
async fn a_session_ends_when_it_is_closed_and_when_its_key_ends() {
    let app = TestApp::start().await;
    let key = app
        .key_until(Role::Viewer, Some(app.now().plus(HOUR)))
        .await;
    let (closed, kept) = (
        app.app.sign_in(&key, &Browser::default()).await.unwrap(),
        app.app.sign_in(&key, &Browser::default()).await.unwrap(),
    );
    let list = |session: &str| app.call("GET", "/api/v1/targets").session(session).send();
    list(&closed).await.expect(200);
    app.app.sign_out(&closed).await.unwrap();
    list(&closed).await.refused(401);
    list(&kept).await.expect(200);
    app.advance(HOUR);
    list(&kept).await.refused(401);
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_use_a_browsers_session() {
    let app = TestApp::start().await;
    let session = app
        .app
        .sign_in(app.admin_key(), &Browser::default())
        .await
        .unwrap();
    let before = app.seq();
    let call = app.call("POST", "/api/v1/agents/tokens").session(&session);
    let call = call.header("sec-fetch-site", "cross-site");
    call.header("origin", "https://evil.example")
        .json(&json!({}))
        .send()
        .await
        .refused(403);
    assert_eq!(app.seq(), before);
}

#[tokio::test]
async fn the_local_socket_acts_as_administrator_under_the_users_number() {
    let app = TestApp::start().await;
    let call = app.call("POST", "/api/v1/agents/tokens").local(1234);
    call.json(&json!({})).send().await.expect(201);
    let newest = &app.list("/api/v1/audit").await[0];
    assert_eq!(newest["actor"], "local:1234");
    assert_eq!(newest["actor_type"], "User");
}

#[test]
fn the_catalogue_is_whole_and_its_names_are_read_back() {
    assert_eq!(Permission::ALL.len(), 86);
    let names: BTreeSet<_> = Permission::ALL.iter().map(|p| p.as_str()).collect();
    assert_eq!(names.len(), 86);
    for permission in Permission::ALL {
        assert_eq!(
            permission.as_str().parse::<Permission>().unwrap(),
            permission
        );
        let within = permission.as_str().strip_prefix(permission.namespace());
        assert!(
            within.is_some_and(|verb| verb.starts_with('.')),
            "{permission}"
        );
    }
    let of = |permission: Permission| permission.namespace();
    assert_eq!(of(Permission::AgentJobPoll), "agent.job");
    assert_eq!(of(Permission::AuthSessionListAll), "auth.session");
    assert!("cert.Read".parse::<Permission>().is_err());
}

#[test]
fn roles_hold_what_the_catalogue_says() {
    let sizes = Role::ALL.map(|role| (role.id(), role.permissions().iter().count()));
    let expected = [
        ("r-admin", 86),
        ("r-operator", 50),
        ("r-viewer", 20),
        // With `verification.run`, which an agent's deployment ends with.
        ("r-agent", 7),
        ("r-mcp", 33),
        ("r-cli", 49),
        ("r-auditor", 3),
    ];
    assert_eq!(sizes, expected);
    // What no built-in role but the administrator's holds.
    let others = Role::ALL.into_iter().filter(|role| *role != Role::Admin);
    let others = others.fold(Permissions::NONE, |all, role| all | role.permissions());
    let admins = Permissions::ALL.beyond(others).iter();
    let admins: Vec<_> = admins
        .filter(|p| !p.as_str().starts_with("auth."))
        .collect();
    assert_eq!(
        admins,
        [
            CertBulkRevoke,
            ProfileDelete,
            IssuerDelete,
            AgentRetire,
            CrlAdmin,
            ScepAdmin,
            EstAdmin,
            CaHierarchyManage,
            BackupRun,
            SecretsRotate
        ]
    );
    for permission in Role::Viewer.permissions().iter() {
        assert!(permission.as_str().ends_with(".read"), "{permission}");
        assert!(Role::Operator.allows(permission), "{permission}");
    }
}
