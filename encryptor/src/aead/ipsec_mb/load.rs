//! Finds the library and takes the functions of this processor's variant from it.

use std::ffi::CStr;
use std::sync::OnceLock;

use super::{Crypt, Expand, Functions, Library};

/// The distribution's package.
const PACKAGE: &str = "libipsec-mb1";

const FILE: &str = "libIPSec_MB.so.1";

/// Major and minor version whose header was read.
const VERSION: (u32, u32) = (1, 3);

/// Why ipsec-mb cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not there, or not fit.
    #[error("{FILE} cannot be loaded ({0}): `apt-get install {PACKAGE}`")]
    NotFound(String),
    /// Its functions are not the ones that were read.
    #[error("{FILE} is version {0}, and only {major}.{minor} was checked with qhaul: install that one", major = VERSION.0, minor = VERSION.1)]
    Version(String),
    /// It has no variant for this processor.
    #[error("this processor has neither AVX2 nor AVX-512 beside AES instructions, which {FILE} is used with")]
    Processor,
    /// A function is missing.
    #[error("{FILE} has no function {0}: install the distribution's {PACKAGE}")]
    Function(String),
}

/// The library, loaded once in a process and never unloaded.
pub(crate) fn load() -> Result<Library, LoadError> {
    static LOADED: OnceLock<Result<Library, LoadError>> = OnceLock::new();
    LOADED.get_or_init(find).clone()
}

/// Whether the variant for VAES and AVX-512 can run here: the one that is faster than `ring` at every size.
pub(crate) fn has_vaes_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("gfni")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("avx2")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn find() -> Result<Library, LoadError> {
    let variant = match (has_vaes_avx512(), has_avx2()) {
        (true, _) => "vaes_avx512",
        (false, true) => "avx_gen4",
        (false, false) => return Err(LoadError::Processor),
    };
    // SAFETY: loading runs the library's initialisers. It is the distribution's, named as the dynamic linker would name it
    // for a program that links it, and has none but its compiler's own.
    let file = unsafe { libloading::Library::new(FILE) };
    // Never unloaded: its functions are called for as long as the process lives.
    let file: &'static libloading::Library =
        Box::leak(Box::new(file.map_err(|error| LoadError::NotFound(error.to_string()))?));
    let version = version(file)?;
    let name = |what: &str| format!("aes_gcm_{what}_256_{variant}\0");
    let functions = Functions {
        variant,
        version,
        // SAFETY: the version was checked, and in it the function of this name is an `aes_gcm_pre_t`.
        expand: *unsafe { function::<Expand>(file, &name("pre")) }?,
        // SAFETY: likewise an `aes_gcm_enc_dec_t`.
        seal: *unsafe { function::<Crypt>(file, &name("enc")) }?,
        // SAFETY: likewise an `aes_gcm_enc_dec_t`.
        open: *unsafe { function::<Crypt>(file, &name("dec")) }?,
    };
    Ok(Library(Box::leak(Box::new(functions))))
}

fn version(file: &'static libloading::Library) -> Result<String, LoadError> {
    // SAFETY: `unsigned imb_get_version(void)` in every version since 0.50, the first to have it.
    let get = unsafe { function::<unsafe extern "C" fn() -> u32>(file, "imb_get_version\0") }?;
    // SAFETY: it takes nothing and returns a number: (major << 16) | (minor << 8) | patch.
    let packed = unsafe { get() };
    let version = (packed >> 16, packed >> 8 & 0xff);
    let text = format!("{}.{}.{}", version.0, version.1, packed & 0xff);
    if version == VERSION { Ok(text) } else { Err(LoadError::Version(text)) }
}

/// The function of this name, which ends with a zero.
///
/// # Safety
///
/// `T` is the function's type.
unsafe fn function<T>(
    file: &'static libloading::Library,
    name: &str,
) -> Result<libloading::Symbol<'static, T>, LoadError> {
    debug_assert!(CStr::from_bytes_with_nul(name.as_bytes()).is_ok());
    // SAFETY: the caller vouches for the type.
    unsafe { file.get(name.as_bytes()) }
        .map_err(|_| LoadError::Function(name.trim_end_matches('\0').to_string()))
}
