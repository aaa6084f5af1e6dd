//! Which engine works: what the configuration asks for, if it is there and proves right.

use serde::Deserialize;

use super::ipsec_mb::{self, LoadError, has_vaes_avx512};
use super::{Engine, trial};

/// What the configuration asks for (`worker.engine`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// ipsec-mb where it is installed, proves right and is faster at every size, else `ring`.
    #[default]
    Auto,
    /// `ring`.
    Ring,
    /// ipsec-mb, or nothing.
    IpsecMb,
}

/// The engine at work, and why it is.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The engine.
    pub engine: Engine,
    /// One line for the log.
    pub line: String,
}

/// Why an engine is refused: this host must not encrypt with it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EngineError {
    /// It is not there, or not fit.
    #[error("engine ipsec-mb: {0}, or set worker.engine = \"ring\"")]
    Unavailable(#[from] LoadError),
    /// It gives a wrong answer.
    #[error("engine {0} failed its known-answer test: this host must not encrypt with it")]
    WrongAnswer(&'static str),
    /// It gives other bytes than `ring`.
    #[error("engine {name} and ring differ at {length} bytes of text: this host must not encrypt with it")]
    Differs {
        /// The engine.
        name: &'static str,
        /// Where.
        length: usize,
    },
}

/// Takes the engine into use that is asked for. Each is tried before it is; with `ring` asked for, nothing is loaded.
pub fn choose(choice: Choice) -> Result<Chosen, EngineError> {
    let ring = |why: String| {
        prove(Engine::Ring)?;
        Ok(Chosen { engine: Engine::Ring, line: format!("engine ring{why}") })
    };
    match choice {
        Choice::Ring => ring(String::new()),
        Choice::IpsecMb => try_ipsec_mb(),
        // On an AMD EPYC without AVX-512, ipsec-mb 1.3 was faster at 64 bytes and slower at 1,400 (docs/performance.md).
        Choice::Auto if !has_vaes_avx512() => {
            ring(": without VAES on AVX-512 ipsec-mb is not faster at every size".into())
        }
        Choice::Auto => try_ipsec_mb().or_else(|error| ring(format!(" ({error})"))),
    }
}

fn try_ipsec_mb() -> Result<Chosen, EngineError> {
    let library = ipsec_mb::load()?;
    let engine = Engine::IpsecMb(library);
    prove(Engine::Ring)?;
    prove(engine)?;
    match trial::differs_from_ring(engine) {
        Some(length) => Err(EngineError::Differs { name: engine.name(), length }),
        None => Ok(Chosen { engine, line: format!("engine ipsec-mb ({})", library.describe()) }),
    }
}

fn prove(engine: Engine) -> Result<(), EngineError> {
    match trial::known_answer(engine) {
        true => Ok(()),
        false => Err(EngineError::WrongAnswer(engine.name())),
    }
}
