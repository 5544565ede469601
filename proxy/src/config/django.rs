//! `[django]`: the settings of the Django that shares the cache.

use std::sync::Arc;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::parse;
use super::settings::{Setting, Settings};
use crate::key::{Django, Keys, Language, Locale};
use crate::page::format::{Format, Pickled};

/// The headers that Django's default middleware adds outside of `cache_page`.
const HIT_HEADERS: [(&str, &str); 4] = [
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Django's values hold everything that Django REST Framework keeps besides the body. No real page has a larger value.
const MAX_VALUE: usize = 32 << 20;

/// Reads the section; `None` if there is a fault, which is then in the list.
pub(super) fn django(
    settings: &mut Settings<'_>,
    conditional_get: bool,
    warnings: &mut Vec<String>,
) -> Option<(Keys, Format, bool)> {
    let writes = settings.take("django.write", None, "true", parse::truth);
    let format = pickled(settings, conditional_get);
    let keys = keys(settings)?;
    if keys.language.is_none() && keys.time_zone.is_none() {
        warnings.push(
            "[django] has neither language nor time_zone, as with USE_I18N = False and USE_TZ = False; a new Django \
             project has \"en-us\" and \"UTC\""
                .to_owned(),
        );
    }
    Some((Keys::Django(Arc::new(keys)), Format::Pickled(Box::new(format?)), writes?))
}

/// A warning about a section that has no effect.
pub(super) fn unused(settings: &mut Settings<'_>) -> Option<String> {
    let place = settings.take_all("django.").into_iter().map(|(_, given)| given.place).min()?;
    Some(format!("{place}: [django] has no effect with keys = \"path\""))
}

fn keys(settings: &mut Settings<'_>) -> Option<Django> {
    let generation = settings.take("django.version", None, "5.2.19", parse::generation);
    let key_prefix = settings.take("django.key_prefix", None, "", |text| Ok(text.to_owned()));
    let version = settings.take("django.key_version", None, "1", parse::number);
    let time_zone = settings.take("django.time_zone", None, "", parse::time_zone);
    let script_name = settings.take("django.script_name", None, "", parse::script_name);
    let forwarded_host = settings.take("django.use_x_forwarded_host", None, "false", parse::truth);
    let language = language(settings);
    Some(Django {
        generation: generation?,
        key_prefix: key_prefix?,
        version: version?,
        language: language?,
        time_zone: time_zone?,
        script_name: script_name?,
        use_x_forwarded_host: forwarded_host?,
    })
}

/// `language` alone is LANGUAGE_CODE; with `languages` it is the default of LocaleMiddleware.
fn language(settings: &mut Settings<'_>) -> Option<Option<Language>> {
    let code = settings.take("django.language", None, "", parse::language);
    let languages = settings.take_list("django.languages", None, "", parse::languages);
    let cookie = settings.take("django.language_cookie", None, "django_language", |text| Ok(text.to_owned()));
    match (code?, languages?, cookie?) {
        (None, languages, _) if !languages.is_empty() => {
            settings.fault("django.languages: needs a language, the LANGUAGE_CODE of the site".to_owned());
            None
        }
        (code, languages, _) if languages.is_empty() => Some(code.map(Language::Fixed)),
        (code, languages, cookie) => {
            Some(code.map(|default| Language::Negotiated(Locale { languages, default, cookie })))
        }
    }
}

fn pickled(settings: &mut Settings<'_>, conditional_get: bool) -> Option<Pickled> {
    let compressor = settings.take("django.compressor", None, "none", parse::compressor);
    let hit_headers = hit_headers(settings);
    let (compressor, hit_headers) = (compressor?, hit_headers?);
    Some(Pickled { compressor, hit_headers, conditional_get, limit: MAX_VALUE })
}

/// Django's defaults, changed by the file; an empty value removes a header.
fn hit_headers(settings: &mut Settings<'_>) -> Option<HeaderMap> {
    let presets =
        HIT_HEADERS.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let mut headers = HeaderMap::from_iter(presets);
    let mut is_whole = true;
    for (name, given) in settings.take_all("django.hit_headers.") {
        settings.record(&format!("django.hit_headers.{name}"), &given);
        let Setting { place, text, .. } = given;
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&text)) {
            (Ok(name), Ok(value)) if value.is_empty() => drop(headers.remove(name)),
            (Ok(name), Ok(value)) => drop(headers.insert(name, value)),
            _ => {
                settings.fault(format!(
                    "{place}: {name:?} is not a header name, or its value is not a header value"
                ));
                is_whole = false;
            }
        }
    }
    is_whole.then_some(headers)
}
