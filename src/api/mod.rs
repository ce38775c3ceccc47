//! REST under `/api/v1`: one screen of routes, a file per resource. Handlers turn words into use
//! cases and answers into words; every rule is in [`app`](crate::app).

mod agents;
mod audit;
mod auth;
mod backups;
mod body;
mod bulk;
mod certificates;
mod conditional;
mod cross_origin;
mod doctor;
mod documents;
mod ending;
mod extract;
mod fence;
mod issuers;
mod job_shapes;
mod jobs;
mod keys;
mod limit;
mod metrics;
mod observe;
mod openapi;
mod pages;
mod problem;
mod roles;
mod router;
mod secrets;
pub mod served;
pub mod shapes;
mod stats;
mod storage;
mod targets;
mod unread;
mod violations;

pub use extract::{Caller, SESSION_COOKIE, session_cookie};
pub use limit::Client;
pub use openapi::document;
pub use problem::Problem;
pub use router::{plain_router, router, waiting_router};
