//! The switches of offloads on the command line of a gateway in Kubernetes.

use clap::ArgAction::Set;

use crate::dataplane::Offloads;

/// What may be left to the kernel, where it has it.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct OffloadOptions {
    /// TCP streams cross the device uncut.
    #[arg(long, env = "CARRICK_OFFLOAD_DEVICE_TCP", default_value_t = true, action = Set)]
    offload_device_tcp: bool,
    /// UDP trains cross the device uncut.
    #[arg(long, env = "CARRICK_OFFLOAD_DEVICE_UDP", default_value_t = true, action = Set)]
    offload_device_udp: bool,
    /// The kernel cuts what a lane sends.
    #[arg(long, env = "CARRICK_OFFLOAD_SOCKET_SEND", default_value_t = true, action = Set)]
    offload_socket_send: bool,
    /// The kernel merges what a lane receives.
    #[arg(long, env = "CARRICK_OFFLOAD_SOCKET_RECEIVE", default_value_t = true, action = Set)]
    offload_socket_receive: bool,
}

impl From<OffloadOptions> for Offloads {
    fn from(options: OffloadOptions) -> Self {
        Self {
            device_tcp: options.offload_device_tcp,
            device_udp: options.offload_device_udp,
            socket_send: options.offload_socket_send,
            socket_receive: options.offload_socket_receive,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        offloads: OffloadOptions,
    }

    #[test]
    fn each_switch_turns_off_its_own_offload() {
        let parsed = |arguments: &[&str]| -> Offloads {
            let arguments = ["gateway"].iter().chain(arguments);
            Cli::try_parse_from(arguments).expect("good arguments").offloads.into()
        };
        assert_eq!(parsed(&[]), Offloads::default());
        for (name, _) in Offloads::default().iter() {
            let switch = format!("--offload-{}=false", name.replace('_', "-"));
            let off: Vec<&str> =
                parsed(&[&switch]).iter().iter().filter(|o| !o.1).map(|o| o.0).collect();
            assert_eq!(off, [name]);
        }
    }
}
