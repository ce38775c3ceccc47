//! The routes, as the document names them: a route without an entry in the tables of these tests
//! fails them.

use certctl::api;
use std::collections::BTreeSet;
use syn::{ExprMethodCall, visit::Visit};

const ROUTER: &str = include_str!("../../src/api/router.rs");

/// Every `METHOD /path`.
pub fn all() -> BTreeSet<String> {
    let document = api::document();
    let paths = document["paths"].as_object().unwrap();
    let methods = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    methods.collect()
}

#[test]
fn routes_are_known() {
    let routes = all();
    for route in [
        "GET /health",
        "GET /api/v1/certificates",
        "POST /api/v1/certificates",
        "POST /api/v1/agents/{id}/jobs/{job}/report",
    ] {
        assert!(routes.contains(route), "{route} is not in the document");
    }
}

/// `routes!` routes a handler and documents it: what is routed in another way would be unknown.
#[test]
fn the_document_has_every_route() {
    struct Calls(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Calls {
        fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
            self.0.insert(call.method.to_string());
            syn::visit::visit_expr_method_call(self, call);
        }
    }
    let mut calls = Calls(BTreeSet::new());
    calls.visit_file(&syn::parse_file(ROUTER).unwrap());
    assert!(calls.0.contains("routes"));
    for other in ["route", "route_service", "nest_service", "fallback_service"] {
        assert!(!calls.0.contains(other), "`.{other}()` is not documented");
    }
}
