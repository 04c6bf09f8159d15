//! Free ports that stay free while nobody listens on them.

use std::{fs, net::TcpListener};

/// Where ports are looked for, if systems do not begin earlier to give them to outgoing connections.
const FIRST: u16 = 15_000;
const END: u16 = 32_000;

/// Returns ports of this machine that nobody listens on, all different.
///
/// They are none that the system would give to an outgoing connection: on such a port, a client
/// that dials a server that is down may at last be connected to itself, and the server cannot come
/// back.
///
/// # Panics
///
/// Panics where there are none.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let end = first_given_out().filter(|given| *given > FIRST).map_or(END, |given| given.min(END));
    let listener = || TcpListener::bind(("127.0.0.1", fastrand::u16(FIRST..end))).ok();
    let found: [TcpListener; COUNT] = std::array::from_fn(|_| {
        (0..1000).find_map(|_| listener()).expect("one of a thousand ports is free")
    });
    found.map(|listener| listener.local_addr().expect("it listens").port())
}

fn first_given_out() -> Option<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}
