//! Compiles the XDP programs with clang into objects that the loader embeds.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const PROGRAMS: [&str; 2] = ["plain", "cipher"];
const HEADERS: [&str; 4] = ["src/bpf.h", "src/clear.h", "src/headers.h", "src/steer.h"];

fn main() {
    println!("cargo::rerun-if-env-changed=CLANG");
    for header in HEADERS {
        println!("cargo::rerun-if-changed={header}");
    }
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for program in PROGRAMS {
        let source = format!("src/{program}.bpf.c");
        println!("cargo::rerun-if-changed={source}");
        if let Err(reason) = compile(&clang, &source, &out.join(format!("{program}.bpf.o"))) {
            println!("cargo::error={reason}");
            exit(1);
        }
    }
}

fn compile(clang: &str, source: &str, object: &Path) -> Result<(), String> {
    // Instruction set v3 (kernel 5.1) is what newer compilers default to: the same code whatever the host's clang.
    let run = Command::new(clang)
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror", "-c", source, "-o"])
        .arg(object)
        .output();
    match run {
        Err(error) => Err(format!(
            "cannot run `{clang}` to compile {source} ({error}): apt-get install clang, or set CLANG"
        )),
        Ok(run) if !run.status.success() => Err(format!(
            "`{clang}` refused {source}: {}",
            String::from_utf8_lossy(&run.stderr).replace('\n', " | ")
        )),
        Ok(_) => Ok(()),
    }
}
