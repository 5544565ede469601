//! Reads values that Django 4.2, 5.2 and 6.0 stored, and hand-made ones, from `tests/django/values`. `values.json` and
//! `foreign.json` there say what each contains and how Django serves it.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use proxy::pickle::{
    Compressor, PickledPage, Protocol, compress, decompress, read_list, read_page, write_list, write_page,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// More than the length of any vector.
const LIMIT: usize = 1 << 20;

/// The folder of the vectors.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/django/values")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn bytes(path: &Path) -> Bytes {
    std::fs::read(path).unwrap().into()
}

/// All vectors, with their names.
fn vectors() -> Vec<(String, Bytes)> {
    let mut vectors = Vec::new();
    for folder in [folder(), folder().join("foreign")] {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.contains(".pickle") {
                vectors.push((name, bytes(&path)));
            }
        }
    }
    vectors.sort();
    assert!(vectors.len() > 280, "{}", vectors.len());
    vectors
}

fn fields(pairs: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    pairs.as_array().unwrap().iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

/// A test of each value, a page and a header list, that these releases of Django stored for these views; and a test that
/// no value lacks one.
macro_rules! values {
    ([$($release:ident)*] $views:tt) => {
        $(values! { $release $views })*

        #[test]
        fn every_value_has_a_test() {
            assert_eq!(VALUES.as_array().unwrap().len(), 0 $(+ $release::COUNT)*);
        }
    };
    ($release:ident [$($view:ident)*]) => {
        mod $release {
            pub(crate) const COUNT: usize = 2 * [$(stringify!($view)),*].len();

            $(mod $view {
                const NAME: &str = concat!(stringify!($release), "_", stringify!($view));

                #[test]
                fn page() {
                    crate::page_is_read_as_recorded(NAME);
                }

                #[test]
                fn header_list() {
                    crate::header_list_is_read_as_recorded(NAME);
                }
            })*
        }
    };
}

values! {
    [dj42 dj52 dj60]
    [
        django_binary
        django_body_300
        django_charset_arg
        django_cookie_deleted
        django_cookies
        django_drf_auth
        django_drf_html
        django_drf_indent
        django_drf_page3
        django_headers
        django_iterator
        django_last_modified
        django_memoryview
        django_multi_chunk
        django_plain
        django_template
        django_unicode
        django_redis_binary
        django_redis_cookies
        django_redis_drf_page3
        django_redis_gzip_cookies
        django_redis_gzip_drf_page3
        django_redis_gzip_plain
        django_redis_headers
        django_redis_lz4_cookies
        django_redis_lz4_drf_page3
        django_redis_lz4_plain
        django_redis_lzma_cookies
        django_redis_lzma_drf_page3
        django_redis_lzma_plain
        django_redis_multi_chunk
        django_redis_plain
        django_redis_template
        django_redis_zlib_cookies
        django_redis_zlib_drf_page3
        django_redis_zlib_plain
        django_redis_zstd_cookies
        django_redis_zstd_drf_page3
        django_redis_zstd_plain
    ]
}

static VALUES: LazyLock<Value> = LazyLock::new(|| json(&folder().join("values.json")));

/// The name in tests of a file: `dj42_django_body_300` for `dj42.django.body-300.header.pickle`.
fn test_of(file: &str) -> String {
    let (stem, _compressor) = file.split_once(".pickle").unwrap();
    stem.trim_end_matches(".header").replace(['.', '-'], "_")
}

/// What is recorded for a test, and the value that it is about.
fn recorded(test: &str, kind: &str) -> (&'static Value, Bytes) {
    let is_wanted = |row: &&Value| row["kind"] == kind && test_of(row["file"].as_str().unwrap()) == test;
    let row = VALUES.as_array().unwrap().iter().find(is_wanted).unwrap();
    let value = bytes(&folder().join(row["file"].as_str().unwrap()));
    (row, decompress(&value, LIMIT).unwrap())
}

fn header_list_is_read_as_recorded(test: &str) {
    let (row, value) = recorded(test, "header_list");
    let names: Vec<String> = serde_json::from_value(row["header_list"].clone()).unwrap();
    assert_eq!(read_list(&value), Some(names));
}

fn page_is_read_as_recorded(test: &str) {
    let (row, value) = recorded(test, "page");
    let page = read_page(&value).unwrap();
    let cookies = row["set_cookie"].as_array().unwrap().iter();
    let cookies = cookies.map(|line| ("Set-Cookie".to_owned(), line.as_str().unwrap().to_owned()));
    let expected: Vec<_> = fields(&row["headers"]).into_iter().chain(cookies).collect();
    assert_eq!(page.headers, expected);
    assert_eq!(u64::from(page.status), row["status"]);
    assert_eq!(page.reason.as_deref(), row["reason_in_state"].as_str());
    assert_eq!(page.body.len() as u64, row["body_length"]);
    let digest: String = Sha256::digest(&page.body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, row["body_sha256"]);
    assert_eq!(page.note, None);
}

/// Django would accept a dict and use its keys. Nothing writes one, and the proxy takes it as a miss.
const NOT_AS_DJANGO: &str = "header-list-dict";

#[test]
fn hand_made_values_are_hits_if_django_serves_them() {
    for (name, row) in json(&folder().join("foreign.json")).as_object().unwrap() {
        let value = bytes(&folder().join(row["file"].as_str().unwrap()));
        let hit = row["hit"].as_bool().unwrap() && name != NOT_AS_DJANGO;
        if name.starts_with("header-list") {
            assert_eq!(read_list(&value).is_some(), hit, "{name}");
            continue;
        }
        let page = read_page(&value);
        assert_eq!(page.is_some(), hit, "{name}");
        if let Some(page) = page {
            compare(name, &page, row);
        }
    }
}

/// Compares a page with the answer of Django's server, which adds `Age`, `Content-Length` and the headers of the
/// connection itself.
fn compare(name: &str, page: &PickledPage, row: &Value) {
    let made = ["Age", "Content-Length", "Connection", "Server", "Date"];
    let stored = |fields: &[(String, String)]| -> Vec<_> {
        fields.iter().filter(|(name, _)| !made.contains(&name.as_str())).cloned().collect()
    };
    assert_eq!(stored(&page.headers), stored(&fields(&row["headers"])), "{name}");
    assert_eq!(u64::from(page.status), row["status"], "{name}");
    if let Some(reason) = &page.reason {
        assert_eq!(*reason, row["reason"], "{name}");
    }
    let body: String = page.body.iter().map(|byte| char::from(*byte)).collect();
    // The server cuts a body to the stored Content-Length.
    assert!(body.starts_with(row["body"].as_str().unwrap()), "{name}");
}

#[test]
fn a_body_of_one_chunk_is_not_copied() {
    let value = bytes(&folder().join("dj52.django.drf-page3.pickle"));
    let page = read_page(&value).unwrap();
    assert!(value.as_ptr_range().contains(&page.body.as_ptr()));
}

fn read_all(value: &Bytes) {
    if let Some(value) = decompress(value, LIMIT) {
        let _ = (read_list(&value), read_page(&value));
    }
}

#[test]
fn every_prefix_of_every_vector_is_refused() {
    for (name, value) in vectors() {
        for end in 0..value.len() {
            let prefix = decompress(&value.slice(..end), LIMIT);
            let page = prefix.as_ref().and_then(read_page);
            let list = prefix.as_ref().and_then(read_list);
            assert_eq!((page, list), (None, None), "{name} {end}");
        }
    }
}

#[test]
fn a_changed_byte_never_causes_a_panic() {
    let cases = [
        "dj52.django.cookies.",
        "dj60.django.headers.",
        "cookie-string",
        "constructor-p0",
        "full-p2",
        "plain",
    ];
    for (name, value) in vectors() {
        if !cases.iter().any(|case| name.contains(case)) {
            continue;
        }
        for at in 0..value.len() {
            for byte in
                [0, 1, 0x7f, 0x80, 0xff, b'(', b'.', b'0', b'R', 0x8c, 0x94, value[at] ^ 1, value[at] ^ 0x80]
            {
                let mut changed = value.to_vec();
                changed[at] = byte;
                read_all(&changed.into());
            }
        }
    }
}

#[test]
fn values_that_would_run_code_in_python_are_misses() {
    for value in [
        &b"cos\nsystem\n(S'touch /tmp/pickled'\ntR."[..],
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x10touch /tmp/pickle\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x08import os\x85R.",
        b"(S'touch /tmp/pickled'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch /tmp/pickled'\no.",
    ] {
        let value = Bytes::from_static(value);
        assert_eq!((read_page(&value), read_list(&value)), (None, None), "{}", value.escape_ascii());
    }
    assert!(!Path::new("/tmp/pickled").exists());
}

#[test]
fn values_that_are_not_responses_are_misses() {
    for value in [
        &b""[..],
        b"N.",
        b"\x80\x05N.",
        b"42",
        b"-1",
        b"0",
        b"{\"count\": 1}",
        b"]",
        b".",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let value = Bytes::from_static(value);
        assert_eq!((read_page(&value), read_list(&value)), (None, None), "{}", value.escape_ascii());
    }
}

const COMPRESSORS: [Compressor; 6] = [
    Compressor::None,
    Compressor::Zlib,
    Compressor::Gzip,
    Compressor::Zstd,
    Compressor::Lz4,
    Compressor::Lzma,
];

#[test]
fn a_decompression_bomb_is_refused() {
    let zeros = Bytes::from(vec![0; 4 << 20]);
    for compressor in COMPRESSORS {
        let bomb = compress(compressor, &zeros);
        assert_eq!(decompress(&bomb, LIMIT), None, "{compressor:?}");
        assert_eq!(decompress(&bomb, zeros.len() - 1), None, "{compressor:?}");
        assert_eq!(decompress(&bomb, zeros.len()).as_ref(), Some(&zeros), "{compressor:?}");
    }
}

/// A field. Its name starts with `X-`, unlike those that the writer leaves out or has rules for.
fn field() -> impl Strategy<Value = (String, String)> {
    ("[Xx]-[A-Za-z0-9!#$%&'*+.^_`|~-]{0,12}", "[ -~\t\u{80}-\u{ff}]{0,300}")
}

prop_compose! {
    fn page()(
        status in 200_u16..600,
        reason in proptest::option::of("[ -~\u{a0}-\u{ff}]{0,20}"),
        fields in proptest::collection::vec(field(), 0..12),
        body in proptest::collection::vec(any::<u8>(), 0..700),
        frame_exempt in any::<bool>(),
        note in proptest::option::of("\\PC{0,300}"),
        forms in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
    ) -> PickledPage {
        let mut names = std::collections::HashSet::new();
        let headers = fields.into_iter().filter(|(name, _)| names.insert(name.to_ascii_lowercase())).collect();
        let (body, forms) = (body.into(), forms.map(Bytes::from));
        PickledPage { status, reason, headers, body, frame_exempt, note, forms }
    }
}

proptest! {
    #[test]
    fn any_page_reads_back(page in page(), which in 0..COMPRESSORS.len()) {
        for protocol in [Protocol::Four, Protocol::Five] {
            let value = write_page(&page, protocol).unwrap();
            let value = decompress(&compress(COMPRESSORS[which], &value), LIMIT).unwrap();
            prop_assert_eq!(read_page(&value), Some(page.clone()));
        }
    }

    #[test]
    fn any_list_reads_back(names in proptest::collection::vec("\\PC{0,40}", 0..20)) {
        prop_assert_eq!(read_list(&write_list(&names)), Some(names));
    }

    #[test]
    fn arbitrary_bytes_never_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes.into());
    }
}
