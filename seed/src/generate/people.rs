//! Names of people and firms by country, and email addresses.

use fake::Fake as _;
use fake::faker::name::raw::{FirstName, LastName};
use fake::locales::{DE_DE, Data, EN, FR_FR, JA_JP, PT_BR};
use rand::rngs::ChaCha8Rng;

use super::cities::Country;
use super::pick;

/// First name and last name, the other way round in Japan.
pub(super) fn person(country: Country, random: &mut ChaCha8Rng) -> String {
    let (first, last) = names(country, random);
    match country {
        Country::Japan => format!("{last} {first}"),
        _ => format!("{first} {last}"),
    }
}

/// A firm that sells homes.
pub(super) fn firm(country: Country, random: &mut ChaCha8Rng) -> String {
    let (_, name) = names(country, random);
    let (_, other) = names(country, random);
    match country {
        Country::America => match pick(&[0, 1, 2, 3], random) {
            0 => format!("{name} Realty"),
            1 => format!("{name} & {other} Homes"),
            2 => format!("{name}, {other} & Partners"),
            _ => format!("The {name} Group"),
        },
        Country::Brazil => format!("{name} & {other} Imóveis"),
        Country::France => format!("Immobilière {name}-{other}"),
        Country::Germany => format!("{name} & Söhne Immobilien"),
        Country::Japan => format!("{name}不動産"),
    }
}

/// A last name for a street.
pub(super) fn namesake(country: Country, random: &mut ChaCha8Rng) -> &'static str {
    names(country, random).1
}

/// The name in ASCII letters, with the agent's id, because two agents may have one name. Nobody owns example.com.
pub(super) fn email(name: &str, id: u64) -> String {
    let words = name.split(' ').map(plain).filter(|word| !word.is_empty());
    let mut local = words.collect::<Vec<_>>().join(".");
    if local.is_empty() {
        local.push_str("agent");
    }
    format!("{local}{id}@example.com")
}

fn names(country: Country, random: &mut ChaCha8Rng) -> (&'static str, &'static str) {
    match country {
        Country::America => draw(EN, random),
        Country::Brazil => draw(PT_BR, random),
        Country::France => draw(FR_FR, random),
        Country::Germany => draw(DE_DE, random),
        Country::Japan => draw(JA_JP, random),
    }
}

fn draw<L: Data + Copy>(locale: L, random: &mut ChaCha8Rng) -> (&'static str, &'static str) {
    (FirstName(locale).fake_with_rng(random), LastName(locale).fake_with_rng(random))
}

/// Lower-case letters without accents. Other characters are left out.
fn plain(word: &str) -> String {
    word.to_lowercase().chars().filter_map(base).collect()
}

fn base(letter: char) -> Option<char> {
    match letter {
        'a'..='z' => Some(letter),
        'à' | 'á' | 'â' | 'ã' | 'ä' => Some('a'),
        'ç' => Some('c'),
        'è' | 'é' | 'ê' | 'ë' => Some('e'),
        'ì' | 'í' | 'î' | 'ï' => Some('i'),
        'ñ' => Some('n'),
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' => Some('o'),
        'ù' | 'ú' | 'û' | 'ü' => Some('u'),
        'ß' => Some('s'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_address_is_ascii_letters() {
        for (name, address) in [
            ("Ann Lee", "ann.lee7@example.com"),
            ("Zoë D'Arcy", "zoe.darcy7@example.com"),
            ("João da Conceição", "joao.da.conceicao7@example.com"),
            ("佐藤 花子", "agent7@example.com"),
        ] {
            assert_eq!(email(name, 7), address);
        }
    }
}
