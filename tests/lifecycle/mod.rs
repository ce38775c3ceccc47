//! The life of certificates under simulated time, with scripted agents: what must always hold is
//! checked after every step, and each story is told once more with a crash after every step.

mod attention;
mod budget;
mod cut;
mod demand;
mod deployment;
mod gap;
mod issuers;
mod leader;
mod loss;
mod observation;
mod outdated;
mod renewal;
mod restored;
mod retention;
mod retirement;
mod revocation;
mod room;
mod shared;
mod start;
mod walk;

/// Tests a story, `async fn(TestApp)`, as it is and with a crash after every step.
macro_rules! story {
    ($name:ident) => {
        mod $name {
            #[tokio::test]
            async fn goes_well() {
                super::$name(crate::support::TestApp::start().await).await;
            }

            #[tokio::test]
            async fn survives_a_crash_at_every_step() {
                super::$name(crate::support::TestApp::start_crashing().await).await;
            }
        }
    };
}
use story;
