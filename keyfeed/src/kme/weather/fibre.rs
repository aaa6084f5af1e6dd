use serde::Deserialize;

/// `[fibre]`: the quantum channel between the two KMEs, from which the key rate follows.
///
/// The secret key rate of BB84 with decoy states, in the limit of many decoy states and long keys: Ma, Qi, Zhao and Lo,
/// "Practical decoy state for quantum key distribution", Phys. Rev. A 72, 012326 (2005), equations 1 to 11. The defaults
/// are fitted to published rates of a 1 GHz system (Toshiba T12: 2.20, 1.09, 0.40 and 0.12 Mb/s at 7, 10, 13 and 16 dB).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fibre {
    /// Length, km.
    pub length_km: f64,
    /// Loss per length, dB/km.
    pub attenuation_db_per_km: f64,
    /// Further loss, as of connectors and switches, dB.
    pub extra_loss_db: f64,
    /// Pulses per second.
    pub pulse_rate: f64,
    /// Mean photons of a signal pulse.
    pub mean_photons: f64,
    /// Probability that a photon at the receiver's entry is detected.
    pub detector_efficiency: f64,
    /// Probability of a click without a photon, per pulse: dark counts of both detectors and stray light.
    pub dark_counts: f64,
    /// Probability that a photon ends at the wrong detector: misalignment of the optics.
    pub misalignment: f64,
    /// Bits that error correction tells, over the Shannon limit.
    pub error_correction: f64,
    /// Share of detections with matching bases: 0.5 by the original protocol.
    pub sifting: f64,
    /// Bit error rate above which no key is made: an eavesdropper cannot be ruled out.
    pub qber_limit: f64,
}

impl Default for Fibre {
    fn default() -> Self {
        Fibre {
            length_km: 50.0,
            attenuation_db_per_km: 0.2,
            extra_loss_db: 0.0,
            pulse_rate: 1e9,
            mean_photons: 0.5,
            detector_efficiency: 0.1,
            dark_counts: 1e-5,
            misalignment: 0.015,
            error_correction: 1.16,
            sifting: 0.5,
            qber_limit: 0.07,
        }
    }
}

/// How the channel does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::kme) struct Yield {
    /// Quantum bit error rate of signal pulses, 0 to 0.5.
    pub(in crate::kme) qber: f64,
    /// Secret bits per second; 0 above the limit of the error rate.
    pub(in crate::kme) bits_per_second: f64,
}

impl Fibre {
    /// What comes while somebody measures and resends the share `intercepted` (0 to 1) of the pulses.
    pub(in crate::kme) fn yields(&self, intercepted: f64) -> Yield {
        let loss_db = self.length_km * self.attenuation_db_per_km + self.extra_loss_db;
        let eta = self.detector_efficiency * 10f64.powf(-loss_db / 10.0);
        let misalignment = resent(self.misalignment, intercepted);
        let (mu, y0) = (self.mean_photons, self.dark_counts);
        let clicks = 1.0 - (-eta * mu).exp();
        // Gain and error rate of signal pulses.
        let q_mu = y0 + clicks;
        let qber = (RANDOM * y0 + misalignment * clicks) / q_mu;
        // Yield, gain and error rate of those with one photon: of the others, the eavesdropper may know all.
        let y1 = y0 + eta - y0 * eta;
        let q1 = y1 * mu * (-mu).exp();
        let e1 = (RANDOM * y0 + misalignment * eta) / y1;
        let per_pulse =
            self.sifting * (q1 * (1.0 - entropy(e1)) - q_mu * self.error_correction * entropy(qber));
        let aborts = qber > self.qber_limit || per_pulse <= 0.0;
        Yield { qber, bits_per_second: if aborts { 0.0 } else { self.pulse_rate * per_pulse } }
    }

