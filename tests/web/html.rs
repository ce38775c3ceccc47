//! HTML, parsed as browsers parse it.

use html5ever::{ParseOpts, parse_document, tendril::TendrilSink};
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use std::collections::BTreeSet;

pub struct Html(RcDom);

/// An element.
#[derive(Clone)]
pub struct Element(Handle);

impl Html {
    /// A document, in which a parser finds no fault.
    pub fn page(text: &str) -> Self {
        let dom = parse_document(RcDom::default(), ParseOpts::default()).one(text);
        assert!(dom.errors.borrow().is_empty(), "{:?}\n{text}", dom.errors);
        Self(dom)
    }

    pub fn all(&self, name: &str) -> Vec<Element> {
        Element(self.0.document.clone()).all(name)
    }

    /// The only element of this name.
    pub fn one(&self, name: &str) -> Element {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "elements {name}");
        all.into_iter().next().unwrap()
    }

    pub fn by_id(&self, id: &str) -> Option<Element> {
        let found = |e: &Element| e.attr("id").is_some_and(|i| i == id);
        self.all("*").into_iter().find(found)
    }

    pub fn text(&self) -> String {
        self.one("body").text()
    }

    /// What every page owes to whoever reads it, by eye or otherwise, and to the policy that lets
    /// no script or style but files of ours in.
    pub fn assert_accessible(&self) {
        assert_eq!(self.one("html").attr("lang").as_deref(), Some("en"));
        assert!(!self.one("title").text().is_empty());
        for landmark in ["header", "main", "h1"] {
            self.one(landmark);
        }
        let skip = &self.all("a")[0];
        let aim = skip.attr("href").unwrap();
        assert!(self.by_id(aim.trim_start_matches('#')).is_some(), "{aim}");
        let mut ids = BTreeSet::new();
        for e in self.all("*") {
            if let Some(id) = e.attr("id") {
                assert!(ids.insert(id.clone()), "two elements {id}");
            }
            for (name, value) in e.attrs() {
                let inline = name == "style" || name.starts_with("on") || name.contains("hx-on");
                assert!(!inline, "{name}={value:?}");
                let address = matches!(name.as_str(), "src" | "href" | "action" | "hx-get");
                let ours = value.starts_with('/') && !value.starts_with("//");
                assert!(
                    !address || ours || value.starts_with('#'),
                    "{name}={value:?}"
                );
            }
        }
        for e in self.all("*") {
            for name in ["aria-labelledby", "aria-describedby", "for"] {
                for aim in e.attr(name).unwrap_or_default().split_whitespace() {
                    assert!(ids.contains(aim), "{name}={aim}");
                }
            }
        }
        assert!(self.all("style").is_empty());
        for script in self.all("script") {
            assert!(script.attr("src").is_some() && script.text().is_empty());
        }
        for svg in self.all("svg") {
            assert_eq!(svg.attr("aria-hidden").as_deref(), Some("true"));
        }
        for image in self.all("img") {
            assert!(image.attr("alt").is_some());
        }
        for table in self.all("table") {
            assert_eq!(table.all("caption").len(), 1);
            assert!(table.all("th").iter().all(|th| th.attr("scope").is_some()));
        }
        for time in self.all("time") {
            let at = time.attr("datetime").unwrap();
            at.parse::<certctl::clock::Time>().unwrap();
        }
    }
}

impl Element {
    /// The elements inside of this name, `*` for all, in order.
    pub fn all(&self, name: &str) -> Vec<Element> {
        let mut found = Vec::new();
        for child in self.0.children.borrow().iter() {
            let child = Element(child.clone());
            if let NodeData::Element { name: n, .. } = &child.0.data
                && (name == "*" || &*n.local == name)
            {
                found.push(child.clone());
            }
            found.extend(child.all(name));
        }
        found
    }

    pub fn attrs(&self) -> Vec<(String, String)> {
        let NodeData::Element { attrs, .. } = &self.0.data else {
            return Vec::new();
        };
        let attrs = attrs.borrow();
        let pairs = attrs.iter();
        pairs
            .map(|a| (a.name.local.to_string(), a.value.to_string()))
            .collect()
    }

    pub fn attr(&self, name: &str) -> Option<String> {
        let found = self.attrs().into_iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value)
    }

    /// What is read, with single spaces.
    pub fn text(&self) -> String {
        fn gather(node: &Handle, into: &mut String) {
            if let NodeData::Text { contents } = &node.data {
                into.push_str(&contents.borrow());
            }
            for child in node.children.borrow().iter() {
                gather(child, into);
            }
        }
        let mut text = String::new();
        gather(&self.0, &mut text);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
