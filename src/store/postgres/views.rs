//! What people and their tools may read with SQL: a view for each collection in schema `certctl`,
//! with named, typed columns. Columns are listed one by one: hashes of secrets, sealed keys and
//! what a target's configuration may hold are in none.

use std::fmt::Write;

/// A view over one collection.
pub struct View {
    /// Its name.
    name: &'static str,
    /// The collection.
    coll: &'static str,
    /// Its columns after `id` and `row_version`: name, type, and the field in the document,
    /// where that has another name, as a path.
    columns: &'static [(&'static str, Type, &'static str)],
}

/// What a column holds.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Number,
    Flag,
    Time,
    Json,
}

use Type::{Flag, Json, Number, Text, Time};

/// Every collection's view. Columns are only ever added at the end, for others build on them.
const VIEWS: &[View] = &[
    view(
        "certificates",
        "certificate",
        &[
            ("name", Text, ""),
            ("common_name", Text, ""),
            ("sans", Json, ""),
            ("environment", Text, ""),
            ("owner_id", Text, ""),
            ("team_id", Text, ""),
            ("issuer_id", Text, ""),
            ("profile_id", Text, ""),
            ("renewal_policy_id", Text, "policy_id"),
            ("target_ids", Json, "targets"),
            ("tags", Json, ""),
            ("holders", Json, ""),
            ("archived_at", Time, ""),
            ("revoked_at", Time, "revoked,at"),
            ("revocation_reason", Text, "revoked,reason"),
            ("created_at", Time, ""),
            ("updated_at", Time, ""),
        ],
    ),
    view(
        "versions",
        "version",
        &[
            ("certificate_id", Text, "certificate"),
            ("holder", Text, ""),
            ("order_id", Text, "order"),
            ("issuer_id", Text, "issuer"),
            ("serial", Text, ""),
            ("not_before", Time, ""),
            ("not_after", Time, ""),
            ("fingerprint_sha256", Text, ""),
            ("spki_sha256", Text, ""),
            ("key_algorithm", Text, ""),
            ("sans", Json, ""),
            ("leaf_pem", Text, ""),
            ("chain_id", Text, "chain"),
            ("created_at", Time, ""),
        ],
    ),
    view("chains", "chain", &[("pem", Text, "")]),
    view(
        "revocations",
        "revocation",
        &[
            ("ca_node_id", Text, "node"),
            ("serial", Text, ""),
            ("certificate_id", Text, "certificate"),
            ("version_id", Text, "version"),
            ("revoked_at", Time, "at"),
            ("reason", Text, ""),
            ("not_after", Time, ""),
        ],
    ),
    view(
        "orders",
        "order",
        &[
            ("certificate_id", Text, "certificate"),
            ("holder", Text, ""),
            ("issuer_id", Text, "issuer"),
            ("cause", Json, ""),
            ("attempt", Number, ""),
            ("opened_at", Time, ""),
            ("state", Text, "state,is"),
            ("ended_at", Time, "state,at"),
            ("version_id", Text, "state,version"),
            ("failure_class", Text, "state,class"),
            ("failure", Text, "state,message"),
            ("retry_at", Time, "state,retry_at"),
        ],
    ),
    view(
        "jobs",
        "job",
        &[
            ("type", Text, "kind,do"),
            ("certificate_id", Text, "certificate"),
            ("target_id", Text, "target"),
            ("agent_id", Text, "executor,agent"),
            ("state", Text, "state,is"),
            ("state_at", Time, "state,at"),
            ("leased_until", Time, "state,until"),
            ("attempts", Number, ""),
            ("max_attempts", Number, ""),
            ("last_error", Text, ""),
            ("created_at", Time, ""),
            ("started_at", Time, ""),
        ],
    ),
    view(
        "deployments",
        "deployment",
        &[
            ("certificate_id", Text, "certificate"),
            ("version_id", Text, "version"),
            ("serial", Text, ""),
            ("target_id", Text, "target"),
            ("agent_id", Text, "agent"),
            ("order_id", Text, "order"),
            ("job_id", Text, "job"),
            ("state", Text, "state,is"),
            ("state_at", Time, "state,at"),
            ("failure", Text, "state,reason"),
            ("retry_at", Time, "state,retry_at"),
            ("created_at", Time, ""),
        ],
    ),
    view(
        "observations",
        "observation",
        &[
            ("certificate_id", Text, "certificate"),
            ("target_id", Text, "target"),
            ("agent_id", Text, "agent"),
            ("serial", Text, ""),
            ("current", Flag, ""),
            ("drift", Json, ""),
            ("served", Json, ""),
            ("seen_at", Time, ""),
            ("repaired_at", Time, ""),
        ],
    ),
    view(
        "targets",
        "target",
        &[
            ("name", Text, ""),
            ("type", Text, "kind"),
            ("agent_id", Text, "agent"),
            ("created_at", Time, ""),
            ("updated_at", Time, ""),
            ("retired_at", Time, "retired,at"),
        ],
    ),
    view(
        "agents",
        "agent",
        &[
            ("name", Text, ""),
            ("hostname", Text, ""),
            ("os", Text, ""),
            ("architecture", Text, ""),
            ("version", Text, ""),
            ("joined_by", Text, ""),
            ("enrolled_at", Time, ""),
            ("keys_lost_at", Time, ""),
            ("leaving_since", Time, ""),
            ("retired_at", Time, "retired,at"),
            ("retired_reason", Text, "retired,reason"),
        ],
    ),
    view(
        "agent_presence",
        "presence",
        &[
            ("heard_at", Time, ""),
            ("clock_ahead_ms", Number, ""),
            ("restoring", Flag, ""),
        ],
    ),
    view(
        "join_tokens",
        "join_token",
        &[
            ("name", Text, ""),
            ("expires_at", Time, ""),
            ("max_uses", Number, ""),
            ("replace", Flag, ""),
            ("revoked_at", Time, ""),
            ("created_at", Time, ""),
        ],
    ),
    view(
        "api_keys",
        "api_key",
        &[
            ("name", Text, ""),
            ("secret_since", Time, ""),
            ("former_secret_until", Time, "former,until"),
            ("grants", Json, ""),
            ("expires_at", Time, ""),
            ("created_at", Time, ""),
        ],
    ),
    view("api_key_uses", "api_key_use", &[("last_used_at", Time, "")]),
    view(
        "roles",
        "role",
        &[
            ("name", Text, ""),
            ("description", Text, ""),
            ("permissions", Json, ""),
            ("created_at", Time, ""),
            ("updated_at", Time, ""),
        ],
    ),
    view(
        "sessions",
        "session",
        &[
            ("api_key_id", Text, "key"),
            ("actor", Text, ""),
            ("address", Text, ""),
            ("user_agent", Text, ""),
            ("last_seen_at", Time, ""),
            ("expires_at", Time, ""),
            ("created_at", Time, ""),
        ],
    ),
    view(
        "profiles",
        "profile",
        &[
            ("name", Text, ""),
            ("description", Text, ""),
            ("key_algorithms", Json, ""),
            ("lifetime_seconds", Number, ""),
            ("max_ttl_seconds", Number, ""),
            ("ekus", Json, ""),
            ("san_patterns", Json, ""),
            ("spiffe_pattern", Text, ""),
            ("allow_short_lived", Flag, ""),
            ("enabled", Flag, ""),
            ("created_at", Time, ""),
            ("updated_at", Time, ""),
        ],
    ),
    view(
        "renewal_policies",
        "renewal_policy",
        &[
            ("name", Text, ""),
            ("auto_renew", Flag, ""),
            ("renew_left_permille", Number, ""),
            ("renewal_window_days", Number, ""),
            ("max_retries", Number, ""),
            ("retry_interval_seconds", Number, ""),
            ("alert_thresholds_days", Json, ""),
            ("profile_id", Text, ""),
            ("created_at", Time, ""),
            ("updated_at", Time, ""),
        ],
    ),
    view(
        "policy_rules",
        "policy_rule",
        &[
            ("name", Text, ""),
            ("type", Text, ""),
            ("config", Json, ""),
            ("enabled", Flag, ""),
            ("severity", Text, ""),
            ("created_at", Time, ""),
            ("updated_at", Time, ""),
        ],
    ),
    view(
        "policy_rules_head",
        "rules_head",
        &[("changed_at", Time, "")],
    ),
    view(
        "owners",
        "owner",
        &[
            ("name", Text, ""),
            ("email", Text, ""),
            ("team_id", Text, ""),
            ("created_at", Time, ""),
            ("updated_at", Time, ""),
        ],
    ),
    view(
        "teams",
        "team",
        &[
            ("name", Text, ""),
            ("description", Text, ""),
            ("created_at", Time, ""),
            ("updated_at", Time, ""),
        ],
    ),
    view(
        "replans",
        "replan",
        &[
            ("edited", Json, "of"),
            ("total", Number, ""),
            ("done", Number, ""),
            ("since", Time, ""),
        ],
    ),
    view(
        "issuers",
        "issuer",
        &[
            ("name", Text, ""),
            ("type", Text, "kind,type"),
            ("enabled", Flag, ""),
            ("created_at", Time, ""),
            ("updated_at", Time, ""),
        ],
    ),
    view(
        "issuer_tests",
        "issuer_test",
        &[("tested_at", Time, "at"), ("fault", Text, "")],
    ),
    view(
        "ca_nodes",
        "ca_node",
        &[
            ("parent_id", Text, "parent"),
            ("certificate_pem", Text, ""),
            ("above_pem", Text, ""),
            ("created_at", Time, ""),
        ],
    ),
    view(
        "request_outcomes",
        "outcome",
        &[("made", Text, ""), ("until", Time, "")],
    ),
    view(
        "key_ring",
        "ring",
        &[("created_at", Time, "ring,created_at")],
    ),
    view(
        "restorations",
        "restoration",
        &[
            ("backup", Text, ""),
            ("taken_at", Time, ""),
            ("restored_at", Time, ""),
            ("fenced", Flag, ""),
            ("unfenced_at", Time, ""),
            ("audit_head", Text, ""),
            ("replaced_head", Text, ""),
            ("reconcile", Flag, ""),
        ],
    ),
    view(
        "found_versions",
        "found",
        &[
            ("certificate_id", Text, "certificate"),
            ("agent_id", Text, "agent"),
            ("target_id", Text, "target"),
            ("serial", Text, ""),
            ("at", Time, ""),
            ("version_id", Text, "version"),
            ("refused", Text, ""),
        ],
    ),
    view(
        "leader",
        "leader",
        &[
            ("server", Text, ""),
            ("at", Time, ""),
            ("resigned", Flag, ""),
        ],
    ),
    view(
        "looks",
        "look",
        &[("agent_id", Text, "agent"), ("at", Time, "")],
    ),
    view("index_layouts", "layout", &[("built", Json, "")]),
    view(
        "store_schema",
        "schema",
        &[
            ("format", Number, ""),
            ("min_reader", Number, ""),
            ("min_writer", Number, ""),
            ("changed_at", Time, ""),
        ],
    ),
    view(
        "migrations",
        "migration",
        &[
            ("checksum", Text, ""),
            ("applied_at", Time, ""),
            ("applied_by", Text, ""),
            ("backup", Text, ""),
            ("swept", Flag, ""),
            ("undoing", Flag, ""),
        ],
    ),
];

