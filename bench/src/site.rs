//! The pages of the article's site, and their keys in Redis.

/// A page of the site.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) path: &'static str,
    /// Its key if it is cached: the path, then the md5 of the query.
    pub(crate) key: Option<&'static str>,
}

pub(crate) const NAIVE: Page = Page { path: "/api/properties/live/naive/", key: None };

pub(crate) const OPTIMIZED: Page = Page { path: "/api/properties/live/optimized/", key: None };

pub(crate) const CACHED: Page = Page {
    path: "/api/properties/cached/",
    key: Some(
        ":1:views.decorators.cache.cache_page.GET./api/properties/cached/.d41d8cd98f00b204e9800998ecf8427e",
    ),
};

pub(crate) const CACHED_SECOND: Page = Page {
    path: "/api/properties/cached/?page=2",
    key: Some(
        ":1:views.decorators.cache.cache_page.GET./api/properties/cached/.46589c7afd19c01453073936936c2a84",
    ),
};

/// The first page under another query, so that earlier steps cannot have cached it.
pub(crate) const CACHED_BOMBARDED: Page = Page {
    path: "/api/properties/cached/?page=1",
    key: Some(
        ":1:views.decorators.cache.cache_page.GET./api/properties/cached/.2679a79d5547b59d7d2585cdca30fedd",
    ),
};

/// The list query of the naive page, as the origin sends it.
pub(crate) const LIST_QUERY: &str =
    r#"SELECT * FROM "housing_property" ORDER BY "housing_property"."created_at" DESC LIMIT 20"#;

/// The first property of a listing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct First {
    pub(crate) id: u64,
    pub(crate) price: f64,
}

impl First {
    /// Reads the body of a page; `None` if it is no listing, or an empty one.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        let listing: serde_json::Value = serde_json::from_slice(body).ok()?;
        let first = &listing["results"][0];
        Some(Self { id: first["id"].as_u64()?, price: first["price"].as_str()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_property_of_a_listing_has_an_id_and_a_price() {
        let listing = br#"{"results": [{"id": 7, "price": "12.50"}, {"id": 6, "price": "1.00"}]}"#;
        assert_eq!(First::of(listing), Some(First { id: 7, price: 12.5 }));
        for other in [&b""[..], b"{}", br#"{"results": []}"#] {
            assert_eq!(First::of(other), None);
        }
    }
}
