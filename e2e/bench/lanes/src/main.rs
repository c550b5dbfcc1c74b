//! `carrick-lanes`: two lanes on two cores against one on one, in memory.

fn main() -> anyhow::Result<()> {
    carrick_lanes::command::run()
}
