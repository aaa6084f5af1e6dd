//! Settings in turns, so that what else the machine does falls on all of them.

use anyhow::{Context, Result};
use qhaul::lab::wait::check_interrupt;

/// Measures each of `settings` in each round, the first of which is the default. Another one that fails, because this kernel does not
/// have it for instance, is told by its `name` and left out from there on.
pub(super) fn in_turns<S>(
    rounds: usize,
    settings: Vec<S>,
    name: impl Fn(&S) -> String,
    mut measure: impl FnMut(&S, usize) -> Result<()>,
) -> Result<()> {
    let mut field = settings;
    for round in 1..=rounds {
        let mut still = Vec::new();
        for setting in field {
            check_interrupt()?;
            match measure(&setting, round) {
                Ok(()) => still.push(setting),
                Err(error) if still.is_empty() => {
                    return Err(error).with_context(|| format!("{}, round {round}", name(&setting)));
                }
                Err(error) => {
                    check_interrupt()?;
                    eprintln!("{}: left out from round {round} on: {error:#}", name(&setting));
                }
            }
        }
        field = still;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn settings_take_turns_and_one_that_fails_is_left_out() {
        let mut seen = Vec::new();
        in_turns(
            3,
            vec!["a", "b", "c"],
            |name| (*name).to_owned(),
            |name, round| {
                seen.push((*name, round));
                match (*name, round) {
                    ("b", 2) => bail!("not on this kernel"),
                    _ => Ok(()),
                }
            },
        )
        .unwrap();
        assert_eq!(seen, [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2), ("c", 2), ("a", 3), ("c", 3)]);
    }

    #[test]
    fn nothing_is_measured_without_the_default() {
        let measured = in_turns(3, vec!["a", "b"], |name| (*name).to_owned(), |_, _| bail!("no path"));
        assert_eq!(format!("{:#}", measured.unwrap_err()), "a, round 1: no path");
    }
}
