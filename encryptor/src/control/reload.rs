//! Another policy while traffic flows: looked at, shown, put in force between two bursts, or refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use super::site::Site;
use crate::config::Config;
use crate::policy::{Difference, Policy};
use crate::status::Reload;
use crate::worker::Command;

impl Site {
    /// Reloads the file that this process was started with.
    pub(super) fn reload_own_file(&mut self) {
        let file: PathBuf = self.parts.config.file.clone();
        self.reload(&file);
    }

    /// Puts the policy of a file in force. Whatever hinders it, the old one stays.
    pub(super) fn reload(&mut self, file: &Path) -> Reload {
        match self.try_reload(file) {
            Ok(reload) => {
                info!("reload of {}: {}", file.display(), reload.summary());
                reload.difference.lines().for_each(|line| info!("policy: {line}"));
                reload.warnings.iter().for_each(|line| warn!("{line}"));
                self.parts.witness.policy(&reload.summary());
                reload
            }
            Err(refusal) => {
                warn!("reload refused, the policy stays as it is: {refusal}");
                Reload { refusal: Some(refusal), ..Reload::default() }
            }
        }
    }

    fn try_reload(&mut self, file: &Path) -> Result<Reload, String> {
        let parts = &mut self.parts;
        let new = Config::load(file).map_err(|error| error.to_string())?;
        if new.link != parts.config.link {
            return Err(format!(
                "{} is the file of link \"{}\", and this is \"{}\"",
                file.display(),
                new.link,
                parts.config.link
            ));
        }
        // The address in use counts, not one that waits for a restart.
        let policy = Policy::new(new.policy.rules().to_vec(), Some(parts.config.ends.own()));
        let reload = Reload {
            difference: Difference::between(&parts.config.policy, &policy),
            restart: parts.config.changed_settings(&new),
            warnings: policy.warnings(),
            refusal: None,
        };
        if let Err(error) = parts.programs.set_policy(&policy) {
            return Err(match parts.programs.set_policy(&parts.config.policy) {
                Ok(()) => error.to_string(),
                Err(_) => format!("{error}; until the next reload nothing crosses in clear"),
            });
        }
        parts.config.policy = policy.clone();
        let policy = Arc::new(policy);
        parts.crew.tell_all(|| Command::SetPolicy(policy.clone()));
        Ok(reload)
    }
}
