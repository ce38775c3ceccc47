//! The dashboard: server-rendered pages, a file per page.
