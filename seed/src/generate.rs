//! Generates the rows from a seed, without I/O: the same seed and count give the same rows on any machine and day.
//!
//! Each row has its own stream of random numbers, selected by its table and id. So a row can be made without the rows
//! before it, nothing is kept in memory, and a property finds its city by making its location again.
//!
//! People compare measurements on rows with the same seed, so none of this may change: the order of the draws in a
//! function, the tables and texts below `generate/`, `EPOCH`, the generator, and how `rand` and `fake` turn its bits
//! into choices. `tests/determinism.rs` has their digest; if an update of a library changes it, keep the old version.

mod cities;
mod people;
mod prose;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt as _, SeedableRng as _};

use crate::row::{Agent, Location, Office, Property};
use crate::schema::{self, Table};
use cities::{CITIES, City};

/// The maximum number of properties. Each still has a microsecond of its own in `SPAN`, by a wide margin.
pub const MAX_PROPERTIES: u64 = 100_000_000;

/// 2024-01-01, when the first property is listed.
const EPOCH: Timestamp = Timestamp::constant(1_704_067_200, 0);

/// Two years, in microseconds.
const SPAN: u64 = 731 * 24 * 60 * 60 * 1_000_000;

const PROPERTIES_AN_OFFICE: u64 = 125;
const AGENTS_AN_OFFICE: u64 = 5;
const PROPERTIES_A_LOCATION: u64 = 10;

/// All the rows of one seed.
#[derive(Clone, Debug)]
pub struct Rows {
    key: [u8; 32],
    properties: u64,
    offices: u64,
    locations: u64,
}

impl Rows {
    /// This number of properties, with as many offices, agents and locations as they need.
    pub fn new(seed: u64, properties: u64) -> Self {
        Self {
            key: ChaCha8Rng::seed_from_u64(seed).get_seed(),
            properties,
            offices: properties.div_ceil(PROPERTIES_AN_OFFICE),
            locations: properties.div_ceil(PROPERTIES_A_LOCATION),
        }
    }

    /// The number of rows of a table. Their ids start at 1.
    pub fn count(&self, table: &Table) -> u64 {
        match table.name {
            "housing_office" => self.offices,
            "housing_agent" => self.offices * AGENTS_AN_OFFICE,
            "housing_location" => self.locations,
            _ => self.properties,
        }
    }

    /// The offices. They are assigned to the cities in turn.
    pub fn offices(&self) -> impl Iterator<Item = Office> {
        (1..=self.count(&schema::OFFICE)).map(|id| self.office(id))
    }

    /// The agents, the same number for each office.
    pub fn agents(&self) -> impl Iterator<Item = Agent> {
        (1..=self.count(&schema::AGENT)).map(|id| self.agent(id))
    }

    /// The locations, more of them in the larger cities.
    pub fn locations(&self) -> impl Iterator<Item = Location> {
        (1..=self.count(&schema::LOCATION)).map(|id| self.location(id).0)
    }

    /// The properties, in the order in which they were listed.
    pub fn properties(&self) -> impl Iterator<Item = Property> {
        (1..=self.count(&schema::PROPERTY)).map(|id| self.property(id))
    }

    fn office(&self, id: u64) -> Office {
        let mut random = self.stream(0, id);
        let city = office_city(id);
        Office {
            id,
            name: people::firm(city.country, &mut random),
            city: city.name,
            phone: digits(city.phone, &mut random),
        }
    }

    fn agent(&self, id: u64) -> Agent {
        let mut random = self.stream(1, id);
        let office_id = (id - 1) / AGENTS_AN_OFFICE + 1;
        let city = office_city(office_id);
        let name = people::person(city.country, &mut random);
        Agent { id, email: people::email(&name, id), name, phone: digits(city.phone, &mut random), office_id }
    }

    fn location(&self, id: u64) -> (Location, usize) {
        let mut random = self.stream(2, id);
        // The cities are sorted by size, and the lower of two draws favours the large ones.
        let index = random.random_range(0..CITIES.len()).min(random.random_range(0..CITIES.len()));
        let city = &CITIES[index];
        let zip_code = digits(city.zip, &mut random);
        (Location { id, city: city.name, state: city.state, zip_code }, index)
    }