    /// What no type can say. The error names the setting and the remedy.
    pub(in crate::kme) fn check(&self) -> Result<(), String> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let amount = |value: f64| value.is_finite() && value >= 0.0;
        let rules = [
            (amount(self.length_km), "[fibre] length_km must be 0 or more"),
            (
                amount(self.attenuation_db_per_km) && amount(self.extra_loss_db),
                "[fibre] losses must be 0 dB or more",
            ),
            (
                amount(self.pulse_rate) && self.pulse_rate <= 1e11,
                "[fibre] pulse_rate must be 0 to 1e11 per second",
            ),
            (
                self.mean_photons > 0.0 && self.mean_photons <= 2.0,
                "[fibre] mean_photons must be above 0 and at most 2",
            ),
            (
                self.detector_efficiency > 0.0 && share(self.detector_efficiency) && share(self.dark_counts),
                "[fibre] detector_efficiency and dark_counts are probabilities, 0 to 1",
            ),
            (
                share(2.0 * self.misalignment) && share(2.0 * self.qber_limit),
                "[fibre] misalignment and qber_limit must be 0 to 0.5",
            ),
            (
                self.error_correction >= 1.0 && self.error_correction <= 3.0 && share(self.sifting),
                "[fibre] error_correction must be 1 to 3 and sifting 0 to 1",
            ),
        ];
        rules.iter().find(|(kept, _)| !kept).map_or(Ok(()), |(_, rule)| Err((*rule).to_owned()))
    }
}

/// Error rate once the share `intercepted` was measured in a random basis and sent again: half of it in the wrong basis,
/// which makes half of that wrong.
pub(in crate::kme) fn resent(error: f64, intercepted: f64) -> f64 {
    error * (1.0 - intercepted / 2.0) + intercepted / 4.0
}

/// Binary entropy.
fn entropy(p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 { 0.0 } else { -p * p.log2() - (1.0 - p) * (1.0 - p).log2() }
}

/// Error rate of clicks without a photon.
const RANDOM: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    fn rate_at(loss_db: f64) -> f64 {
        Fibre { length_km: 0.0, extra_loss_db: loss_db, ..Fibre::default() }.yields(0.0).bits_per_second
    }

    #[test]
    fn the_defaults_meet_published_rates_within_a_factor_of_two() {
        // Loss in dB and Mb/s: Toshiba T12 at 35, 50, 65 and 80 km; Tokyo's installed fibre of 45 km.
        for (loss_db, published) in [(7.0, 2.20), (10.0, 1.09), (13.0, 0.40), (16.0, 0.12), (14.5, 0.304)] {
            let ratio = rate_at(loss_db) / 1e6 / published;
            assert!((0.5..2.0).contains(&ratio), "{loss_db} dB: {ratio} times the published rate");
        }
    }

    #[test]
    fn a_budget_system_meets_field_rates() {
        // A 10 MHz system with worse detectors: commercial ones of that class say 1.4 to 2 kb/s at 12 dB.
        let budget =
            Fibre { pulse_rate: 1e7, detector_efficiency: 0.05, length_km: 60.0, ..Fibre::default() };
        let kilobits = budget.yields(0.0).bits_per_second / 1e3;
        assert!((0.7..4.0).contains(&kilobits), "{kilobits} kb/s");
    }

    #[test]
    fn the_reach_is_that_of_the_papers_example() {
        // Section III of the paper, with the parameters of Gobby, Yuan and Shields: 142.05 km.
        let paper = |length_km| Fibre {
            length_km,
            attenuation_db_per_km: 0.21,
            mean_photons: 0.48,
            detector_efficiency: 0.045,
            dark_counts: 1.7e-6,
            misalignment: 0.033,
            error_correction: 1.22,
            qber_limit: 0.5,
            ..Fibre::default()
        };
        assert!(paper(141.0).yields(0.0).bits_per_second > 0.0);
        assert_eq!(paper(143.5).yields(0.0).bits_per_second, 0.0);
    }

    #[test]
    fn the_rate_falls_with_loss_and_ends() {
        let rates: Vec<f64> = (0..=40).map(|loss| rate_at(loss.into())).collect();
        assert!(rates.windows(2).all(|pair| pair[1] < pair[0] || pair[1] == 0.0));
        assert!(rates[24] > 0.0 && rates[35] == 0.0);
    }

    #[test]
    fn an_eavesdropper_shows_in_the_error_rate_and_ends_the_key() {
        let fibre = Fibre::default();
        assert!(fibre.yields(0.0).qber < 0.02);
        let all = fibre.yields(1.0);
        assert!((0.25..0.27).contains(&all.qber) && all.bits_per_second == 0.0);
        assert!(fibre.yields(0.1).bits_per_second > 0.0, "a little is removed by privacy amplification");
        assert!(fibre.yields(0.1).bits_per_second < fibre.yields(0.0).bits_per_second);
    }
}