/// The audit log: a stream, whose entries are linked by hash.
const AUDIT: &str = "\
    CREATE OR REPLACE VIEW certctl.audit_events AS SELECT e.number, \
    timestamptz 'epoch' + (d.doc ->> 'at')::bigint * interval '1 microsecond' AS at, \
    d.doc ->> 'actor' AS actor, d.doc ->> 'actor_type' AS actor_type, \
    d.doc ->> 'action' AS action, d.doc ->> 'resource_type' AS resource_type, \
    d.doc ->> 'resource_id' AS resource_id, d.doc ->> 'category' AS category, \
    d.doc -> 'details' AS details, encode(e.link, 'hex') AS link \
    FROM certctl_store.stream_entries e \
    CROSS JOIN LATERAL (SELECT convert_from(e.doc, 'UTF8')::jsonb AS doc) d \
    WHERE e.stream = 'audit';";

const fn view(
    name: &'static str,
    coll: &'static str,
    columns: &'static [(&'static str, Type, &'static str)],
) -> View {
    View {
        name,
        coll,
        columns,
    }
}

/// The collections that have a view, each with the view's name.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    VIEWS.iter().map(|view| (view.coll, view.name))
}

/// Makes them all, or gives those that are there what they lack.
pub fn create() -> String {
    // The right to make schemas is asked for even where IF NOT EXISTS finds one.
    let mut sql = "DO $$ BEGIN IF to_regnamespace('certctl') IS NULL THEN CREATE SCHEMA certctl; \
                   END IF; END $$;"
        .to_owned();
    for view in VIEWS {
        // Writing to a text cannot fail.
        let _ = write!(
            sql,
            "CREATE OR REPLACE VIEW certctl.{} AS SELECT id, version AS row_version",
            view.name
        );
        for (name, kind, field) in view.columns {
            let field = if field.is_empty() { name } else { field };
            let _ = write!(sql, ", {} AS \"{name}\"", kind.column(field));
        }
        let coll = view.coll;
        let _ = write!(sql, " FROM certctl_store.rows WHERE coll = '{coll}';");
    }
    sql + AUDIT
}

/// What the schema says of the views in it.
pub const FOUND: &str = "SELECT obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace \
                         WHERE nspname = 'certctl'";

/// What is said there of the views that `sql` makes.
pub fn mark(sql: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, sql.as_bytes());
    let hash = data_encoding::HEXLOWER.encode(hash.as_ref());
    format!("Views of certctl for reading, made by the server: {hash}")
}

impl Type {
    fn column(self, path: &str) -> String {
        let text = format!("(doc #>> '{{{path}}}')");
        match self {
            Self::Text => text,
            Self::Number => format!("{text}::bigint"),
            Self::Flag => format!("{text}::boolean"),
            Self::Time => {
                format!("timestamptz 'epoch' + {text}::bigint * interval '1 microsecond'")
            }
            Self::Json => format!("doc #> '{{{path}}}'"),
        }
    }
}
