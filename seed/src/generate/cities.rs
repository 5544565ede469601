//! The cities, by size, with the patterns of their addresses and telephone numbers, and their prices.

use Country::{America, Brazil, France, Germany, Japan};

/// The country whose names and words a city uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Country {
    America,
    Brazil,
    France,
    Germany,
    Japan,
}

#[derive(Debug)]
pub(super) struct City {
    pub(super) name: &'static str,
    pub(super) state: &'static str,
    /// The pattern of a postal code: a `#` stands for a digit, also in `phone`.
    pub(super) zip: &'static str,
    /// The pattern of a telephone number, from the fictitious numbers of a country that reserves some.
    pub(super) phone: &'static str,
    /// The price of a square foot.
    pub(super) dollars: u64,
    pub(super) country: Country,
}

pub(super) static CITIES: [City; 40] = [
    american("New York", "NY", "100##", "+1-212-555-01##", 980),
    american("Los Angeles", "CA", "900##", "+1-213-555-01##", 720),
    american("Chicago", "IL", "606##", "+1-312-555-01##", 330),
    american("Houston", "TX", "770##", "+1-713-555-01##", 210),
    american("Phoenix", "AZ", "850##", "+1-602-555-01##", 280),
    american("Philadelphia", "PA", "191##", "+1-215-555-01##", 240),
    american("San Antonio", "TX", "782##", "+1-210-555-01##", 180),
    american("San Diego", "CA", "921##", "+1-619-555-01##", 690),
    american("Dallas", "TX", "752##", "+1-214-555-01##", 250),
    City {
        name: "São Paulo",
        state: "SP",
        zip: "01###-###",
        phone: "+55 11 5555-01##",
        dollars: 260,
        country: Brazil,
    },
    american("Austin", "TX", "787##", "+1-512-555-01##", 370),
    american("San José", "CA", "951##", "+1-408-555-01##", 860),
    american("Columbus", "OH", "432##", "+1-614-555-01##", 190),
    american("Charlotte", "NC", "282##", "+1-704-555-01##", 260),
    american("Indianapolis", "IN", "462##", "+1-317-555-01##", 160),
    american("Seattle", "WA", "981##", "+1-206-555-01##", 610),
    american("Denver", "CO", "802##", "+1-303-555-01##", 420),
    City {
        name: "Zürich",
        state: "ZH",
        zip: "80##",
        phone: "+41 44 555 01 ##",
        dollars: 1350,
        country: Germany,
    },
    american("Boston", "MA", "021##", "+1-617-555-01##", 740),
    american("Nashville", "TN", "372##", "+1-615-555-01##", 320),
    american("Detroit", "MI", "482##", "+1-313-555-01##", 90),
    american("Portland", "OR", "972##", "+1-503-555-01##", 390),
    City {
        name: "東京",
        state: "東京都",
        zip: "1##-00##",
        phone: "03-5555-01##",
        dollars: 940,
        country: Japan,
    },
    american("Memphis", "TN", "381##", "+1-901-555-01##", 120),
    american("Baltimore", "MD", "212##", "+1-410-555-01##", 190),
    american("Milwaukee", "WI", "532##", "+1-414-555-01##", 170),
    american("Albuquerque", "NM", "871##", "+1-505-555-01##", 200),
    american("Tucson", "AZ", "857##", "+1-520-555-01##", 210),
    City {
        name: "Montréal",
        state: "QC",
        zip: "H2X 3P#",
        phone: "+1-514-555-01##",
        dollars: 340,
        country: France,
    },
    american("Sacramento", "CA", "958##", "+1-916-555-01##", 350),
    american("Kansas City", "MO", "641##", "+1-816-555-01##", 180),
    american("Miami", "FL", "331##", "+1-305-555-01##", 560),
    american("Minneapolis", "MN", "554##", "+1-612-555-01##", 250),
    City {
        name: "München",
        state: "BY",
        zip: "80###",
        phone: "+49 89 555501##",
        dollars: 990,
        country: Germany,
    },
    american("New Orleans", "LA", "701##", "+1-504-555-01##", 220),
    american("Coeur d'Alene", "ID", "838##", "+1-208-555-01##", 310),
    City {
        name: "Saint-Étienne",
        state: "42",
        zip: "420##",
        phone: "+33 4 65 71 01 ##",
        dollars: 150,
        country: France,
    },
    american("Boise", "ID", "837##", "+1-208-555-01##", 300),
    City {
        name: "Florianópolis",
        state: "SC",
        zip: "880##-###",
        phone: "+55 48 5555-01##",
        dollars: 230,
        country: Brazil,
    },
    american("O'Fallon", "MO", "633##", "+1-636-555-01##", 190),
];

const fn american(
    name: &'static str,
    state: &'static str,
    zip: &'static str,
    phone: &'static str,
    dollars: u64,
) -> City {
    City { name, state, zip, phone, dollars, country: America }
}
