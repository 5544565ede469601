//! The text of a listing: a title with the street, and a few sentences.

use rand::RngExt as _;
use rand::rngs::ChaCha8Rng;

use super::cities::{City, Country};
use super::{Home, people, pick};

/// Title and description.
pub(super) fn describe(home: &Home, city: &City, random: &mut ChaCha8Rng) -> (String, String) {
    (title(home, city, random), description(home, city, random))
}

fn title(home: &Home, city: &City, random: &mut ChaCha8Rng) -> String {
    let praise = pick(&PRAISE, random);
    let rooms = match home.bedrooms {
        0 => "studio".to_owned(),
        rooms => format!("{rooms}-bedroom {}", home.kind),
    };
    let street = street(city.country, random);
    match random.random_range(0..3) {
        0 => format!("{praise} {rooms} on {street}"),
        1 => format!("{praise} {rooms}, {street}, {}", city.name),
        _ => format!("{praise} {rooms} at {} {street}", random.random_range(1..2_400)),
    }
}

fn street(country: Country, random: &mut ChaCha8Rng) -> String {
    let name = people::namesake(country, random);
    match country {
        Country::America => {
            format!("{name} {}", pick(&["Street", "Avenue", "Lane", "Drive", "Court"], random))
        }
        Country::Brazil => format!("{} {name}", pick(&["Rua", "Avenida", "Praça"], random)),
        Country::France => format!("{} {name}", pick(&["rue", "avenue", "allée"], random)),
        Country::Germany => format!("{name}{}", pick(&["straße", "weg", "gässchen"], random)),
        Country::Japan => format!("{name}通り"),
    }
}

/// Four to six sentences, sometimes in two paragraphs.
fn description(home: &Home, city: &City, random: &mut ChaCha8Rng) -> String {
    let name = city.name;
    let feet = home.square_feet;
    // A square metre is 10.764 square feet.
    let metres = feet * 1_000 / 10_764;
    let mut text =
        format!("{} {feet} sq ft ({metres} m²) {}", pick(&OPENINGS, random), pick(&PLACES, random));
    text += name;
    text += ". ";
    text += pick(&INSIDE, random);
    text += if random.random_range(0..8) == 0 { "\n\n" } else { " " };
    text += pick(&OUTSIDE, random);
    if random.random_range(0..3) > 0 {
        text += " ";
        text += pick(&NEIGHBOURS, random);
    }
    text += " ";
    text += pick(&CLOSINGS, random);
    text
}

const PRAISE: [&str; 16] = [
    "Sunny",
    "Quiet",
    "Charming",
    "Spacious",
    "Renovated",
    "Elegant",
    "Cosy",
    "Bright",
    "Stylish",
    "Historic",
    "Modern",
    "Airy",
    "Well-kept",
    "Handsome",
    "Rare",
    "Inviting",
];

const OPENINGS: [&str; 6] = [
    "A home of",
    "Offered for the first time in years:",
    "Freshly painted, and all of",
    "Move straight into",
    "The owners leave behind a well-loved",
    "Behind a modest front wait",
];

const PLACES: [&str; 6] = [
    "in one of the most walkable parts of ",
    "a short ride from the centre of ",
    "on a tree-lined block in ",
    "with a view over the roofs of ",
    "close to schools and parks in ",
    "in a calm corner of ",
];

const INSIDE: [&str; 10] = [
    "The kitchen was rebuilt two years ago with stone counters, a gas range and a pantry.",
    "Oak floors run through the living room, and a wood stove keeps it warm on winter evenings.",
    "Tall windows face south, so the main room has sun from breakfast until late afternoon.",
    "The former attic is now a study with skylights and built-in shelves.",
    "There is a proper laundry room, a mud room, and more closets than you will ever fill.",
    "The seller calls the layout \"made for long dinners\", and we can only agree.",
    "A new furnace, new wiring and triple glazing keep the bills low and the rooms silent.",
    "The bathroom has its original 1920s tiles; everything behind them is new.",
    "An open plan joins kitchen and dining room, with sliding doors for when it gets loud.",
    "Both levels have central air, and the basement is dry, lit and ready for a workshop.",
];

const OUTSIDE: [&str; 10] = [
    "Outside there is a small garden with two apple trees and a shed.",
    "The balcony is deep enough for a table and catches the evening breeze.",
    "Parking is off the street, with a charger already installed.",
    "A fenced yard gives dogs and children room to run.",
    "The roof was replaced in 2019 and is good for another thirty years.",
    "A shared courtyard with old plane trees stays cool all summer.",
    "The porch looks west, and the sunsets alone are worth a visit.",
    "Bicycles have a locked room of their own next to the entrance.",
    "The terrace is paved with local stone and cannot be seen from the street.",
    "There is a garage for one car, or for everything else you own.",
];

const NEIGHBOURS: [&str; 8] = [
    "The neighbours know each other by name and hold a street party in June.",
    "A bakery, a café and a grocer are around the corner.",
    "The library is 400 m away, the river a little more.",
    "Trains leave every ten minutes from a station five minutes on foot.",
    "The Saturday market fills the square at the end of the street.",
    "Three good schools and a playground are within half a mile.",
    "Hiking trails begin where the road ends.",
    "It is quiet at night – the nearest bar closes at ten.",
];

const CLOSINGS: [&str; 8] = [
    "Showings by appointment only.",
    "Open house this Sunday from 1 to 4 pm.",
    "Offers are reviewed as they come in.",
    "Sold as seen, with a full inspection report on request.",
    "Don't wait: homes like this one rarely stay on the market for a week.",
    "The price includes all appliances.",
    "Available at once; the keys are with us.",
    "Call us for the floor plan and a walk through the house.",
];
