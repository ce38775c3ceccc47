//! Sessions with the database: how they begin, and what a failure in one means.

use super::{
    schema::Schema,
    secured::{Already, Secured},
    sql::Sql,
    watch,
};
use crate::{
    clock::Rng,
    crypt::OsRng,
    net::{DatabaseDialError, DatabaseDialer, Wire},
    store::{
        engine::EngineError,
        migrate::{FIRST_FORMAT, PROGRAM_FORMAT},
    },
    sys::Tasks,
};
use secrecy::{ExposeSecret, SecretString};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_postgres::{
    Client, Config, Connection, Error, Row,
    config::{SslMode, SslNegotiation},
    error::SqlState,
};

pub use tokio_postgres::config::ChannelBinding as LoginBinding;

/// For a connection, and again for the database's greeting.
const CONNECT: Duration = Duration::from_secs(5);
/// After the first failure nobody tries again for so long; then twice as long each time,
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// at most so long.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// An outage is told of again when it has lasted for so long; then each time it is twice as long.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// Every session's settings. Plans are made once and walk indexes: statistics may be missing or
/// old, and each statement is made for an index that is there. A commit waits for the disk, also
/// where the database's own default is not to.
const SETTINGS: &str = "\
    SET jit = off;\
    SET plan_cache_mode = force_generic_plan;\
    SET enable_seqscan = off;\
    SET enable_bitmapscan = off;\
    SET enable_hashjoin = off;\
    SET enable_mergejoin = off;\
    SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') = 'off';";

/// What must be true of a database: it takes writes, and keeps every text.
const STATE: &str = "SELECT pg_is_in_recovery(), current_setting('server_encoding'), \
                     current_setting('server_version_num')::int";

/// The oldest version that does.
const OLDEST: i32 = 150_000;

/// Gives the passwords that may be the user's, asked before each connection: the next is tried
/// where one is refused. None where the user needs none.
pub type Passwords = Arc<dyn Fn() -> Vec<SecretString> + Send + Sync>;

/// Who logs in where.
#[derive(Clone)]
pub struct Login {
    /// Opens connections.
    pub dialer: DatabaseDialer,
    /// The database's user.
    pub user: String,
    /// Its passwords.
    pub passwords: Passwords,
    /// The database.
    pub database: String,
    /// Whether the login is bound to TLS.
    pub binding: LoginBinding,
    /// Sessions for reading, at most.
    pub connections: usize,
    /// For a statement; and a transaction in which nothing happens for so long is ended.
    pub timeout: Duration,
}

impl Login {
    /// An answer that takes longer never comes: the database itself ends statements before.
    pub fn patience(&self) -> Duration {
        self.timeout + self.timeout / 3
    }
}

/// A session in which every statement is prepared.
pub struct Session {
    pub client: Client,
    pub sql: Sql,
}

impl Session {
    /// Whether the connection is known to be gone.
    pub fn is_gone(&self) -> bool {
        self.client.is_closed()
    }
}

/// Programs that have sessions of the database, but for one.
const OTHERS: &str = "SELECT DISTINCT application_name FROM pg_stat_activity \
    WHERE datname = current_database() AND application_name LIKE 'certctl%' \
    AND application_name <> $1";

/// Begins sessions. While the database is away, only now and then somebody tries.
pub struct Connector {
    login: Login,
    /// Where the tables are.
    schema: Schema,
    /// By which the sessions of this process are told from those of others, and its format seen.
    name: String,
    tasks: Tasks,
    outage: Mutex<Option<Outage>>,
}

struct Outage {
    why: String,
    wait: Duration,
    until: Instant,
    since: Instant,
    /// It is told of again when it has lasted for so long.
    tell_after: Duration,
}

impl Connector {
    pub fn new(login: Login, tasks: Tasks) -> Self {
        let mut own = [0; 8];
        OsRng.fill(&mut own);
        let own = data_encoding::HEXLOWER.encode(&own);
        Self {
            login,
            schema: Schema::SERVED,
            name: format!("certctl {PROGRAM_FORMAT} {own}"),
            tasks,
            outage: Mutex::default(),
        }
    }

    /// Begins sessions of the same program for the tables of another schema.
    pub fn within(&self, schema: Schema, tasks: Tasks) -> Self {
        Self {
            login: self.login.clone(),
            schema,
            name: self.name.clone(),
            tasks,
            outage: Mutex::default(),
        }
    }

    /// The schema of its sessions.
    pub fn schema(&self) -> Schema {
        self.schema
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.login.database
    }

    /// For an answer.
    pub fn patience(&self) -> Duration {
        self.login.patience()
    }

    /// For a statement, by the database's own clock.
    pub fn timeout(&self) -> Duration {
        self.login.timeout
    }

