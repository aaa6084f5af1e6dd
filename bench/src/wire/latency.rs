//! Round-trip times and their percentiles.

/// Percentiles in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Percentiles {
    /// Half of all are below.
    pub(crate) p50: f64,
    /// 99 of 100.
    pub(crate) p99: f64,
    /// 999 of 1,000.
    pub(crate) p999: f64,
    /// How many were measured.
    pub(crate) samples: usize,
}

/// Of times in nanoseconds; `None` without any.
pub(crate) fn percentiles(mut times: Vec<u64>) -> Option<Percentiles> {
    times.sort_unstable();
    let at = |part: f64| {
        let place = (part * times.len() as f64).ceil() as usize;
        times.get(place.saturating_sub(1)).map(|ns| *ns as f64 / 1000.0)
    };
    Some(Percentiles { p50: at(0.5)?, p99: at(0.99)?, p999: at(0.999)?, samples: times.len() })
}

/// The middle one of `values`; `None` without any.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let of = percentiles((1..=1000).rev().map(|us| us * 1000).collect()).unwrap();
        assert_eq!(of, Percentiles { p50: 500.0, p99: 990.0, p999: 999.0, samples: 1000 });
        assert_eq!(percentiles(vec![2500]).unwrap().p999, 2.5);
        assert_eq!(percentiles(Vec::new()), None);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([]), None);
    }
}
