//! The routes, as the document names them: a route without an entry in the tables of these tests
//! fails them.

use certctl::api;
use std::collections::BTreeSet;
use syn::{ExprMethodCall, visit::Visit};

const ROUTER: &str = include_str!("../../src/api/router.rs");

/// Every `METHOD /path needs <x-permission>`.
pub fn with_needs() -> BTreeSet<String> {
    let document = api::document();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| {
            let needs = operation["x-permission"].as_str().unwrap();
            format!("{} {path} needs {needs}", method.to_uppercase())
        })
    });
    operations.collect()
}

#[test]
fn routes_are_known() {
    let routes = with_needs();
    for route in [
        "GET /health needs none",
        "GET /api/v1/certificates needs cert.read",
        "POST /api/v1/agents/{id}/jobs/{job}/report needs agent",
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
