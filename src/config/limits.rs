//! The settings RATE_LIMITS and TRUSTED_PROXIES.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU32, str::FromStr};

use ipnet::IpNet;

/// The limits by name, with their defaults. With these, 200 people behind one address may register, log in and play at
/// the same event.
pub const DEFAULTS: [(&str, &str); 7] = [
    ("network", "12000/m"),
    ("user", "6000/m"),
    ("register", "300/h"),
    ("login", "600/h"),
    (FAILED_LOGINS, "5/15m"),
    ("refresh", "120/m"),
    ("runs", "120/h"),
];
pub const FAILED_LOGINS: &str = "failed_logins";

/// The rate of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number of requests that are allowed at once, and again over the period.
    pub count: NonZeroU32,
    /// The period.
    pub seconds: NonZeroU32,
}

impl FromStr for Rate {
    type Err = ();

    /// `20/h`, `5/15m`
    fn from_str(text: &str) -> Result<Self, ()> {
        let (count, period) = text.split_once('/').ok_or(())?;
        let units = [("s", 1), ("m", 60), ("h", 60 * 60), ("d", 24 * 60 * 60)];
        let (number, unit) = units
            .iter()
            .find_map(|(name, unit)| Some((period.strip_suffix(name)?, unit)))
            .ok_or(())?;
        let number = if number.is_empty() { "1" } else { number };
        let seconds = number
            .parse()
            .ok()
            .and_then(|number: u32| number.checked_mul(*unit));
        let count: NonZeroU32 = count.parse().map_err(|_| ())?;
        let seconds = seconds.and_then(NonZeroU32::new).ok_or(())?;
        // This refuses rates that make no sense or would overflow later.
        (count.get() <= 1_000_000 && seconds.get() <= 30 * 24 * 60 * 60)
            .then_some(Rate { count, seconds })
            .ok_or(())
    }
}

/// RATE_LIMITS: the rates by the names of the limits. A limit without a rate is off.
#[derive(Clone, Debug)]
pub struct RateLimits(BTreeMap<&'static str, Rate>);

impl RateLimits {
    /// The rate of the limit of this name, or none if it is off.
    pub fn get(&self, name: &str) -> Option<Rate> {
        self.0.get(name).copied()
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        let rates = DEFAULTS.iter();
        RateLimits(
            rates
                .filter_map(|(name, rate)| Some((*name, rate.parse().ok()?)))
                .collect(),
        )
    }
}

impl FromStr for RateLimits {
    type Err = String;

    /// `on`, `off`, and `name=20/h` or `name=off`, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = RateLimits::default();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let Some((name, rate)) = item.split_once('=') else {
                match item {
                    "on" => {}
                    "off" => limits.0.clear(),
                    _ => {
                        return Err(complain(
                            item,
                            "is neither on nor off nor name=count/period",
                        ));
                    }
                }
                continue;
            };
            let known = DEFAULTS.iter().find(|(known, _)| *known == name.trim());
            let Some((name, _)) = known else {
                let names = DEFAULTS.map(|(name, _)| name).join(", ");
                return Err(complain(
                    item,
                    &format!("names no limit; the limits are {names}"),
                ));
            };
            match rate.trim() {
                "off" => drop(limits.0.remove(name)),
                rate => {
                    let rate = rate.parse().map_err(|()| {
                        complain(item, "has no valid count/period: the count is at most 1000000, the period at most 30d")
                    })?;
                    limits.0.insert(name, rate);
                }
            }
        }
        Ok(limits)
    }
}

fn complain(item: &str, what: &str) -> String {
    format!("`{item}` {what}; a valid value is for example on,register=20/h,login=100/15m,user=off")
}

/// TRUSTED_PROXIES: networks whose `X-Forwarded-For` is trusted.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Whether this address is a trusted proxy's.
    pub fn contain(&self, address: &IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        let parse = |item: &str| {
            let network = item
                .parse()
                .or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
            network
                .ok()
                // Addresses are compared in their plain form, so this one would never match.
                .filter(|network: &IpNet| network.addr() == network.addr().to_canonical())
                .ok_or_else(|| {
                    format!("`{item}` is not a network; a valid value is for example 10.0.0.0/8,192.0.2.7,2001:db8::/32")
                })
        };
        items
            .map(parse)
            .collect::<Result<_, _>>()
            .map(TrustedProxies)
    }
}
