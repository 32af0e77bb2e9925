//! Ports of the host's loopback address: free ones, taken ones, and QEMU's complaint about one.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use super::GuestError;
use super::spec::{Forward, Protocol};

/// Fails when somebody listens on one of the forwards' fixed ports, or we may not. Another program may still come
/// between this look and QEMU's start; then QEMU's own refusal becomes the first of these errors.
///
/// # Errors
/// [`GuestError::PortInUse`] and [`GuestError::PortForbidden`], naming the port.
pub fn check_ports(forwards: &[Forward]) -> Result<(), GuestError> {
    for &Forward { host, protocol, .. } in forwards {
        let Some(port) = host else { continue };
        match bind(protocol, port).map_err(|error| error.kind()) {
            Err(io::ErrorKind::AddrInUse) => return Err(GuestError::PortInUse { protocol, port }),
            Err(io::ErrorKind::PermissionDenied) => return Err(GuestError::PortForbidden { protocol, port }),
            // Anything else is for QEMU to say.
            _ => {}
        }
    }
    Ok(())
}

/// The forwards, each with a host port: its own, or one that is free now and that no other of them has.
///
/// # Errors
/// When there is no free port.
pub fn choose(forwards: &[Forward]) -> io::Result<Vec<Forward>> {
    let mut chosen: Vec<Forward> = Vec::new();
    for forward in forwards {
        let mut port = forward.host;
        while port.is_none() {
            port = Some(bind(forward.protocol, 0)?).filter(|free| {
                let all = forwards.iter().chain(&chosen);
                !all.clone().any(|other| other.host == Some(*free))
            });
        }
        chosen.push(Forward { host: port, ..*forward });
    }
    Ok(chosen)
}

fn bind(protocol: Protocol, port: u16) -> io::Result<u16> {
    let address = (Ipv4Addr::LOCALHOST, port);
    match protocol {
        Protocol::Tcp => TcpListener::bind(address)?.local_addr(),
        Protocol::Udp => UdpSocket::bind(address)?.local_addr(),
    }
    .map(|address| address.port())
}

/// Whether QEMU says that it could not make a forward: somebody has its port.
pub fn is_refused(output: &str) -> bool {
    refused(output).is_some()
}

/// The forward that QEMU could not make, from what it printed:
/// `Could not set up host forwarding rule 'tcp:127.0.0.1:8080-:80'`.
pub(super) fn refused(output: &str) -> Option<(Protocol, u16)> {
    let (_, rule) = output.split_once("host forwarding rule '")?;
    let (rule, _) = rule.split_once('\'')?;
    let (protocol, address) = rule.split_once(':')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let (address, _) = address.split_once('-')?;
    Some((protocol, address.rsplit(':').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_qemus_complaint() {
        for (output, expected) in [
            (
                "qemu-system-x86_64: -netdev user,id=net0: Could not set up host forwarding rule 'tcp:127.0.0.1:8080-:80'\n",
                Some((Protocol::Tcp, 8080)),
            ),
            ("Could not set up host forwarding rule 'udp:127.0.0.1:53-:53'", Some((Protocol::Udp, 53))),
            ("Could not set up host forwarding rule 'tcp:127.0.0.1:99999-:80'", None),
            ("Could not set up host forwarding rule 'tcp", None),
            ("no such file", None),
        ] {
            assert_eq!(refused(output), expected, "{output}");
        }
    }

    #[test]
    fn a_port_for_root_is_told_apart() {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
        let forward = Forward { host: Some(1), ..Forward::SSH };
        // Capabilities are a thread's own.
        let ordinary = std::thread::spawn(move || {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::NET_BIND_SERVICE);
            set_capabilities(None, sets).unwrap();
            check_ports(&[forward])
        });
        let refused = ordinary.join().unwrap();
        let forbidden = matches!(refused, Err(GuestError::PortForbidden { port: 1, .. }));
        assert_eq!(forbidden, first.trim().parse::<u16>().unwrap() > 1, "{refused:?}");
    }

    #[test]
    fn a_taken_port_is_named_and_free_ones_differ() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let fixed = Forward { host: Some(port), ..Forward::SSH };
        let error = check_ports(&[Forward::SSH, fixed]).unwrap_err();
        assert!(error.to_string().starts_with(&format!("tcp port {port} of 127.0.0.1 is in use")), "{error}");
        check_ports(&[Forward { protocol: Protocol::Udp, ..fixed }]).unwrap();
        drop(taken);
        check_ports(&[fixed]).unwrap();

        let chosen = choose(&[Forward::SSH, fixed, Forward::SSH]).unwrap();
        let mut ports: Vec<_> = chosen.iter().map(|forward| forward.host.unwrap()).collect();
        assert_eq!(ports[1], port);
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 3);
    }
}
