//! Holds the shape of the source: who may import whom, and what only one module may name.
//! `src/lib.rs` is the map; the tables here are the rules that it states.
//!
//! The source is read as Rust's own tokens: a word in a string or a comment counts for nothing, a
//! path inside a macro counts.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use std::{fs, path::Path};

/// The layers of the map. Imports go down, or stay in their layer; the core's pure values may be
/// imported from everywhere.
const LAYERS: [&[&str]; 5] = [
    &["api", "bench", "cli", "protocol", "web"],
    &["app", "jobs", "reconcile"],
    CORE,
    &["agent", "ca", "deploy", "store"],
    &[
        "access",
        "clock",
        "config",
        "crypt",
        "id",
        "net",
        "sys",
        "telemetry",
    ],
];
const CORE: &[&str] = &["domain", "pki"];

/// What each may import of the others; `a::b` is that part of `a` alone. The first row that a
/// file's path begins with is the file's row.
const MAY_IMPORT: &[(&str, &str)] = &[
    ("lib.rs", ""),
    ("main.rs", "cli"),
    // Doors turn outside words into use cases: never the store, a CA or a deployment.
    (
        "api",
        "web protocol app domain agent::protocol access clock id net telemetry",
    ),
    // These put processes together.
    (
        "bench",
        "api app domain pki agent::protocol store clock config crypt id net sys",
    ),
    (
        "cli/host.rs",
        "api app reconcile agent pki clock config crypt net sys",
    ),
    ("cli/quickstart.rs", "api app agent config net sys"),
    ("cli/agent.rs", "agent clock config crypt id net sys"),
    ("cli/error.rs", "app agent config net"),
    ("cli", "api app bench clock config id net sys telemetry"),
    ("protocol", "api::Problem app clock id"),
    (
        "web",
        "api::Caller api::Client api::Problem api::SESSION_COOKIE api::session_cookie app domain access clock id telemetry",
    ),
    // The middle decides and commits.
    (
        "app",
        "jobs domain pki agent::protocol ca deploy store \
         access clock config crypt id net sys telemetry",
    ),
    ("jobs", "domain clock id"),
    ("reconcile", "app domain store clock id"),
    // The core knows what a moment, an id and a permission are, and nothing else of the world.
    (
        "domain",
        "pki access::Permission access::Permissions access::Role clock id",
    ),
    ("pki", "domain clock id"),
    // Adapters reach outside and know nothing of who uses them.
    ("agent", "deploy pki clock crypt id net sys"),
    ("ca", "pki clock crypt id net"),
    ("deploy", "pki clock crypt id net sys"),
    ("store", "domain clock crypt id net sys telemetry"),
    ("access", ""),
    ("clock", ""),
    ("config", "access crypt telemetry"),
    ("crypt", "pki clock id"),
    ("id", "clock"),
    ("net", "pki clock sys"),
    ("sys", ""),
    ("telemetry", ""),
];

/// What only these modules may name: a path, a field `.x` or a method's call `.x()`.
const NAMED_ONLY_IN: &[(&str, &str)] = &[
    ("redb", "store"),
    ("prometheus", "telemetry"),
    ("tokio_postgres", "store"),
    // Decisions are made in the middle: nobody else begins or builds a batch.
    ("crate::store::Batch", "app jobs reconcile store"),
    ("crate::store::Unit", "app bench jobs reconcile store"),
    (".unit()", "app bench jobs reconcile store"),
    (".store", "app bench jobs reconcile store"),
    // Sockets are opened and names are resolved where addresses are guarded and time is bounded.
    ("hickory_resolver", "net"),
    ("tokio::net", "net"),
    ("std::net::TcpListener", "net"),
    ("std::net::TcpStream", "net"),
    ("std::net::UdpSocket", "net"),
    ("std::os::unix::net", "net"),
    ("libc", "sys"),
];