    fn property(&self, id: u64) -> Property {
        let mut random = self.stream(3, id);
        let location_id = random.random_range(1..=self.locations);
        let city = self.location(location_id).1;
        let home = Home::draw(&mut random);
        let (title, description) = prose::describe(&home, &CITIES[city], &mut random);
        Property {
            id,
            title,
            description,
            property_type: home.kind,
            price: price(&home, &CITIES[city], &mut random),
            bedrooms: home.bedrooms,
            bathrooms: home.bathrooms,
            status: pick(&STATUSES, &mut random),
            view_count: views(&mut random),
            created_at: self.listed(id, &mut random),
            agent_id: self.agent_in(city, &mut random),
            location_id,
        }
    }

    /// The random numbers of one row. The id fits in 56 bits.
    fn stream(&self, table: u64, id: u64) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::from_seed(self.key);
        random.set_stream(table << 56 | id);
        random
    }

    /// An agent of an office in this city, or of any office if the city has none.
    fn agent_in(&self, city: usize, random: &mut ChaCha8Rng) -> u64 {
        let cities = CITIES.len() as u64;
        let first = city as u64 + 1;
        let office = match self.offices.checked_sub(first) {
            Some(rest) => first + cities * random.random_range(0..=rest / cities),
            None => random.random_range(1..=self.offices),
        };
        (office - 1) * AGENTS_AN_OFFICE + random.random_range(1..=AGENTS_AN_OFFICE)
    }

    /// Each property is listed in an interval of its own, so no two have the same `created_at`, and sorting by it has
    /// one result.
    fn listed(&self, id: u64, random: &mut ChaCha8Rng) -> Timestamp {
        let part = SPAN / self.properties;
        let micros = (id - 1) * part + random.random_range(0..part);
        EPOCH + SignedDuration::from_micros(micros as i64)
    }
}

const STATUSES: [&str; 10] = [
    "available",
    "available",
    "available",
    "available",
    "available",
    "available",
    "available",
    "pending",
    "pending",
    "sold",
];

/// The facts that a description is made of.
struct Home {
    kind: &'static str,
    bedrooms: u32,
    /// In tenths: 25 is two and a half.
    bathrooms: u32,
    square_feet: u64,
}

impl Home {
    fn draw(random: &mut ChaCha8Rng) -> Self {
        let kind = pick(&["house", "house", "house", "apartment", "apartment", "condo", "townhouse"], random);
        let bedrooms = match kind {
            "house" => random.random_range(2..=6),
            "townhouse" => random.random_range(2..=4),
            _ => random.random_range(0..=3),
        };
        let bathrooms = 10 + 5 * random.random_range(0..=bedrooms + bedrooms / 2);
        let square_feet =
            380 + u64::from(bedrooms) * random.random_range(270..=420) + random.random_range(0..240);
        Self { kind, bedrooms, bathrooms, square_feet }
    }
}

/// The city's price for the size, times four factors around 1, which is close to a log-normal distribution. Integers,
/// because the last bit of a float's logarithm differs between machines.
fn price(home: &Home, city: &City, random: &mut ChaCha8Rng) -> u64 {
    let usual = home.square_feet * city.dollars;
    let dollars = (0..4).fold(usual, |dollars, _| dollars * random.random_range(76..=130) / 100);
    match random.random_range(0..10) {
        0 => dollars * 100 + random.random_range(0..100),
        1..=3 => dollars / 1_000 * 100_000 + 99_900,
        _ => dollars / 500 * 50_000,
    }
}

/// Most properties have few views, and some have thousands.
fn views(random: &mut ChaCha8Rng) -> u32 {
    let draw = random.random_range(1..=1_000u32);
    random.random_range(0..=20_000 / draw + 40)
}

fn office_city(id: u64) -> &'static City {
    &CITIES[((id - 1) % CITIES.len() as u64) as usize]
}

/// Replaces each `#` by a digit.
fn digits(pattern: &str, random: &mut ChaCha8Rng) -> String {
    let draw = |c| if c == '#' { char::from(b'0' + random.random_range(0..10u8)) } else { c };
    pattern.chars().map(draw).collect()
}

/// Chooses an item.
fn pick<T: Copy, const N: usize>(list: &[T; N], random: &mut ChaCha8Rng) -> T {
    const { assert!(N > 0) };
    list[random.random_range(0..N)]
}
