//! Another file while traffic flows: looked at, shown, put in force between two bursts, or refused. Links come and go by it, and the
//! policies of those that stay change; no link feels what another goes through.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use super::RunError;
use super::part::LinkPart;
use super::site::Site;
use crate::config::{Config, LinkConfig};
use crate::policy::{Difference, Policy};
use crate::status::Reload;
use crate::worker::{Command, LinkWork};

/// A link that comes, and what each worker has to do for it.
type Newcomer = (LinkPart, Vec<LinkWork>);

impl Site {
    /// Reloads the file that this process was started with. Only what ends the process is an error.
    pub(super) fn reload_own_file(&mut self) -> Result<(), RunError> {
        let file: PathBuf = self.config.file.clone();
        self.reload(&file).map(drop)
    }

    /// Puts links and policies of a file in force. Whatever hinders it, all stays as it is.
    pub(super) fn reload(&mut self, file: &Path) -> Result<Reload, RunError> {
        let (new, newcomers) = match self.prepare(file) {
            Ok(prepared) => prepared,
            Err(refusal) => {
                warn!("reload refused, links and policy stay as they are: {refusal}");
                return Ok(Reload { refusal: Some(refusal), ..Reload::default() });
            }
        };
        let reload = self.difference(&new);
        self.put_in_force(&new, newcomers)?;
        info!("reload of {}: {}", file.display(), reload.summary());
        reload.lines().for_each(|line| info!("reload: {line}"));
        reload.warnings.iter().for_each(|line| warn!("{line}"));
        for part in &mut self.links {
            part.pieces.witness.policy(&reload.summary());
        }
        Ok(reload)
    }

    /// Everything that can go wrong, and nothing that anybody would notice if it does.
    fn prepare(&mut self, file: &Path) -> Result<(Config, Vec<Newcomer>), String> {
        let mut new = Config::load(file).map_err(|error| error.to_string())?;
        if !new.links.iter().any(|link| self.config.link(&link.name).is_some()) {
            let names = |config: &Config| {
                let names: Vec<String> =
                    config.links.iter().map(|link| format!("\"{}\"", link.name)).collect();
                names.join(", ")
            };
            return Err(format!(
                "{} is the file of link {}, and this is {}",
                file.display(),
                names(&new),
                names(&self.config)
            ));
        }
        for link in &mut new.links {
            // The address in use counts, not one that waits for a restart.
            link.policy = Policy::new(link.policy.rules().to_vec(), Some(self.config.own));
        }
        let newcomers = self.make_newcomers(&new)?;
        let coming: Vec<LinkConfig> = newcomers.iter().map(|(part, _)| part.pieces.config.clone()).collect();
        self.listen(&coming).map_err(|error| error.to_string())?;
        let programs = &self.plane.programs;
        if let Err(error) = programs.set_policy(&new.links[0].policy) {
            return Err(match programs.set_policy(&self.config.links[0].policy) {
                Ok(()) => error.to_string(),
                Err(_) => format!("{error}; until the next reload nothing crosses in clear"),
            });
        }
        Ok((new, newcomers))
    }

    fn make_newcomers(&mut self, new: &Config) -> Result<Vec<Newcomer>, String> {
        let coming: Vec<&LinkConfig> =
            new.links.iter().filter(|link| self.config.link(&link.name).is_none()).collect();
        let waiting = self.config.changed_settings(new);
        if let (Some(link), false) = (coming.first(), waiting.is_empty()) {
            return Err(format!(
                "link \"{}\" cannot be added while settings of the whole site wait for a restart: {}; restart, or put these back first",
                link.name,
                waiting.join(", ")
            ));
        }
        let mut newcomers: Vec<Newcomer> = Vec::new();
        for link in coming {
            self.check_free(new, link)?;
            let taken: Vec<_> = newcomers.iter().map(|(part, _)| part.pieces.number).collect();
            let number = self.free_number(&taken).ok_or("there are as many links as there can be")?;
            let made = self.maker.make(new, link, number, self.plain_side.as_ref());
            newcomers.push(made.map_err(|error| format!("link \"{}\": {error}", link.name))?);
        }
        Ok(newcomers)
    }

    /// A link that stays keeps its peer until a restart, whatever the file says of it now.
    fn check_free(&self, new: &Config, link: &LinkConfig) -> Result<(), String> {
        let stays = self.config.links.iter().filter(|other| new.link(&other.name).is_some());
        let clash = stays
            .into_iter()
            .find(|other| other.ends.peer() == link.ends.peer() || other.peer_sae == link.peer_sae);
        match clash {
            Some(other) => Err(format!(
                "link \"{}\" has the address or the sae that link \"{}\" has until a restart: take \"{}\" out and reload first",
                link.name, other.name, other.name
            )),
            None => Ok(()),
        }
    }

    fn difference(&self, new: &Config) -> Reload {
        let mut reload = Reload {
            restart: self.config.changed_settings(new),
            warnings: new.policy_warnings(),
            ..Reload::default()
        };
        let several = self.config.links.len() > 1 || new.links.len() > 1;
        for link in &new.links {
            let Some(old) = self.config.link(&link.name) else {
                reload.added.push(link.name.clone());
                continue;
            };
            let about = if several { format!("{}: ", link.name) } else { String::new() };
            reload.difference.extend(Difference::between(&old.policy, &link.policy), &about);
            let changed = old.changed_settings(link).into_iter();
            reload.restart.extend(changed.map(|setting| format!("{setting} of link {}", link.name)));
        }
        let gone = self.config.links.iter().filter(|link| new.link(&link.name).is_none());
        reload.removed = gone.map(|link| link.name.clone()).collect();
        let stay = |config: &Config, other: &Config| -> Vec<String> {
            let stay = config.links.iter().filter(|link| other.link(&link.name).is_some());
            stay.map(|link| link.name.clone()).collect()
        };
        if stay(&self.config, new) != stay(new, &self.config) {
            reload.order = new.links.iter().map(|link| link.name.clone()).collect();
        }
        reload
    }

    fn put_in_force(&mut self, new: &Config, newcomers: Vec<Newcomer>) -> Result<(), RunError> {
        let place = |name: &str| new.links.iter().position(|link| link.name == name);
        let gone = self.config.links.iter().filter(|link| place(&link.name).is_none());
        let gone: Vec<String> = gone.map(|link| link.name.clone()).collect();
        // First those that go: one that comes may have the address of one of them.
        gone.iter().try_for_each(|name| self.remove(name))?;
        for (part, work) in newcomers {
            self.plane.programs.add_peer(part.pieces.number, &part.pieces.config)?;
            self.plane.crew.tell_each(work.into_iter().map(Command::AddLink));
            self.config.links.push(part.pieces.config.clone());
            self.links.push(part);
        }
        for (link, part) in self.config.links.iter_mut().zip(&mut self.links) {
            if let Some(newer) = new.link(&link.name) {
                link.policy = newer.policy.clone();
                part.pieces.config.policy = newer.policy.clone();
            }
        }
        self.config.links.sort_by_key(|link| place(&link.name));
        self.links.sort_by_key(|part| place(&part.pieces.config.name));
        let policy = |part: &LinkPart| (part.pieces.number, Arc::new(part.pieces.config.policy.clone()));
        let policies: Vec<_> = self.links.iter().map(policy).collect();
        self.plane.crew.tell_all(|| Command::SetPolicies(policies.clone()));
        Ok(())
    }
}
