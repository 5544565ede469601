//! The `ETag` of Django's `ConditionalGetMiddleware`.

use hyper::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue};
use md5::{Digest as _, Md5};

use crate::text::hex;

/// Adds the tag that the middleware adds to such a page, if it adds one.
pub(crate) fn add_etag(headers: &mut HeaderMap, body: &[u8]) {
    // "if not response.streaming and response.content" (set_response_etag)
    if !body.is_empty() && needs_etag(headers) {
        // "quote_etag(md5(response.content).hexdigest())"
        let mut tag = [b'"'; 34];
        hex(&Md5::digest(body), &mut tag[1..33]);
        headers.extend(HeaderValue::from_bytes(&tag).map(|tag| (ETAG, tag)));
    }
}

/// Whether the middleware would add a tag: there is none, and no member of `Cache-Control` is `no-store`.
pub(crate) fn needs_etag(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let mut members = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    !headers.contains_key(ETAG)
        && members.all(|member| !member.trim_ascii().eq_ignore_ascii_case(b"no-store"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_the_md5_of_the_content() {
        for (lines, body, expected) in [
            // printf hi | md5sum
            (&[][..], "hi", Some("\"49f68a5c8493ec2c0bf489821c21fc3b\"")),
            (
                &[("cache-control", "max-age=60, x-no-store")],
                "hi",
                Some("\"49f68a5c8493ec2c0bf489821c21fc3b\""),
            ),
            (&[("etag", "W/\"own\"")], "hi", Some("W/\"own\"")),
            (&[("cache-control", "max-age=60 , No-Store")], "hi", None),
            (&[], "", None),
        ] {
            let line = |&(name, value): &(&'static str, &'static str)| {
                (name.parse().unwrap(), HeaderValue::from_static(value))
            };
            let mut headers: HeaderMap = lines.iter().map(line).collect();
            add_etag(&mut headers, body.as_bytes());
            assert_eq!(headers.get(ETAG).map(|tag| tag.to_str().unwrap()), expected, "{lines:?} {body:?}");
        }
    }
}
