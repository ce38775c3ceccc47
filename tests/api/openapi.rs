//! The OpenAPI document: whole, consistent, and what was agreed.

use crate::support::TestApp;
use certctl::{access::Permission, api};
use quote::ToTokens;
use serde_json::Value;
use std::{collections::BTreeSet, fs};
use syn::{FnArg, Item, ItemFn, Type};

const GOLDEN: &str = "tests/golden/openapi.json";

/// What clients rely on does not change unseen.
#[tokio::test]
async fn it_is_served_to_anyone_as_it_was_agreed() {
    let app = TestApp::start().await;
    let answer = app.call("GET", "/api/v1/openapi.json").send().await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let served = answer.text.clone();
    answer.expect(200);
    if std::env::var_os("CERTCTL_TEST_BLESS").is_some() {
        fs::write(GOLDEN, &served).unwrap();
    }
    let agreed = fs::read_to_string(GOLDEN).unwrap_or_default();
    let differs = served.lines().zip(agreed.lines()).find(|(s, a)| s != a);
    assert!(
        served == agreed,
        "the document is another than {GOLDEN}, first here: {differs:?}\nif that is meant: \
         CERTCTL_TEST_BLESS=1 cargo test --test tests -- api::openapi, and look at the difference"
    );
}

#[test]
fn every_operation_is_told_whole() {
    let document = api::document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut names = BTreeSet::new();
    let mut faults = Vec::new();
    each(&document, |route, operation| {
        let mut fault = |text: &str| faults.push(format!("{route}: {text}"));
        if !names.insert(operation["operationId"].as_str().unwrap().to_owned()) {
            fault("another operation has its name");
        }
        if operation["summary"].as_str().is_none_or(str::is_empty) {
            fault("no summary");
        }
        let needs = operation["x-permission"].as_str().unwrap_or_default();
        let words = ["none", "authenticated", "agent"];
        let permission = Permission::ALL.iter().any(|p| p.as_str() == needs);
        if !permission && !words.contains(&needs) {
            fault("x-permission names no permission");
        }
        let answers = operation["responses"].as_object().unwrap();
        if !answers.keys().any(|status| status.starts_with('2')) {
            fault("no answer when all is well");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = &parameter["name"];
            if parameter["description"].as_str().is_none_or(str::is_empty) {
                fault(&format!("{name} is not described"));
            }
            let in_path = route.contains(&format!("{{{}}}", name.as_str().unwrap()));
            if (parameter["in"] == "path") != in_path {
                fault(&format!("{name} is not where the path has it"));
            }
        }
    });
    assert!(names.len() > 40, "only {} operations", names.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_reference_leads_somewhere() {
    let document = api::document();
    let mut dead = Vec::new();
    walk(&document, &mut |value| {
        if let Some(Value::String(reference)) = value.get("$ref") {
            let place = reference.strip_prefix('#').unwrap();
            if document.pointer(place).is_none() {
                dead.push(reference.clone());
            }
        }
    });
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// A handler's annotation names the query and the body that the handler reads.
#[test]
fn every_query_and_body_is_told() {
    let mut handlers = 0;
    let mut untold = Vec::new();
    for file in fs::read_dir("src/api")
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if file.is_dir() {
            continue;
        }
        for item in syn::parse_file(&fs::read_to_string(&file).unwrap())
            .unwrap()
            .items
        {
            let Item::Fn(handler) = item else { continue };
            let Some(told) = annotation(&handler) else {
                continue;
            };
            handlers += 1;
            let named = handler.sig.inputs.to_token_stream().to_string();
            let once = named.contains("New <") || named.contains("headers");
            if told.contains("201") && told.contains("key") && !once {
                untold.push(format!(
                    "{}: its Idempotency-Key is not read",
                    handler.sig.ident
                ));
            }
            for read in handler.sig.inputs.iter().filter_map(read) {
                if !told.contains(&read) {
                    untold.push(format!("{}: {}: {read}", file.display(), handler.sig.ident));
                }
            }
        }
    }
    assert!(handlers > 40, "only {handlers} handlers were found");
    assert!(untold.is_empty(), "{}", untold.join("\n"));
}

/// The words of `#[utoipa::path(...)]`.
fn annotation(handler: &ItemFn) -> Option<BTreeSet<String>> {
    let last = |a: &&syn::Attribute| a.path().segments.last().is_some_and(|s| s.ident == "path");
    let attribute = handler.attrs.iter().find(last)?;
    let tokens = attribute.meta.to_token_stream().to_string();
    let words = tokens.split(|c: char| !c.is_alphanumeric() && c != '_');
    Some(words.map(str::to_owned).collect())
}

/// The type within `Query<..>`, `Body<..>` and their like.
fn read(argument: &FnArg) -> Option<String> {
    let FnArg::Typed(argument) = argument else {
        return None;
    };
    let Type::Path(path) = &*argument.ty else {
        return None;
    };
    let last = path.path.segments.last()?;
    let extractor = last.ident.to_string();
    if !extractor.starts_with("Query") && !extractor.ends_with("Body") && extractor != "New" {
        return None;
    }
    let inner = last.arguments.to_token_stream().to_string();
    Some(inner.trim_matches(['<', '>', ' ']).to_owned())
}

fn each(document: &Value, mut look: impl FnMut(&str, &Value)) {
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            look(&format!("{} {path}", method.to_uppercase()), operation);
        }
    }
}

fn walk(value: &Value, look: &mut impl FnMut(&Value)) {
    look(value);
    match value {
        Value::Array(values) => values.iter().for_each(|v| walk(v, look)),
        Value::Object(members) => members.values().for_each(|v| walk(v, look)),
        _ => {}
    }
}
