//! Sitemaps (sitemaps.org): lists of pages, or of further sitemaps.

use roxmltree::{Document, Node};

/// The pages, and the further sitemaps, that a sitemap names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sitemap {
    pub(super) pages: Vec<String>,
    pub(super) sitemaps: Vec<String>,
}

impl Sitemap {
    /// Reads a sitemap.
    pub(super) fn of(text: &str) -> Result<Self, String> {
        let document = Document::parse(text).map_err(|error| format!("is no sitemap: {error}"))?;
        let places = |parent: &str| {
            let locations = document.descendants().filter(|node| is(node, "loc"));
            let below = locations.filter(|node| node.parent().is_some_and(|node| is(&node, parent)));
            below.filter_map(|node| Some(node.text()?.trim().to_owned())).collect()
        };
        match document.root_element().tag_name().name() {
            "urlset" | "sitemapindex" => Ok(Self { pages: places("url"), sitemaps: places("sitemap") }),
            other => Err(format!("is no sitemap: its element is <{other}>")),
        }
    }
}

/// Whether an element has this name. Old sitemaps have another namespace, or none.
fn is(node: &Node<'_, '_>, name: &str) -> bool {
    node.tag_name().name() == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sitemap_names_pages_or_sitemaps() {
        let pages = r#"<?xml version="1.0" encoding="UTF-8"?>
            <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
              <url><loc>http://h/a?b=1&amp;c=2</loc><lastmod>2026-01-01</lastmod></url>
              <url><loc> http://h/b/ </loc><image:image><image:loc>http://h/i.png</image:loc></image:image></url>
            </urlset>"#;
        let expected = ["http://h/a?b=1&c=2", "http://h/b/"].map(str::to_owned).into();
        assert_eq!(Sitemap::of(pages), Ok(Sitemap { pages: expected, sitemaps: Vec::new() }));
        let index = "<sitemapindex><sitemap><loc>http://h/s.xml</loc></sitemap></sitemapindex>";
        let sitemaps = vec!["http://h/s.xml".to_owned()];
        assert_eq!(Sitemap::of(index), Ok(Sitemap { pages: Vec::new(), sitemaps }));
    }

    #[test]
    fn what_is_no_sitemap_is_said() {
        for (text, fault) in [
            ("", "is no sitemap: "),
            ("<html/>", "is no sitemap: its element is <html>"),
            ("<urlset>", "is no sitemap: "),
            ("<!DOCTYPE u [<!ENTITY a \"b\">]><urlset>&a;</urlset>", "is no sitemap: "),
        ] {
            assert!(Sitemap::of(text).unwrap_err().starts_with(fault), "{text}");
        }
    }
}