    /// Waits for an answer, as long as one may take.
    pub async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let patience = self.patience();
        let answered = timeout(patience, asked).await;
        answered.unwrap_or_else(|_| Err(silent(patience)))
    }

    /// Sessions for reading, at most.
    pub fn connections(&self) -> usize {
        self.login.connections
    }

    /// The formats of other programs that have sessions of the database.
    pub async fn others(&self) -> Result<Vec<u16>, EngineError> {
        self.others_by(&self.client().await?).await
    }

    /// As [`others`](Self::others), asked by a session.
    pub async fn others_by(&self, client: &Client) -> Result<Vec<u16>, EngineError> {
        let rows = client.query(OTHERS, &[&self.name]).await;
        let rows = rows.map_err(engine_error)?;
        let format = |row: &Row| {
            let name: String = row.try_get(0).map_err(engine_error)?;
            let format = name.split(' ').nth(1).and_then(|word| word.parse().ok());
            Ok(format.unwrap_or(FIRST_FORMAT))
        };
        rows.iter().map(format).collect()
    }

    /// A session, or at once why there is none.
    pub async fn session(&self) -> Result<Session, EngineError> {
        if let Some(outage) = &*self.outage()
            && Instant::now() < outage.until
        {
            return Err(EngineError::Away(outage.why.clone()));
        }
        Box::pin(self.session_now()).await
    }

    /// A session, whatever was found a moment ago. None is an outage, whatever the reason: the
    /// store was opened before, and somebody may be changing a password or a certificate.
    pub async fn session_now(&self) -> Result<Session, EngineError> {
        let begun = async {
            let client = self.client().await?;
            // On the heap: it is a future for each statement.
            let prepared = Box::pin(Sql::prepare(&client, self.schema));
            let sql = self
                .answer(async { prepared.await.map_err(engine_error) })
                .await?;
            Ok(Session { client, sql })
        };
        match begun.await {
            Ok(session) => {
                if let Some(outage) = self.outage().take() {
                    let away_s = outage.since.elapsed().as_secs();
                    tracing::info!(away_s, "the database is back");
                }
                Ok(session)
            }
            Err(EngineError::Away(why)) => Err(self.away(why)),
            Err(e) => Err(self.away(e.to_string())),
        }
    }

    /// A session without prepared statements: the tables need not be there.
    pub async fn client(&self) -> Result<Client, EngineError> {
        let (client, connection) = self.connect().await?;
        self.tasks.spawn("database session", async move {
            // Whoever uses the session is told of the end themselves.
            let _ = connection.await;
        });
        self.prepare(&client).await?;
        Ok(client)
    }

    /// A session that hears what others commit.
    pub async fn listener(&self, look: Arc<Notify>) -> Result<Client, EngineError> {
        let (client, connection) = self.connect().await?;
        self.tasks
            .spawn("database notices", watch::hear(connection, look));
        self.prepare(&client).await?;
        let listen = client.batch_execute("LISTEN certctl");
        self.answer(async { listen.await.map_err(engine_error) })
            .await?;
        Ok(client)
    }

    async fn connect(&self) -> Result<(Client, Connection<Wire, Secured>), EngineError> {
        let mut passwords = (self.login.passwords)().into_iter();
        let mut password = passwords.next();
        loop {
            match self.connect_by(password.as_ref()).await {
                Err(e @ EngineError::Password(_)) => match passwords.next() {
                    Some(next) => password = Some(next),
                    None => return Err(e),
                },
                connected => return connected,
            }
        }
    }

    async fn connect_by(
        &self,
        password: Option<&SecretString>,
    ) -> Result<(Client, Connection<Wire, Secured>), EngineError> {
        let Login {
            dialer,
            user,
            database,
            binding,
            ..
        } = &self.login;
        let wire = dialer.open(CONNECT).await.map_err(|e| match e {
            // Waiting mends neither.
            DatabaseDialError::Tls { .. } | DatabaseDialError::Name(_) => {
                EngineError::Unusable(e.to_string())
            }
            e => EngineError::Away(e.to_string()),
        })?;
        let mut config = Config::new();
        config
            .user(user)
            .dbname(database)
            .application_name(&self.name)
            .channel_binding(*binding);
        let tls = Already(wire.server_end_point());
        // The connection is under TLS already, where it is to be.
        match &wire {
            Wire::Tls(_) => config
                .ssl_mode(SslMode::Require)
                .ssl_negotiation(SslNegotiation::Direct),
            Wire::Tcp(_) | Wire::Unix(_) => config.ssl_mode(SslMode::Disable),
        };
        if let Some(password) = password {
            config.password(password.expose_secret());
        }
        match timeout(CONNECT, config.connect_raw(wire, tls)).await {
            Ok(connected) => connected.map_err(login_error),
            Err(_) => Err(EngineError::Away(format!(
                "it took the connection and did not greet within {CONNECT:?}"
            ))),
        }
    }

    /// Gives a session its settings, and refuses a database that cannot be used.
    async fn prepare(&self, client: &Client) -> Result<(), EngineError> {
        let limit = self.login.timeout.as_millis();
        let settings = format!(
            "SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}; \
             {SETTINGS}"
        );
        let asked = async {
            let (set, state) = tokio::join!(
                biased;
                client.batch_execute(&settings),
                client.query_one(STATE, &[])
            );
            set.map_err(engine_error)?;
            usable(&state.map_err(engine_error)?)
        };
        self.answer(asked).await
    }

    /// Notes that the database is away, and tells of it: the first time, and then ever more seldom.
    fn away(&self, why: String) -> EngineError {
        let now = Instant::now();
        let mut outage = self.outage();
        let before = outage.take().unwrap_or(Outage {
            why: String::new(),
            wait: FIRST_WAIT / 2,
            until: now,
            since: now,
            tell_after: Duration::ZERO,
        });
        let lasts = now - before.since;
        let mut tell_after = before.tell_after;
        if lasts >= tell_after {
            tracing::error!(%why, away_s = lasts.as_secs(), "the database is away");
            tell_after = (tell_after * 2).max(TOLD_AGAIN);
        }
        let wait = (before.wait * 2).min(LONGEST_WAIT);
        *outage = Some(Outage {
            why: why.clone(),
            wait,
            until: now + wait,
            since: before.since,
            tell_after,
        });
        EngineError::Away(why)
    }

    fn outage(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The database says nothing.
pub fn silent(patience: Duration) -> EngineError {
    EngineError::Away(format!("it did not answer within {patience:?}"))
}

/// Refuses a database that cannot be used.
fn usable(state: &Row) -> Result<(), EngineError> {
    let (standby, encoding, version): (bool, &str, i32) = (
        state.try_get(0).map_err(engine_error)?,
        state.try_get(1).map_err(engine_error)?,
        state.try_get(2).map_err(engine_error)?,
    );
    if version < OLDEST {
        return Err(EngineError::Unusable(format!(
            "it is PostgreSQL {}; version 15 or later is needed",
            version / 10_000
        )));
    }
    if encoding != "UTF8" {
        return Err(EngineError::Unusable(format!(
            "the database's encoding is {encoding}; make one with ENCODING 'UTF8'"
        )));
    }
    if standby {
        return Err(EngineError::Away(
            "it is a standby, which is read-only: let CERTCTL_DATABASE_URL lead to the primary, by \
             an address that follows it"
                .to_owned(),
        ));
    }
    Ok(())
}

/// What a failed login means.
fn login_error(e: Error) -> EngineError {
    let said = e.as_db_error().map(|db| db.message().to_owned());
    match (e.code(), said) {
        (Some(code), Some(said)) if *code == SqlState::INVALID_PASSWORD => {
            EngineError::Password(said)
        }
        (Some(code), Some(said))
            if [
                &SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                &SqlState::INVALID_CATALOG_NAME,
                &SqlState::INSUFFICIENT_PRIVILEGE,
            ]
            .contains(&code) =>
        {
            let hint = if said.contains("no encryption") {
                "; it wants TLS: give sslmode=verify-full in CERTCTL_DATABASE_URL"
            } else {
                "; check user and database in CERTCTL_DATABASE_URL, and the server's pg_hba.conf"
            };
            EngineError::Unusable(format!("{said} (SQLSTATE {}){hint}", code.code()))
        }
        (None, None) if e.to_string().contains("authentication error") => {
            EngineError::Unusable(format!(
                "{}; channel_binding in CERTCTL_DATABASE_URL says whether a login must be bound to \
                 TLS",
                chain(&e)
            ))
        }
        (None, None) if chain(&e).contains("password missing") => EngineError::Unusable(
            "it wants a password, and CERTCTL_DATABASE_URL and CERTCTL_DATABASE_PASSWORD hold none"
                .to_owned(),
        ),
        _ => engine_error(e),
    }
}

/// What a failed statement means.
pub fn engine_error(e: Error) -> EngineError {
    let Some(db) = e.as_db_error() else {
        return EngineError::Away(chain(&e));
    };
    let code = db.code().code();
    let said = format!("{} (SQLSTATE {code})", db.message());
    match code {
        // A count below 0, a damaged table or index.
        "23514" | "XX001" | "XX002" => EngineError::Corrupt(said),
        "25006" => EngineError::Away(format!(
            "it is read-only ({said}): where it is a standby, let CERTCTL_DATABASE_URL lead to the \
             primary; else end that there, as by `ALTER DATABASE <it> RESET \
             default_transaction_read_only`"
        )),
        // It stops, starts or is full; somebody ended the statement or session; or it took too long.
        "57014" | "55P03" => EngineError::Away(said),
        _ if ["08", "40", "53", "57P", "58"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            EngineError::Away(said)
        }
        _ => EngineError::Refused(said),
    }
}

/// An error with its causes.
fn chain(e: &Error) -> String {
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}
