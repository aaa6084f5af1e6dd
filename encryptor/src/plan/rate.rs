//! How fast keys are made.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::KEY_BITS;

/// A key rate: finite, 0 or more. In JSON: bits per second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KeyRate {
    bits_per_second: f64,
}

/// Why something is no key rate.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "'{0}' is no key rate: write such as \"2kbit/s\", \"12.3 kb/s\", \"1.4Mbit/s\" or \"8 keys/s\" (of {KEY_BITS} bits)"
)]
pub struct BadRate(String);

impl KeyRate {
    /// So many secret bits per second.
    pub fn bits(per_second: f64) -> Result<KeyRate, BadRate> {
        let sound = per_second.is_finite() && per_second >= 0.0;
        if sound { Ok(KeyRate { bits_per_second: per_second }) } else { Err(BadRate(per_second.to_string())) }
    }

    /// So many keys of 256 bits per second.
    pub fn keys(per_second: f64) -> Result<KeyRate, BadRate> {
        KeyRate::bits(per_second * KEY_BITS)
    }

    /// Secret bits per second.
    pub fn bits_per_second(self) -> f64 {
        self.bits_per_second
    }

    /// Keys of 256 bits per second.
    pub fn keys_per_second(self) -> f64 {
        self.bits_per_second / KEY_BITS
    }
}

impl FromStr for KeyRate {
    type Err = BadRate;

    /// A number and a unit: `bit/s`, `kbit/s`, `Mbit/s` (or `b/s`, `kb/s`, `Mb/s`), `keys/s`.
    fn from_str(text: &str) -> Result<KeyRate, BadRate> {
        let bad = || BadRate(text.to_string());
        let trimmed = text.trim();
        let unit_at = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, unit) = trimmed.split_at(unit_at);
        let number: f64 = number.parse().map_err(|_| bad())?;
        let bits = match unit.trim() {
            "keys/s" | "key/s" => number * KEY_BITS,
            "bit/s" | "b/s" => number,
            "kbit/s" | "kb/s" => number * 1e3,
            "Mbit/s" | "Mb/s" => number * 1e6,
            _ => return Err(bad()),
        };
        KeyRate::bits(bits).map_err(|_| bad())
    }
}

impl fmt::Display for KeyRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits_per_second {
            bits if bits >= 1e6 => write!(f, "{} Mbit/s", three_digits(bits / 1e6)),
            bits if bits >= 1e3 => write!(f, "{} kbit/s", three_digits(bits / 1e3)),
            bits => write!(f, "{} bit/s", three_digits(bits)),
        }
    }
}

impl Serialize for KeyRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.bits_per_second)
    }
}

/// A number for people: three significant digits, without zeros at the end.
pub(super) fn three_digits(number: f64) -> String {
    let decimals = match number.abs() {
        n if n >= 100.0 => 0,
        n if n >= 10.0 => 1,
        n if n >= 1.0 => 2,
        n if n >= 0.1 => 3,
        _ => 4,
    };
    let text = format!("{number:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_shown() {
        let table = [
            ("512bit/s", 512.0, "512 bit/s"),
            ("8.5 b/s", 8.5, "8.5 bit/s"),
            ("2kb/s", 2e3, "2 kbit/s"),
            ("12.3 kbit/s", 12.3e3, "12.3 kbit/s"),
            ("1.09Mb/s", 1.09e6, "1.09 Mbit/s"),
            (" 2 keys/s ", 512.0, "512 bit/s"),
            ("0 keys/s", 0.0, "0 bit/s"),
        ];
        for (text, bits, shown) in table {
            let rate: KeyRate = text.parse().unwrap();
            assert!((rate.bits_per_second() - bits).abs() < 1e-6, "{text}");
            assert_eq!(rate.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_in_one_line() {
        for text in ["", "5", "kbit/s", "-1 keys/s", "1.2.3 b/s", "5 KB/s", "5 kbps", "inf b/s", "NaN keys/s"]
        {
            let error = text.parse::<KeyRate>().unwrap_err().to_string();
            assert!(error.contains("such as \"2kbit/s\"") && !error.contains('\n'), "{error}");
        }
        assert!(KeyRate::keys(f64::NAN).is_err() && KeyRate::bits(-1.0).is_err());
        assert!(KeyRate::keys(f64::MAX).is_err(), "its bits are beyond counting");
    }
}
