use socket2::{Domain, Socket, Type};

pub(crate) const DROP: u32 = 1;
pub(crate) const PASS: u32 = 2;
pub(crate) const REDIRECT: u32 = 4;

/// These tests load programs into the kernel. Without root they fail rather than skip.
pub(crate) fn need_root() {
    assert!(nix::unistd::geteuid().is_root(), "this test loads XDP programs: run it as root");
}

/// An AF_XDP socket that is bound to nothing: enough for the program's table.
pub(crate) fn unbound_socket() -> Socket {
    const AF_XDP: i32 = 44;
    Socket::new(Domain::from(AF_XDP), Type::RAW, None).expect("an AF_XDP socket")
}