/// What the core may not name: input and output, the clock, a runtime.
const NEVER_IN_CORE: &[&str] = &[
    "tokio",
    "tokio_util",
    "futures_util",
    "axum",
    "hyper",
    "hyper_util",
    "nix",
    "rustls",
    "std::env",
    "std::fs",
    "std::io",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

#[test]
fn imports_go_down_the_map() {
    let mut faults = Vec::new();
    let mut files = 0;
    each_source(Path::new("src"), &mut |file, source| {
        files += 1;
        faults.extend(faults_of(file, source));
    });
    assert!(files > 50, "only {files} files were read");
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_rules_follow_the_map() {
    let map: Vec<String> = {
        let tokens: TokenStream = fs::read_to_string("src/lib.rs")
            .expect("src/lib.rs")
            .parse()
            .expect("Rust");
        let words: Vec<String> = tokens.into_iter().map(|t| t.to_string()).collect();
        let modules = words.windows(2).filter(|w| w[0] == "mod");
        modules.map(|w| w[1].clone()).collect()
    };
    assert_eq!(map, LAYERS.concat(), "src/lib.rs and LAYERS differ");

    let rows: Vec<&str> = MAY_IMPORT.iter().map(|(who, _)| *who).collect();
    let modules: Vec<&str> = rows
        .iter()
        .copied()
        .filter(|who| !who.ends_with(".rs"))
        .collect();
    assert_eq!(modules, LAYERS.concat(), "MAY_IMPORT has other rows");

    let layer = |module: &str| LAYERS.iter().position(|l| l.contains(&module));
    for (who, may) in MAY_IMPORT {
        let own = layer(who.split('/').next().unwrap_or(who));
        for module in may.split_whitespace().map(|m| m.split("::").next()) {
            let module = module.expect("a module");
            let down = layer(module).expect("a module of the map") >= own.unwrap_or(0);
            assert!(
                down || CORE.contains(&module),
                "{who} would import {module} upwards"
            );
        }
    }
}

#[test]
fn a_violation_is_found_where_it_is() {
    for (file, source, fault) in [
        (
            "web/page.rs",
            "\nuse crate::{app::App, store::Unit};",
            "src/web/page.rs:2: web may not import crate::store::Unit",
        ),
        (
            "api/x.rs",
            "fn f() { tokio::select! { _ = crate::ca::sign() => {} } }",
            "src/api/x.rs:1: api may not import crate::ca::sign",
        ),
        (
            "api/x.rs",
            "use crate::agent::{\n    protocol::Work,\n    Agent,\n};",
            "src/api/x.rs:3: api may not import crate::agent::Agent",
        ),
        (
            "api/x.rs",
            "use super::super::deploy as d;",
            "src/api/x.rs:1: api may not import crate::deploy",
        ),
        (
            "pki/mod.rs",
            "use super::store;",
            "src/pki/mod.rs:1: pki may not import crate::store",
        ),
        (
            "store/mod.rs",
            "pub use crate::*;",
            "src/store/mod.rs:1: store may not import crate::*",
        ),
        (
            "main.rs",
            "fn main() { certctl::app::run() }",
            "src/main.rs:1: main.rs may not import crate::app::run",
        ),
        (
            "cli/server.rs",
            "async fn f(h: &Host) { h.app.store.close().await }",
            "src/cli/server.rs:1: cli may not name .store",
        ),
        (
            "api/x.rs",
            "fn f(app: &App) { let u = app.unit(); }",
            "src/api/x.rs:1: api may not name .unit()",
        ),
        (
            "app/x.rs",
            "use {redb::Database};",
            "src/app/x.rs:1: app may not name redb::Database",
        ),
        (
            "deploy/x.rs",
            "fn f() { tokio::net::TcpStream::connect(a) }",
            "src/deploy/x.rs:1: deploy may not name tokio::net::TcpStream::connect",
        ),
        (
            "domain/x.rs",
            "use std::{fmt, time::{Duration, SystemTime}};",
            "src/domain/x.rs:1: domain may not name std::time::SystemTime",
        ),
        (
            "utils/x.rs",
            "fn f() {}",
            "src/utils/x.rs: stands in no row of tests/layout.rs",
        ),
    ] {
        assert_eq!(faults_of(file, source), [fault], "{source}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    for (file, source) in [
        ("api/x.rs", "use crate::app::{self, App}; // crate::store"),
        ("api/x.rs", "/// [`x`](crate::store)\nfn f() {}"),
        ("api/x.rs", r#"const S: &str = "crate::store";"#),
        ("store/x.rs", "pub(in crate::store) use redb::Database;"),
        ("app/x.rs", "use crate::agent::protocol;"),
        ("app/x.rs", "fn f() { self.unit().await }"),
        (
            "api/x.rs",
            "pub(crate) fn f(flag: &AtomicBool) { flag.store(true) }",
        ),
        ("cli/x.rs", "use super::host::{self, Host};"),
        ("pki/x.rs", "use std::time::Duration;"),
    ] {
        assert_eq!(faults_of(file, source), [""; 0], "{source}");
    }
}

/// Calls `visit` with each Rust file below `dir`: its path from `src` on, and its text.
fn each_source(dir: &Path, visit: &mut impl FnMut(&str, &str)) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            each_source(&path, visit);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let file = path.strip_prefix("src").expect("below src");
            let text = fs::read_to_string(&path).expect("text");
            visit(file.to_str().expect("an ASCII name"), &text);
        }
    }
}

/// What breaks the rules in the file `src/<file>`.
fn faults_of(file: &str, source: &str) -> Vec<String> {
    let Some((who, may)) = MAY_IMPORT.iter().find(|(who, _)| owns(who, file)) else {
        return vec![format!("src/{file}: stands in no row of tests/layout.rs")];
    };
    let module = who.split('/').next().unwrap_or(who);
    let mut seen = Vec::new();
    named(source.parse().expect("Rust"), "", &mut seen);
    let mut faults = Vec::new();
    for (path, line) in seen {
        let path = absolute(&path, file);
        let mut fault =
            |verb: &str| faults.push(format!("src/{file}:{line}: {module} may not {verb} {path}"));
        if let Some(import) = path.strip_prefix("crate::")
            && !within(import, module)
            && !may.split_whitespace().any(|m| within(import, m))
        {
            fault("import");
        } else if NAMED_ONLY_IN.iter().any(|(name, modules)| {
            within(&path, name) && !modules.split_whitespace().any(|m| m == module)
        }) || CORE.contains(&module)
            && NEVER_IN_CORE.iter().any(|name| within(&path, name))
        {
            fault("name");
        }
    }
    faults
}

/// Whether a row's file or folder holds `file`.
fn owns(who: &str, file: &str) -> bool {
    file.strip_prefix(who)
        .is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

/// Whether `path` is `root` or lies in it.
fn within(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `path` from the crate's root on, where it is one of ours.
fn absolute(path: &str, file: &str) -> String {
    let stem = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let mut module: Vec<&str> = stem.split('/').collect();
    let mut rest = path;
    if let Some(path) = rest.strip_prefix("certctl::") {
        return format!("crate::{path}");
    }
    if !rest.starts_with("super::") {
        return path.to_owned();
    }
    while let Some(path) = rest.strip_prefix("super::") {
        module.pop();
        rest = path;
    }
    module.insert(0, "crate");
    format!("{}::{rest}", module.join("::"))
}

/// Collects what `tokens` name, with the lines: each path in full (those of a `use` group with
/// what stands before the group), each field as `.x` and each method's call as `.x()`.
fn named(tokens: TokenStream, prefix: &str, seen: &mut Vec<(String, usize)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut i = 0;
    while i < tokens.len() {
        match &tokens[i] {
            TokenTree::Group(group) => named(group.stream(), "", seen),
            TokenTree::Ident(word) if member(&tokens[..i]) => {
                let call = matches!(tokens.get(i + 1), Some(TokenTree::Group(g))
                    if g.delimiter() == Delimiter::Parenthesis);
                let call = if call { "()" } else { "" };
                seen.push((format!(".{word}{call}"), line(word.span())));
            }
            TokenTree::Ident(word) if word == "as" && !prefix.is_empty() => i += 1,
            TokenTree::Ident(word) => {
                let mut path = format!("{prefix}{word}");
                let group = loop {
                    match after_colons(&tokens[i + 1..]) {
                        Some(TokenTree::Ident(next)) => path = format!("{path}::{next}"),
                        Some(TokenTree::Punct(p)) if p.as_char() == '*' => path += "::*",
                        Some(TokenTree::Group(group)) => break Some(group),
                        _ => break None,
                    }
                    i += 3;
                };
                if let Some(group) = group {
                    named(group.stream(), &format!("{path}::"), seen);
                    i += 3;
                } else {
                    let path = path.strip_suffix("::self").unwrap_or(&path);
                    seen.push((path.to_owned(), line(word.span())));
                }
            }
            _ => {}
        }
        i += 1;
    }
}

/// Whether a dot, and no range, stands last.
fn member(before: &[TokenTree]) -> bool {
    let dot = |t: Option<&TokenTree>| matches!(t, Some(TokenTree::Punct(p)) if p.as_char() == '.');
    let mut back = before.iter().rev();
    dot(back.next()) && !dot(back.next())
}

/// What follows `::` at the beginning of `tokens`.
fn after_colons(tokens: &[TokenTree]) -> Option<&TokenTree> {
    let colon = |t: &TokenTree| matches!(t, TokenTree::Punct(p) if p.as_char() == ':');
    match tokens {
        [first, second, next, ..] if colon(first) && colon(second) => Some(next),
        _ => None,
    }
}

fn line(span: Span) -> usize {
    span.start().line
}
