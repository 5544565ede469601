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
