//! REST: one screen of routes, a file per resource.
