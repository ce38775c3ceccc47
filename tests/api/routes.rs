//! The routes, read from the router's own source: a route without an entry in the tables of
//! these tests fails them.

use std::collections::BTreeSet;
use syn::{Expr, ExprMethodCall, Lit, visit::Visit};

const ROUTER: &str = include_str!("../../src/api/router.rs");
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Every `METHOD /path`.
pub fn all() -> BTreeSet<String> {
    let mut routes = Routes::default();
    routes.visit_file(&syn::parse_file(ROUTER).unwrap());
    routes.0
}

#[derive(Default)]
struct Routes(BTreeSet<String>);

impl<'ast> Visit<'ast> for Routes {
    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if call.method == "route" {
            let path = match call.args.first() {
                Some(Expr::Lit(path)) => match &path.lit {
                    Lit::Str(path) => path.value(),
                    _ => panic!("a route whose path is no text"),
                },
                _ => panic!("a route whose path is not written where it is routed"),
            };
            let base = match path.as_str() {
                "/health" | "/ready" => "",
                path if path.starts_with("/.well-known/") => "",
                _ => "/api/v1",
            };
            let methods = methods(&call.args[1]);
            assert!(!methods.is_empty(), "{path} takes no method");
            for method in methods {
                self.0.insert(format!("{method} {base}{path}"));
            }
        }
        syn::visit::visit_expr_method_call(self, call);
    }
}

/// The methods of `get(..).post(..)`.
fn methods(handler: &Expr) -> Vec<String> {
    let (name, before) = match handler {
        Expr::Call(call) => match &*call.func {
            Expr::Path(path) => (path.path.segments.last().unwrap().ident.to_string(), None),
            _ => panic!("a route that is not written as method(handler)"),
        },
        Expr::MethodCall(call) => (call.method.to_string(), Some(&*call.receiver)),
        _ => panic!("a route that is not written as method(handler)"),
    };
    assert!(METHODS.contains(&name.as_str()), "{name} is no method");
    let mut methods = before.map(methods).unwrap_or_default();
    methods.push(name.to_uppercase());
    methods
}

#[test]
fn routes_are_read_from_the_source() {
    let routes = all();
    assert!(routes.contains("GET /health"));
    assert!(routes.contains("GET /api/v1/certificates"));
    assert!(routes.contains("POST /api/v1/certificates"));
    assert!(routes.contains("POST /api/v1/agents/{id}/jobs/{job}/report"));
}
