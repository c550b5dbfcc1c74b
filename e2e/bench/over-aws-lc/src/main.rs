//! `carrick-lanes` as it is, but over aws-lc-rs instead of ring.

fn main() -> anyhow::Result<()> {
    carrick_lanes::command::run()
}
