//! The dashboard: server-rendered pages, a file per page.

/// Routes.
pub fn router() -> axum::Router<std::sync::Arc<crate::app::App>> {
    axum::Router::new()
}
